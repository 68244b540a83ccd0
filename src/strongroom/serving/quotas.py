"""The limits there are: five kinds, at four scopes. A limit that is not set is no limit at its scope.

A *budget* is one limit of one scope, with a name that every process knows it by: ``tokens/account/acme``. A request
pays into every budget that is over it, or into none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput

Kind = Literal["requests", "streams", "tokens", "money", "embeddings"]
Scope = Literal["key", "account", "org", "total"]

KINDS: Final[tuple[Kind, ...]] = ("requests", "streams", "tokens", "money", "embeddings")
SCOPES: Final[tuple[Scope, ...]] = ("key", "account", "org", "total")
BY_DAY: Final = frozenset({"tokens", "money", "embeddings"})  # counted by UTC day, and kept for as long
MOST: Final = 2**40
MOST_MONEY: Final = 2**53 - 1  # billionths; what canonical JSON can carry

# What is said of a refusal: whose limit it was, and never how much others have used of it.
WHOSE: Final[dict[Scope, str]] = {
    "key": "It is the limit of the key.",
    "account": "It is the limit of the account.",
    "org": "It is the limit of the organisation.",
    "total": "It is the limit of the whole service.",
}
CODES: Final[dict[Kind, str]] = {
    "requests": "rate_limit_exceeded",
    "streams": "too_many_open_requests",
    "tokens": "tokens_per_day_exceeded",
    "money": "money_per_day_exceeded",
    "embeddings": "embeddings_per_day_exceeded",
}


class Limits(Record, frozen=True):
    """The limits of one key, account or organisation, or of the whole home. None: no limit here."""

    requests: int | None = None  # a minute, wherever it begins
    streams: int | None = None  # requests that are open at once
    tokens: int | None = None  # prompt and answer, a UTC day
    money: int | None = None  # billionths of the home's currency, a UTC day
    embeddings: int | None = None  # texts, a UTC day

    def each(self) -> Iterator[tuple[Kind, int]]:
        """Yield the limits that are set."""
        for kind in KINDS:
            limit: int | None = getattr(self, kind)
            if limit is not None:
                yield kind, limit

    def over(self, changes: Limits) -> Limits:
        """Return these limits with what `changes` sets; 0 there takes a limit away."""
        kept = dict(self.each()) | dict(changes.each())
        return Limits(**{kind: limit for kind, limit in kept.items() if limit})


NONE: Final = Limits()


class Prices(Record, frozen=True):
    """What a token costs, in billionths of the home's currency."""

    prompt: int = 0
    answer: int = 0

    def cost(self, prompt: int, answer: int) -> int:
        """Return the price of so many tokens."""
        return prompt * self.prompt + answer * self.answer


FREE: Final = Prices()


class Budget(msgspec.Struct, frozen=True):
    """One limit of one scope."""

    id: str
    kind: Kind
    scope: Scope
    limit: int


def budgets_of(scope: Scope, name: str, limits: Limits) -> list[Budget]:
    """Return the budgets that `limits` make for what is called `name`."""
    return [Budget(budget_id(kind, scope, name), kind, scope, limit) for kind, limit in limits.each()]


def budget_id(kind: Kind, scope: Scope, name: str) -> str:
    """Return the name that every process knows a budget by."""
    return f"{kind}/{scope}/{name}"


def kind_of(budget: str) -> str:
    """Return the kind that a budget's name says."""
    return budget.partition("/")[0]


def check_limits(limits: Limits, *, where: str, zero: bool = False) -> None:
    """Refuse limits that are none; with `zero`, 0 is one that is taken away.

    Raises:
        BadInput: one is under 1, or over 2^40 (money: over 2^53 - 1 billionths).

    """
    for kind, limit in limits.each():
        most = MOST_MONEY if kind == "money" else MOST
        if not (0 if zero else 1) <= limit <= most:
            raise BadInput(f"limits are from 1 to {'2^53 - 1' if kind == 'money' else '2^40'}: {kind}", where=where)
