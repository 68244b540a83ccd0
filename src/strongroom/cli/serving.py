"""``strongroom serving``: accounts, API keys and terms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click
from msgspec import to_builtins

from strongroom.access.policy import Question
from strongroom.cli.frame import Call, Group, Json, common, moment, read_secret, readable, table
from strongroom.cli.serving_policy import policy
from strongroom.core.errors import BadInput, TamperError
from strongroom.serving.accounts import RPM, TOKENS_PER_DAY, Account, Accounts
from strongroom.serving.books import day_of
from strongroom.serving.disclosure.tiers import FIRST, TIERS
from strongroom.serving.report import AccountReport, report
from strongroom.wiring.applied import Applied, apply, running
from strongroom.wiring.serving import Serving, serving_of
from strongroom.wiring.up import answers

_SAID: dict[Applied, str] = {
    "in force": "In force at the running gateway.",
    "not served": "No gateway is running here; it counts as soon as one does.",
    "not told": "NOT YET in force: the running gateway could not be told. It judges by it once control is back, and "
    "lets nobody in after 30 seconds without.",
}

serving = Group("serving", help="Who may ask the model what, and how much of it.")
account = Group("account", help="Customers and their limits.")
key = Group("key", help="API keys: shown once, kept as a hash, revoked at once.")
terms = Group("terms", help="Terms of use by version: a key is let in once it has accepted those in force.")
for group in (account, key, terms, policy):
    serving.add_command(group)

_rpm = click.option("--rpm", type=click.IntRange(1), help=f"Requests a minute. At first {RPM}.")
_tokens = click.option(
    "--tokens-per-day",
    type=click.IntRange(1),
    help=f"Prompt and answer, by UTC day. At first {TOKENS_PER_DAY:,}.",
)
_tier = click.option(
    "--tier",
    type=click.Choice(list(TIERS)),
    help=f"What it may learn beside the text. At first {FIRST}.",
)


@account.command("add", epilog="Example: strongroom serving account add acme --rpm 120 --tokens-per-day 500000")
@click.argument("name")
@_rpm
@_tokens
@_tier
@common
def account_add(call: Call, name: str, *, rpm: int | None, tokens_per_day: int | None, tier: str | None) -> None:
    """Make an account NAME."""
    who = call.identity()
    limits = {"rpm": rpm or RPM, "tokens_per_day": tokens_per_day or TOKENS_PER_DAY}
    made = serving_of(call.home).accounts.add(who, name, **limits, tier=tier or FIRST)
    _changed(call, {"account": to_builtins(made)}, f"{name} is made: {_limits(made)}.")


@account.command("show", epilog="Example: strongroom serving account show acme")
@click.argument("name")
@common
def account_show(call: Call, name: str) -> None:
    """Show NAME's limits, its keys, and what it used of today's tokens."""
    rooms = _reading(call)
    shown = report(rooms.accounts, rooms.books, name, day=day_of(call.home.clock.now()))
    document: dict[str, Json] = to_builtins(shown)
    call.emit({"account": document}, _account_words(shown))


@account.command("ls", epilog="Example: strongroom serving account ls")
@common
def account_ls(call: Call) -> None:
    """List the accounts."""
    accounts = _reading(call).accounts
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
@_rpm
@_tokens
@_tier
@common
def account_limit(call: Call, name: str, *, rpm: int | None, tokens_per_day: int | None, tier: str | None) -> None:
    """Change NAME's limits or tier; what is not given stays. A running gateway holds NAME to them at once."""
    who = call.identity()
    if rpm is None and tokens_per_day is None and tier is None:
        raise BadInput("nothing to change: give --rpm, --tokens-per-day or --tier", where="serving account limit")
    new = serving_of(call.home).accounts.change(who, name, rpm=rpm, tokens_per_day=tokens_per_day, tier=tier)
    _changed(call, {"account": to_builtins(new)}, f"{name}: {_limits(new)}.")


