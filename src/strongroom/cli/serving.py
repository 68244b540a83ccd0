"""``strongroom serving``: accounts, API keys and terms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import click
from msgspec import to_builtins

from strongroom.cli.frame import Call, Group, Json, common, moment, read_secret, readable, table
from strongroom.cli.ledger import write_new
from strongroom.cli.serving_limits import changed, limit_words, limited, needs_some, org, reading, total
from strongroom.cli.serving_policy import policy
from strongroom.cli.serving_recall import recall
from strongroom.cli.serving_usage import exposure_words, usage
from strongroom.core.errors import BadInput, TamperError
from strongroom.serving.accounts import Account, Accounts
from strongroom.serving.books import day_of
from strongroom.serving.disclosure.tiers import FIRST, TIERS
from strongroom.serving.quotas import NONE, Limits
from strongroom.serving.report import AccountReport, report
from strongroom.serving.spool import Tally
from strongroom.wiring.applied import running
from strongroom.wiring.exposure import exposed, look_back
from strongroom.wiring.prove import missing, prove
from strongroom.wiring.serving import serving_of
from strongroom.wiring.up import answers

serving = Group("serving", help="Who may ask the model what, and how much of it.")
account = Group("account", help="Customers and their limits.")
key = Group("key", help="API keys: shown once, kept as a hash, revoked at once.")
terms = Group("terms", help="Terms of use by version: a key is let in once it has accepted those in force.")
for group in (account, key, org, policy, recall, total, terms):
    serving.add_command(group)
serving.add_command(usage)

_tier = click.option(
    "--tier",
    type=click.Choice(list(TIERS)),
    help=f"What it may learn beside the text. At first {FIRST}.",
)
_org = click.option("--org", "org_name", metavar="NAME", help="The organisation whose limits it shares; '' for none.")


@account.command("add", epilog="Example: strongroom serving account add acme --rpm 120 --tokens-per-day 500000")
@click.argument("name")
@_tier
@_org
@common
@limited
def account_add(call: Call, limits: Limits, name: str, *, tier: str | None, org_name: str | None) -> None:
    """Make an account NAME."""
    who, rooms = call.identity(), serving_of(call.home)
    if org_name:
        rooms.organisations.find(org_name)
    made = rooms.accounts.add(who, name, limits=limits, tier=tier or FIRST, org=org_name or "")
    changed(call, {"account": to_builtins(made)}, f"{name} is made: {_limits(made)}.")


@account.command("show", epilog="Example: strongroom serving account show acme")
@click.argument("name")
@common
def account_show(call: Call, name: str) -> None:
    """Show NAME's limits, its keys, what it used of today, and how far the weights are exposed to it."""
    rooms = reading(call)
    shown = report(rooms.accounts, rooms.books, name, day=day_of(call.home.clock.now()))
    found = look_back(rooms)
    seen, today = exposed(rooms, found, name), found.today.get(name, Tally())
    document: dict[str, Json] = to_builtins(shown)
    repeats: dict[str, Json] = {"incidents_today": today.incidents, "near_today": today.near}
    words = f"{_account_words(shown)}\n  exposure: {exposure_words(seen)}"
    if today.incidents or today.near:
        words += f"\n  training text: today {today.incidents} answers repeated it, {today.near} came near"
    call.emit({"account": {**document, "exposure": to_builtins(seen), "recall": repeats}}, words)


@account.command("ls", epilog="Example: strongroom serving account ls")
@common
def account_ls(call: Call) -> None:
    """List the accounts."""
    accounts = reading(call).accounts
    found: list[Json] = [_row(accounts, name) for name in accounts.names()]
    rows = [list(one.values()) for one in found if isinstance(one, Mapping)]
    shown = table("name", "status", "requests a minute", "tokens a day", "since", rows=rows)
    call.emit({"accounts": found}, lambda out: out.print(shown))


def _row(accounts: Accounts, name: str) -> dict[str, Json]:
    """Return an account for the list; one whose record was altered is listed as such."""
    try:
        one = accounts.find(name)
    except TamperError as error:
        return {"name": name, "status": error.code, "rpm": 0, "tokens_per_day": 0, "created": ""}
    return {
        "name": one.name,
        "status": one.status,
        "rpm": one.rpm,
        "tokens_per_day": one.tokens_per_day,
        "created": one.created,
    }


