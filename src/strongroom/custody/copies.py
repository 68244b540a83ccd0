"""The copies that were issued: a deed for each, durable before the copy left, and what became of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from strongroom.access.deeds import Deeds
from strongroom.access.desk import Desk
from strongroom.access.identity import Identity
from strongroom.core.copy_errors import NoSuchCopy
from strongroom.core.ids import CheckpointName, check_name
from strongroom.custody.copy_formats import CopyMark, IssuedCopy, read_day
from strongroom.custody.housekeys import HouseKeys
from strongroom.custody.recipients import Recipients
from strongroom.custody.vault import Vault
from strongroom.ledger.journal import Journal
from strongroom.ports.blobs import Blobs
from strongroom.ports.marks import PerplexityCost

ISSUED: Final = "custody.issued"  # the ledger action that says that a copy was put in its place
Status = Literal["prepared", "issued", "embargoed", "expired"]


class Copies:
    """The copies of one home's checkpoints."""

    def __init__(self, deeds: Deeds, journal: Journal) -> None:
        """Keep everything as `deeds`, and look in `journal` for which were put in their place."""
        self._deeds = deeds
        self._journal = journal

    def enter(self, who: Identity, copy: IssuedCopy) -> None:
        """Enter the deed of a copy: after this it may leave.

        Raises:
            NotPermitted: `who` may not sign it.
            LedgerUnavailable: the ledger can't be written, so the copy does not leave (rule 1).

        """
        self._deeds.enter(who, f"copy:{copy.copy}", copy, why=f"a copy of {copy.title} for {copy.recipient.name}")

    def all(self) -> list[IssuedCopy]:
        """Return every copy, in the order of their deeds."""
        places = ((self._deeds.history(one), one) for one in self._deeds.subjects("copy:"))
        ordered = sorted((chain[0].index, one) for chain, one in places if chain)
        found = (self._deeds.read(one, IssuedCopy) for _, one in ordered)
        return [one for one in found if one is not None]

    def of(self, name: CheckpointName) -> list[IssuedCopy]:
        """Return the copies of all versions of `name`."""
        return [one for one in self.all() if one.title == name]

    def find(self, copy: str) -> IssuedCopy:
        """Return the copy of that id.

        Raises:
            NoSuchCopy: there is none.

        """
        found = self._deeds.read(f"copy:{check_name(copy, what='copy')}", IssuedCopy)
        if found is None:
            raise NoSuchCopy("no copy of that id", where=copy)
        return found

    def measured(self, checkpoint: str, mark: CopyMark) -> PerplexityCost | None:
        """Return what a mark of the same strength was found to cost on an earlier copy of the same version, or None."""
        strength = _strength(mark)
        same = (one for one in self.all() if one.checkpoint == checkpoint and _strength(one.mark) == strength)
        return next((one.perplexity for one in same if one.perplexity is not None), None)

    def placed(self) -> set[str]:
        """Return the ids of the copies that the ledger says were put in their place."""
        entries = self._journal.ledger.find(action=ISSUED)
        return {str(one.event.detail.get("copy")) for one in entries if one.event.outcome == "done"}


def status(copy: IssuedCopy, placed: set[str], now: dt.datetime) -> Status:
    """Return how a copy stands: ``prepared`` may have left, but nobody has seen it in its place."""
    if copy.copy not in placed:
        return "prepared"
    if copy.expires is not None and now >= read_day(copy.expires, what="expires"):
        return "expired"
    if copy.embargo is not None and now < read_day(copy.embargo, what="embargo"):
        return "embargoed"
    return "issued"


def _strength(mark: CopyMark) -> tuple[str, int, float]:
    return mark.scheme, mark.segments, mark.alpha


@dataclass(frozen=True, slots=True)
class Premises:
    """What of a home issuing and releasing need. `folder` opens a store of folders at a path."""

    home: str
    desk: Desk
    journal: Journal
    vault: Vault
    housekeys: HouseKeys
    recipients: Recipients
    copies: Copies
    folder: Callable[[Path], Blobs]
