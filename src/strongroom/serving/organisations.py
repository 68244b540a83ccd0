"""Organisations, whose accounts share limits, and the limits of everybody together."""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from strongroom.access.deeds import Deeds
from strongroom.access.identity import Identity
from strongroom.core.canonical import Record
from strongroom.core.clock import Clock, stamp
from strongroom.core.errors import AlreadyExists, TamperError
from strongroom.core.ids import check_name
from strongroom.core.log import log
from strongroom.core.serving_errors import NoSuchOrganisation
from strongroom.serving.quotas import NONE, Limits, Prices, check_limits
from strongroom.serving.roster import Roster, RosterOrg

# Where the home's own limits can't be read, next to nobody is served: what they were nobody knows (rule 10).
_SHUT: Final = Limits(requests=1, streams=1, tokens=1)


class Organisation(Record, frozen=True, kw_only=True):
    """An organisation and its limits."""

    format: Literal["strongroom/organisation@1"] = "strongroom/organisation@1"
    name: str
    limits: Limits = NONE
    created: str


class Total(Record, frozen=True, kw_only=True):
    """The limits of everybody together."""

    format: Literal["strongroom/total-limits@1"] = "strongroom/total-limits@1"
    limits: Limits = NONE


class Organisations:
    """The organisations of one home, and its total."""

    def __init__(self, deeds: Deeds, clock: Clock) -> None:
        """Keep everything as `deeds`."""
        self._deeds = deeds
        self._clock = clock

    def add(self, who: Identity, name: str, *, limits: Limits = NONE) -> Organisation:
        """Make an organisation.

        Raises:
            AlreadyExists: there is one of that name.
            BadInput: a limit that is no limit.

        """
        check_name(name, what="organisation")
        check_limits(limits, where=f"org:{name}")
        if self._deeds.read(f"org:{name}", Organisation) is not None:
            raise AlreadyExists("there is an organisation of that name", where=f"org:{name}")
        made = Organisation(name=name, limits=limits, created=stamp(self._clock.now()))
        self._deeds.enter(who, f"org:{name}", made, why="add an organisation")
        return made

    def find(self, name: str) -> Organisation:
        """Return an organisation.

        Raises:
            NoSuchOrganisation: there is none of that name.

        """
        found = self._deeds.read(f"org:{check_name(name, what='organisation')}", Organisation)
        if found is None:
            raise NoSuchOrganisation("there is no such organisation", where=f"org:{name}")
        return found

    def change(self, who: Identity, name: str, limits: Limits) -> Organisation:
        """Set limits of an organisation; 0 takes one away, and what is not given stays."""
        check_limits(limits, where=f"org:{name}", zero=True)
        old = self.find(name)
        new = replace(old, limits=old.limits.over(limits))
        self._deeds.enter(who, f"org:{name}", new, why="change limits")
        return new

    def names(self) -> list[str]:
        """Return the names of all organisations."""
        return [one.partition(":")[2] for one in self._deeds.subjects("org:") if self._deeds.history(one)]

    def total(self) -> Limits:
        """Return the limits of everybody together."""
        found = self._deeds.read("total", Total)
        return NONE if found is None else found.limits

    def change_total(self, who: Identity, limits: Limits) -> Limits:
        """Set limits of everybody together; 0 takes one away, and what is not given stays."""
        check_limits(limits, where="total", zero=True)
        new = Total(limits=self.total().over(limits))
        self._deeds.enter(who, "total", new, why="change limits")
        return new.limits

    def complete(self, roster: Roster, prices: Prices) -> Roster:
        """Return `roster` with organisations, total and prices. What was altered lets nobody in, and is logged."""
        orgs = [one for subject in self._deeds.subjects("org:") if (one := self._readable(subject)) is not None]
        try:
            total = self.total()
        except TamperError as error:
            log.error("the total limits can not be read", code=error.code, where=error.where)
            total = _SHUT
        return replace(roster, orgs=tuple(orgs), total=total, prices=prices)

    def _readable(self, subject: str) -> RosterOrg | None:
        try:
            one = self._deeds.read(subject, Organisation)
        except TamperError as error:
            log.error("organisation left out: none of its accounts is let in", code=error.code, where=subject)
            return None
        return one and RosterOrg(one.name, one.limits)
