"""``strongroom serving usage``: who asked what kind of thing, when, from where, and what was refused."""

from __future__ import annotations

from collections import Counter

import click
from msgspec import to_builtins

from strongroom.cli.frame import Call, Json, common, moment, table
from strongroom.cli.serving_limits import reading
from strongroom.serving.egress import Exposure
from strongroom.serving.history import ALARM, History
from strongroom.serving.spool import Row, Tally
from strongroom.wiring.exposure import exposed, look_back

_NAMES = Tally.__slots__
_SHOWN = ("requests", "refused", "prompt_tokens", "completion_tokens", "bytes", "incidents", "near")


@click.command("usage", epilog="Example: strongroom serving usage --account acme --since 2026-11-01")
@click.option("--account", "account_name", metavar="NAME", help="Of this account alone.")
@click.option("--since", metavar="TIME", default="", help="UTC, like 2026-11-23 or 2026-11-23T10:00; all there is.")
@common
def usage(call: Call, *, account_name: str | None, since: str) -> None:
    """Show requests, tokens, refusals and where they came from, as the ledger and the usage lines have them."""
    rooms = reading(call)
    found = look_back(rooms, since=since)
    names = [account_name] if account_name else sorted(found.accounts)
    accounts: dict[str, Json] = {name: _numbers(found.accounts.get(name, Tally())) for name in names}
    alarms = [one for one in rooms.home.ledger.find(action=ALARM) if one.event.at >= since]
    raised: list[Json] = [{"at": one.event.at, "object": one.event.object, **one.event.detail} for one in alarms]
    everything = exposed(rooms, found, None)
    document: dict[str, Json] = {
        "accounts": accounts,
        "asked": _rows(found.asked, account_name, "origin"),
        "turned_away": _rows(found.turned_away, account_name, "code"),
        "exposure": to_builtins(everything),
        "alarms": raised,
    }
    call.emit(document, lambda out: out.print(_table(found, names), exposure_words(everything), _alarms(raised)))


def exposure_words(shown: Exposure) -> str:
    """Return an exposure as people read it."""
    rank = f", rank {shown.rank} of {shown.hidden_size or '?'}" if shown.rank else ""
    left = "" if shown.days is None else f"; at this rate the weights could leave in {shown.days:,.0f} days"
    return f"today {shown.bytes_today:,} bytes{left}{rank}"


def _alarms(raised: list[Json]) -> str:
    return "\n".join(f"ALARM {moment(str(one['at']))}: {one['object']}" for one in raised if isinstance(one, dict))


def _numbers(tally: Tally) -> dict[str, Json]:
    return dict(zip(_NAMES, tally.row(), strict=True))


def _rows(counter: Counter[Row], account: str | None, last: str) -> list[Json]:
    return [
        {"account": name, "key": key, "route": route, last: word, "requests": number}
        for (name, key, route, word), number in sorted(counter.items())
        if account in {None, name}
    ]


def _table(found: History, names: list[str]) -> object:
    columns = ("account", "requests", "refused", "prompt", "answer", "bytes", "withheld", "near")
    rows = [
        [name or "(unknown key)", *(getattr(one, column) for column in _SHOWN)]
        for name in names
        for one in [found.accounts.get(name, Tally())]
    ]
    return table(*columns, rows=rows)
