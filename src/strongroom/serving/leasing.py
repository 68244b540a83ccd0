"""Control's side of the budgets: how much a gateway gets of one, and what it gives back.

One mechanism for all kinds. What is leased counts as used until it comes back, and is written down before it is given,
so nothing that dies makes anybody overshoot. A lease is a part of what is left, so that little is stranded at gateways
that do not need it when a budget comes to its end.
"""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.serving.books import Books, part
from strongroom.serving.quotas import BY_DAY, Budget, kind_of
from strongroom.serving.roster import LeaseReturned, LeaseWanted
from strongroom.serving.shares import Shares


class Leasing:
    """The budgets of one home."""

    def __init__(self, books: Books, shares: Shares) -> None:
        """Keep what is of a day in `books`, the rest in `shares`."""
        self._books = books
        self.shares = shares
        self._limits: dict[str, int] = {}

    def judge_by(self, budgets: Mapping[str, Budget]) -> None:
        """Grant by these limits from now on."""
        self._limits = {name: one.limit for name, one in budgets.items()}

    def lease(self, gateway: str, wanted: LeaseWanted, *, among: int) -> int:
        """Lease what is left, or nothing where anything is wrong: a budget that can't be kept is closed (rule 10).

        `among` so many gateways the rest is to be divided.
        """
        limit = self._limits.get(wanted.budget, 0)
        try:
            if kind_of(wanted.budget) in BY_DAY:
                return self._books.lease(wanted, limit=limit, among=among)
            rest = limit - self.shares.used(wanted.budget)
            amount = part(wanted, rest, among=among)
            if amount:
                self.shares.lease(gateway, wanted.budget, amount)
        except StrongroomError as error:
            log.error("no lease", code=error.code, where=error.where)
            return 0
        return amount

    def give_back(self, gateway: str, returned: LeaseReturned) -> None:
        """Take back what a gateway does not use."""
        if kind_of(returned.budget) in BY_DAY:
            self._books.give_back(returned.budget, returned.day, returned.amount)
        else:
            self.shares.give_back(gateway, returned.budget, returned.amount)
