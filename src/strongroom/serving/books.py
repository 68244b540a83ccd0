"""Token budgets as control keeps them: what is leased to gateways counts as spent until it comes back.

A lease is durable before it is given, so no crash lets an account use more than its day's tokens. When no gateway is
connected, the books are brought in line with the usage spool, which says what was really used.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Final

from strongroom.access.settle import settle
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import Busy
from strongroom.ports.records import Change, Records

_KIND: Final = "token-day"
_ATTEMPTS: Final = 16


class Spent(Record, frozen=True):
    """What is leased of an account's day: used, or in a gateway's hands."""

    tokens: int


class Books:
    """The token budgets of one home, by UTC day and account."""

    def __init__(self, records: Records) -> None:
        """Keep the books in `records`."""
        self._records = records

    def spent(self, account: str, day: str) -> int:
        """Return how many tokens of the day are leased."""
        stored = self._records.get(_KIND, f"{day}/{account}")
        return 0 if stored is None else decode(stored.document, Spent, where=f"budget of {account}").tokens

    def lease(self, account: str, day: str, tokens: int, *, limit: int) -> int:
        """Lease up to `tokens` more of the day's `limit`; return how many, durably (0: none are left)."""
        return self._move(account, day, lambda spent: max(0, min(tokens, limit - spent)))

    def give_back(self, account: str, day: str, tokens: int) -> None:
        """Take back what a gateway did not use."""
        self._move(account, day, lambda spent: -max(0, min(tokens, spent)))

    def reconcile(self, day: str, used: Mapping[str, int]) -> None:
        """Set the day to what was really `used`. Only while no gateway holds a lease."""
        kept = {f"{day}/{account}": encode(Spent(tokens=tokens)) for account, tokens in used.items()}
        over = [one.key for one in self._records.scan(_KIND) if one.key not in kept and one.key[: len(day)] <= day]
        settle(self._records, _KIND, put=kept, drop=over)

    def _move(self, account: str, day: str, wanted: Callable[[int], int]) -> int:
        """Change an account's day by what `wanted` says of what is spent; return the change."""
        key = f"{day}/{account}"
        for attempt in range(_ATTEMPTS):
            stored = self._records.get(_KIND, key)
            spent = 0 if stored is None else decode(stored.document, Spent, where=f"budget of {account}").tokens
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