@account.command("limit", epilog="Example: strongroom serving account limit acme --rpm 10")
@click.argument("name")
@_tier
@_org
@common
@limited
def account_limit(call: Call, limits: Limits, name: str, *, tier: str | None, org_name: str | None) -> None:
    """Change NAME's limits, tier or organisation; what is not given stays, and 0 takes a limit away.

    A running gateway holds NAME to them at once.
    """
    who, rooms = call.identity(), serving_of(call.home)
    if limits == NONE and tier is None and org_name is None:
        where = "serving account limit"
        raise BadInput("nothing to change: give a limit (--rpm, --tokens-per-day …), --tier or --org", where=where)
    if org_name:
        rooms.organisations.find(org_name)
    new = rooms.accounts.change(who, name, limits=limits, tier=tier, org=org_name)
    changed(call, {"account": to_builtins(new)}, f"{name}: {_limits(new)}.")


@account.command("close", epilog="Example: strongroom serving account close acme")
@click.argument("name")
@common
def account_close(call: Call, name: str) -> None:
    """Close NAME for good: none of its keys is let in any more, and its streams are cut."""
    who = call.identity()
    closed = serving_of(call.home).accounts.close(who, name)
    changed(call, {"account": to_builtins(closed)}, f"{name} is closed.")


@key.command("add", epilog="Example: strongroom serving key add acme")
@click.argument("account_name", metavar="ACCOUNT")
@common
@limited
def key_add(call: Call, limits: Limits, account_name: str) -> None:
    """Make a key for ACCOUNT, with limits of its own if any are given. It is printed this once and kept nowhere."""
    who = call.identity()
    made, shown = serving_of(call.home).accounts.add_key(who, account_name, limits=limits)
    text = shown.reveal().decode()
    document: dict[str, Json] = {"id": made.id, "account": made.account, "api_key": text}
    changed(call, document, f"Key {made.id} of {account_name}, printed this once:\n  {text}")


@key.command("limit", epilog="Example: strongroom serving key limit 5f0c9e1d2b3a4c5d --rpm 5")
@click.argument("ident", metavar="ID")
@common
@limited
def key_limit(call: Call, limits: Limits, ident: str) -> None:
    """Change the limits of the key ID; what is not given stays, and 0 takes a limit away."""
    who = call.identity()
    needs_some(limits, "serving key limit")
    new = serving_of(call.home).accounts.limit_key(who, ident, limits)
    document: dict[str, Json] = {"id": new.id, "account": new.account, "limits": to_builtins(new.limits)}
    changed(call, document, f"Key {ident}: {limit_words(new.limits)}.")


@key.command("revoke", epilog="Example: strongroom serving key revoke 5f0c9e1d2b3a4c5d")
@click.argument("ident", metavar="ID")
@common
def key_revoke(call: Call, ident: str) -> None:
    """Revoke the key ID for good; streams that it opened are cut."""
    who = call.identity()
    gone = serving_of(call.home).accounts.revoke_key(who, ident)
    changed(call, {"id": gone.id, "account": gone.account, "status": gone.status}, f"Key {ident} is revoked.")


@terms.command("publish", epilog="Example: strongroom serving terms publish terms-2026-11.md")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common
def terms_publish(call: Call, file: Path) -> None:
    """Put the text in FILE in force: from now on a key is let in once it has accepted it."""
    who = call.identity()
    made = serving_of(call.home).accounts.publish(who, _text(file))
    document: dict[str, Json] = {"version": made.version, "digest": made.digest, "published": made.published}
    changed(call, document, f"Version {made.version} of the terms is in force ({made.digest[:16]}…).")


@terms.command("show", epilog="Example: strongroom serving terms show")
@common
def terms_show(call: Call) -> None:
    """Show the terms in force."""
    current = reading(call).accounts.terms()
    words = f"Version {current.version}\n\n{readable(current.text)}"
    call.emit({**to_builtins(current), "digest": current.digest}, words)


