"""Limits on the command line: the options that all share, and the groups ``serving org`` and ``serving total``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Concatenate, Final, ParamSpec

import click
from msgspec import to_builtins

from strongroom.access.policy import Question
from strongroom.cli.frame import Call, Group, Json, common, moment, table
from strongroom.core.errors import BadInput
from strongroom.serving.quotas import NONE, Limits
from strongroom.wiring.applied import Applied, apply
from strongroom.wiring.serving import Serving, serving_of

BILLION: Final = 10**9
_SAID: Final[dict[Applied, str]] = {
    "in force": "In force at the running gateway.",
    "not served": "No gateway is running here; it counts as soon as one does.",
    "not told": "NOT YET in force: the running gateway could not be told. It judges by it once control is back, and "
    "lets nobody in after 30 seconds without.",
}
P = ParamSpec("P")

org = Group("org", help="Organisations, whose accounts share limits.")
total = Group("total", help="The limits of everybody together.")


class _Money(click.ParamType[int]):
    """An amount like 2.50, kept as billionths."""

    name = "amount"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the billionths."""
        try:
            billionths = Decimal(str(value)) * BILLION
            whole = int(billionths)
        except (InvalidOperation, ValueError, OverflowError):
            self.fail("an amount is a number like 2.50", param, ctx)
        if whole < 0 or whole != billionths:
            self.fail("an amount is not negative, and has nine digits after the point at most", param, ctx)
        return whole


_COUNT: Final = click.IntRange(0)
_OPTIONS: Final = (
    click.option("--rpm", type=_COUNT, help="Requests a minute. A new account gets 60."),
    click.option("--tokens-per-day", type=_COUNT, help="Prompt and answer, by UTC day. A new account gets 200,000."),
    click.option("--streams", type=_COUNT, help="Requests that are open at once."),
    click.option("--money-per-day", type=_Money(), help="By UTC day, at the prices in strongroom.toml, like 2.50."),
    click.option("--embeddings-per-day", type=_COUNT, help="Texts that are embedded, by UTC day."),
)


def limited(verb: Callable[Concatenate[Call, Limits, P], None]) -> Callable[Concatenate[Call, P], None]:
    """Give a verb the options of limits, and those that were given as second argument."""

    @functools.wraps(verb)
    def run(call: Call, *args: P.args, **kwargs: P.kwargs) -> None:
        given = {name: kwargs.pop(name, None) for name in _NAMES}
        verb(call, Limits(**{_NAMES[name]: value for name, value in given.items()}), *args, **kwargs)  # type: ignore[arg-type]

    decorated: Callable[Concatenate[Call, P], None] = run
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_NAMES: Final = {
    "rpm": "requests",
    "tokens_per_day": "tokens",
    "streams": "streams",
    "money_per_day": "money",
    "embeddings_per_day": "embeddings",
}


def changed(call: Call, document: dict[str, Json], words: str) -> None:
    """Have a running gateway judge by what was changed, then say so."""
    told = apply(call.home_path)
    call.emit({**document, "in_force": told == "in force"}, f"{words}\n{_SAID[told]}")


def reading(call: Call) -> Serving:
    """Return the serving side of the home, for whoever may read the registry."""
    who = call.identity()
    call.home.desk.require(who, Question("serving.manage"))
    return serving_of(call.home)


def limit_words(limits: Limits) -> str:
    """Return limits as people read them."""
    units = {
        "requests": "requests a minute",
        "streams": "open at once",
        "tokens": "tokens a day",
        "money": "money a day",
        "embeddings": "embeddings a day",
    }
    said = [f"{_amount(kind, limit)} {units[kind]}" for kind, limit in limits.each()]
    return ", ".join(said) or "no limits"


def _amount(kind: str, limit: int) -> str:
    return f"{Decimal(limit) / BILLION:f}" if kind == "money" else f"{limit:,}"


def needs_some(limits: Limits, where: str) -> None:
    """Refuse a change that changes nothing.

    Raises:
        BadInput: no limit is given.

    """
    if limits == NONE:
        raise BadInput("nothing to change: give a limit; 0 takes one away", where=where)


@org.command("add", epilog="Example: strongroom serving org add globex --tokens-per-day 1000000")
@click.argument("name")
@common
@limited
def org_add(call: Call, limits: Limits, name: str) -> None:
    """Make an organisation NAME; `serving account limit ACCOUNT --org NAME` puts an account under its limits."""
    who = call.identity()
    made = serving_of(call.home).organisations.add(who, name, limits=limits)
    changed(call, {"org": to_builtins(made)}, f"{name} is made: {limit_words(made.limits)}.")


@org.command("limit", epilog="Example: strongroom serving org limit globex --rpm 600 --streams 0")
@click.argument("name")
@common
@limited
def org_limit(call: Call, limits: Limits, name: str) -> None:
    """Change the limits of NAME; what is not given stays, and 0 takes a limit away."""
    who = call.identity()
    needs_some(limits, "serving org limit")
    new = serving_of(call.home).organisations.change(who, name, limits)
    changed(call, {"org": to_builtins(new)}, f"{name}: {limit_words(new.limits)}.")


@org.command("show", epilog="Example: strongroom serving org show globex")
@click.argument("name")
@common
def org_show(call: Call, name: str) -> None:
    """Show the limits of NAME, and its accounts."""
    rooms = reading(call)
    found = rooms.organisations.find(name)
    members: list[Json] = [one.name for one in rooms.accounts.roster(0, ()).accounts if one.org == name]
    words = (
        f"{name}: {limit_words(found.limits)}, made {moment(found.created)}\n  accounts: {', '.join(map(str, members))}"
    )
    call.emit({"org": {**to_builtins(found), "accounts": members}}, words)


@org.command("ls", epilog="Example: strongroom serving org ls")
@common
def org_ls(call: Call) -> None:
    """List the organisations."""
    organisations = reading(call).organisations
    found = [organisations.find(name) for name in organisations.names()]
    shown = table("name", "limits", rows=[[one.name, limit_words(one.limits)] for one in found])
    document: list[Json] = [to_builtins(one) for one in found]
    call.emit({"orgs": document}, lambda out: out.print(shown))


@total.command("limit", epilog="Example: strongroom serving total limit --tokens-per-day 50000000")
@common
@limited
def total_limit(call: Call, limits: Limits) -> None:
    """Change the limits of everybody together; what is not given stays, and 0 takes a limit away."""
    who = call.identity()
    needs_some(limits, "serving total limit")
    new = serving_of(call.home).organisations.change_total(who, limits)
    changed(call, {"total": to_builtins(new)}, f"Everybody together: {limit_words(new)}.")


@total.command("show", epilog="Example: strongroom serving total show")
@common
def total_show(call: Call) -> None:
    """Show the limits of everybody together."""
    limits = reading(call).organisations.total()
    call.emit({"total": to_builtins(limits)}, f"Everybody together: {limit_words(limits)}.")
