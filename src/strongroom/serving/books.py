"""Budgets of a day as control keeps them: what is leased to gateways counts as spent until it comes back.

A lease is durable before it is given, so no crash lets anybody use more than a day's tokens, money or embeddings. When
no gateway runs, the books are brought in line with the usage spool, which says what was really used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

from strongroom.access.settle import settle
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import Busy
from strongroom.ports.records import Change, Records
from strongroom.serving.roster import LeaseWanted

_KIND: Final = "token-day"  # the name is from when there were tokens only
_ATTEMPTS: Final = 16
_PART: Final = 4  # more than is needed is given up to this part of what is left, divided among the gateways


class Spent(Record, frozen=True):
    """What is leased of a budget's day: used, or in a gateway's hands."""

    tokens: int  # or billionths, or texts


class Books:
    """The budgets of one home, by UTC day and the budget's name."""

    def __init__(self, records: Records) -> None:
        """Keep the books in `records`."""
        self._records = records

    def spent(self, budget: str, day: str) -> int:
        """Return how much of the day is leased."""
        stored = self._records.get(_KIND, f"{day}/{budget}")
        return 0 if stored is None else decode(stored.document, Spent, where=budget).tokens

    def lease(self, wanted: LeaseWanted, *, limit: int, among: int = 1) -> int:
        """Lease a part of what is left of the day's `limit`; return how much, durably (0: nothing is left).

        `among` so many gateways the rest is to be divided.
        """
        return self._move(wanted.budget, wanted.day, lambda spent: part(wanted, limit - spent, among=among))

    def give_back(self, budget: str, day: str, amount: int) -> None:
        """Take back what a gateway did not use."""
        self._move(budget, day, lambda spent: -max(0, min(amount, spent)))

    def reconcile(self, day: str, used: Mapping[str, int]) -> None:
        """Set the day to what was really `used`. Only while no gateway holds a lease."""
        kept = {f"{day}/{budget}": encode(Spent(tokens=amount)) for budget, amount in used.items()}
        over = [one.key for one in self._records.scan(_KIND) if one.key not in kept and one.key[: len(day)] <= day]
        settle(self._records, _KIND, put=kept, drop=over)

    def _move(self, budget: str, day: str, wanted: Callable[[int], int]) -> int:
        """Change a budget's day by what `wanted` says of what is spent; return the change."""
        key = f"{day}/{budget}"
        for attempt in range(_ATTEMPTS):
            stored = self._records.get(_KIND, key)
            spent = 0 if stored is None else decode(stored.document, Spent, where=budget).tokens
            change = wanted(spent)
            if change == 0:
                return 0
            document = encode(Spent(tokens=spent + change))
            try:
                self._records.apply([Change(_KIND, key, 0 if stored is None else stored.version, document)])
            except Busy:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue
            return change
        return 0


def day_of(moment: dt.datetime) -> str:
    """Return the UTC day that a budget counts by, as ``2026-11-23``."""
    return moment.astimezone(dt.UTC).date().isoformat()


def part(wanted: LeaseWanted, rest: int, *, among: int) -> int:
    """Return how much of the `rest` of a budget one of `among` gateways gets."""
    fair = rest // (_PART * max(1, among))
    return max(0, min(rest, max(wanted.least, min(wanted.amount, fair))))