@terms.command("accept", epilog="Example: strongroom serving terms accept --key-file acme.key")
@click.option("--key-file", required=True, metavar="FILE", help="A file with the API key; '-' is standard input.")
@common
def terms_accept(call: Call, *, key_file: str) -> None:
    """Accept the terms in force for the API key in FILE: its holder does so, and the ledger says when and which."""
    accounts = serving_of(call.home).accounts
    shown = read_secret(key_file, "API key", "--key-file")
    ident, current = accounts.recognise(shown), accounts.terms()
    accounts.accept(ident, current, by=f"account:{ident.account}")
    document: dict[str, Json] = {"id": ident.id, "account": ident.account, "version": current.version}
    changed(call, document | {"digest": current.digest}, f"Key {ident.id} has accepted version {current.version}.")


@terms.command("proof", epilog="Example: strongroom serving terms proof 5f0c9e1d2b3a4c5d --out acme.proof")
@click.argument("ident", metavar="KEYID")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where the proof goes; it must not exist.")
@common
def terms_proof(call: Call, ident: str, *, out: Path | None) -> None:
    """Prove which terms were accepted last with the key KEYID, when and by whom, to somebody without the home.

    They check the proof with `ledger check`.
    """
    accounts = reading(call).accounts
    entry, bundle = accounts.acceptance(accounts.key(ident))
    proof = bundle.decode()
    if out is not None:
        write_new(out, proof)
    event = entry.event
    document: dict[str, Json] = {
        "key": ident,
        "account": accounts.key(ident).account,
        "terms": str(event.detail.get("terms")),
        "version": event.detail.get("version"),
        "at": event.at,
        "by": event.who,
        "index": entry.index,
        "proof": proof,
        "vkey": call.home.ledger.vkey,
    }
    place = f" The proof is in {out}." if out else ""
    words = f"Version {event.detail.get('version')} was accepted {moment(event.at)} by {event.who}.{place}"
    call.emit(document, f"{words} The verifier key is\n{call.home.ledger.vkey}")


@serving.command("status", epilog="Example: strongroom serving status")
@common
def status(call: Call) -> None:
    """Say whether this home is being served, where, and by which processes."""
    reading(call)
    now = running(call.home_path)
    if now is None:
        call.emit({"running": None}, "Nothing is served from this home. `strongroom up` does.")
    else:
        answering = answers(now)
        state = "answers" if answering else "DOES NOT ANSWER NOW" if now.state == "ready" else "is starting"
        words = f"{now.url} {state}; since {moment(now.since)}, {', '.join(now.models)}, process {now.pid}"
        call.emit({"running": {**to_builtins(now), "answering": answering}}, words)


@serving.command("prove-limits", epilog="Example: strongroom serving prove-limits")
@common
def prove_limits(call: Call) -> int:
    """Drive every limit, route and field rule of this home at a gateway of its own; nobody is charged.

    Ends with exit status 1 if one does not bite.
    """
    rooms = reading(call)
    roster = rooms.roster(0, ())
    found = [*asyncio.run(prove(roster)), *missing(roster, rooms.configured())]
    inert = [one for one in found if not one.bites]
    words = "\n".join(f"DOES NOT BITE: {one.name} ({one.why})" for one in inert)
    bite = len(found) - len(inert)
    call.emit({"limits": [to_builtins(one) for one in found]}, f"{words}\n{bite} of {len(found)} bite.".lstrip())
    return 1 if inert else 0


def _limits(one: Account) -> str:
    return f"{limit_words(one.limits)}, tier {one.tier}{f', of {one.org}' if one.org else ''}"


def _account_words(shown: AccountReport) -> str:
    lines = [
        f"{shown.name}: {shown.status}, tier {shown.tier}, made {moment(shown.created)}",
        f"  {limit_words(shown.limits)}{f'; of {shown.org}' if shown.org else ''}",
        f"  {shown.tokens_today:,} of today's tokens are used or lent to a gateway",
    ]
    for one in shown.keys:
        accepted = {True: "terms accepted", False: "terms NOT accepted", None: "no terms in force"}[one.terms_accepted]
        lines.append(f"  key {one.id}: {one.status}, made {moment(one.created)}, {accepted}; {limit_words(one.limits)}")
    return "\n".join(lines)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"can't be read as text ({type(error).__name__})", where=str(file)) from None