@account.command("close", epilog="Example: strongroom serving account close acme")
@click.argument("name")
@common
def account_close(call: Call, name: str) -> None:
    """Close NAME for good: none of its keys is let in any more, and its streams are cut."""
    who = call.identity()
    closed = serving_of(call.home).accounts.close(who, name)
    _changed(call, {"account": to_builtins(closed)}, f"{name} is closed.")


@key.command("add", epilog="Example: strongroom serving key add acme")
@click.argument("account_name", metavar="ACCOUNT")
@common
def key_add(call: Call, account_name: str) -> None:
    """Make a key for ACCOUNT. It is printed this once and kept nowhere."""
    who = call.identity()
    made, shown = serving_of(call.home).accounts.add_key(who, account_name)
    text = shown.reveal().decode()
    document: dict[str, Json] = {"id": made.id, "account": made.account, "api_key": text}
    _changed(call, document, f"Key {made.id} of {account_name}, printed this once:\n  {text}")


@key.command("revoke", epilog="Example: strongroom serving key revoke 5f0c9e1d2b3a4c5d")
@click.argument("ident", metavar="ID")
@common
def key_revoke(call: Call, ident: str) -> None:
    """Revoke the key ID for good; streams that it opened are cut."""
    who = call.identity()
    gone = serving_of(call.home).accounts.revoke_key(who, ident)
    _changed(call, {"id": gone.id, "account": gone.account, "status": gone.status}, f"Key {ident} is revoked.")


@terms.command("publish", epilog="Example: strongroom serving terms publish terms-2026-11.md")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common
def terms_publish(call: Call, file: Path) -> None:
    """Put the text in FILE in force: from now on a key is let in once it has accepted it."""
    who = call.identity()
    made = serving_of(call.home).accounts.publish(who, _text(file))
    document: dict[str, Json] = {"version": made.version, "digest": made.digest, "published": made.published}
    _changed(call, document, f"Version {made.version} of the terms is in force ({made.digest[:16]}…).")


@terms.command("show", epilog="Example: strongroom serving terms show")
@common
def terms_show(call: Call) -> None:
    """Show the terms in force."""
    current = _reading(call).accounts.terms()
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
    _changed(call, document | {"digest": current.digest}, f"Key {ident.id} has accepted version {current.version}.")


@serving.command("status", epilog="Example: strongroom serving status")
@common
def status(call: Call) -> None:
    """Say whether this home is being served, where, and by which processes."""
    _reading(call)
    now = running(call.home_path)
    if now is None:
        call.emit({"running": None}, "Nothing is served from this home. `strongroom up` does.")
    else:
        answering = answers(now)
        state = "answers" if answering else "DOES NOT ANSWER NOW" if now.state == "ready" else "is starting"
        words = f"{now.url} {state}; since {moment(now.since)}, {', '.join(now.models)}, process {now.pid}"
        call.emit({"running": {**to_builtins(now), "answering": answering}}, words)


def _reading(call: Call) -> Serving:
    """Return the serving side of the home, for whoever may read the registry."""
    who = call.identity()
    call.home.desk.require(who, Question("serving.manage"))
    return serving_of(call.home)


def _changed(call: Call, document: dict[str, Json], words: str) -> None:
    """Have a running gateway judge by what was changed, then say so."""
    told = apply(call.home_path)
    call.emit({**document, "in_force": told == "in force"}, f"{words}\n{_SAID[told]}")


def _limits(one: Account) -> str:
    return f"{one.rpm} requests a minute, {one.tokens_per_day:,} tokens a day, tier {one.tier}"


def _account_words(shown: AccountReport) -> str:
    lines = [
        f"{shown.name}: {shown.status}, tier {shown.tier}, made {moment(shown.created)}",
        f"  {shown.rpm} requests a minute",
        f"  {shown.tokens_per_day:,} tokens a day; {shown.tokens_today:,} of today's are used or lent to a gateway",
    ]
    for one in shown.keys:
        accepted = {True: "terms accepted", False: "terms NOT accepted", None: "no terms in force"}[one.terms_accepted]
        lines.append(f"  key {one.id}: {one.status}, made {moment(one.created)}, {accepted}")
    return "\n".join(lines)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"can't be read as text ({type(error).__name__})", where=str(file)) from None
