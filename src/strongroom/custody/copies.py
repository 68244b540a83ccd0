"""The copies that were issued: a deed for each, durable before the copy left, and what became of it.

Whose copy it was nobody may change afterwards: the first deed of a copy counts, and only if a second person approved
exactly what it says. So each approval stands for one copy, and what one custodian writes by themselves for none.
"""

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
from strongroom.core.errors import AlreadyExists, ApprovalAltered
from strongroom.core.ids import CheckpointName, check_name
from strongroom.custody.copy_formats import CopyMark, IssuedCopy, read_day
from strongroom.custody.housekeys import HouseKeys
from strongroom.custody.recipients import Recipients
from strongroom.custody.registry import SEALED, subject
from strongroom.custody.vault import Vault
from strongroom.ledger.events import Entry, Event
from strongroom.ledger.journal import Journal
from strongroom.ports.blobs import Blobs
from strongroom.ports.marks import PerplexityCost

ISSUE: Final = "custody.issue"  # the action that a second person approves
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
            AlreadyExists: it has one.
            NotPermitted: `who` may not sign it.
            ApprovalAltered: nobody approved what it says, so it does not count, and the copy does not leave.
            LedgerUnavailable: the ledger can't be written, so the copy does not leave (rule 1).

        """
        if any(one.copy == copy.copy for one in self.all()):
            raise AlreadyExists("this copy has its deed, for ever", where=copy.copy)
        self._deeds.enter(who, _subject(copy.copy), copy, why=f"a copy of {copy.title} for {copy.recipient.name}")
        if copy not in self.all():
            raise ApprovalAltered("nobody approved what the copy's deed says", where=copy.copy)

    def all(self) -> list[IssuedCopy]:
        """Return every copy, in the order of their deeds."""
        return [deed for _, deed in self._counting()]

    def of(self, name: CheckpointName) -> list[IssuedCopy]:
        """Return the copies of all versions of `name`."""
        return [one for one in self.all() if one.title == name]

    def find(self, copy: str) -> IssuedCopy:
        """Return the copy of that id.

        Raises:
            NoSuchCopy: there is none.

        """
        return self._found(copy)[1]

    def entry(self, copy: str) -> Entry:
        """Return the ledger entry of the deed of the copy of that id.

        Raises:
            NoSuchCopy: there is none.

        """
        return self._found(copy)[0]

    def grant(self, copy: str) -> Entry:
        """Return the entry in which the approval of a copy was used.

        Raises:
            NoSuchCopy: there is none.

        """
        grant = self._grant(self._found(copy)[1])
        if grant is None:
            raise NoSuchCopy("its approval is not in the ledger", where=copy)
        return grant

    def measured(self, checkpoint: str, mark: CopyMark) -> PerplexityCost | None:
        """Return what a mark of the same strength was found to cost on an earlier copy of the same version, or None."""
        strength = _strength(mark)
        same = (one for one in self.all() if one.checkpoint == checkpoint and _strength(one.mark) == strength)
        return next((one.perplexity for one in same if one.perplexity is not None), None)

    def placed(self) -> set[str]:
        """Return the ids of the copies that the ledger says were put in their place."""
        entries = self._journal.ledger.find(action=ISSUED)
        return {str(one.event.detail.get("copy")) for one in entries if one.event.outcome == "done"}

    # ── which deeds count ────────────────────────────────────────────────────────────────────────────────────────────
    def _found(self, copy: str) -> tuple[Entry, IssuedCopy]:
        name = check_name(copy, what="copy")
        found = next((one for one in self._counting() if one[1].copy == name), None)
        if found is None:
            raise NoSuchCopy("no copy of that id", where=copy)
        return found

    def _counting(self) -> list[tuple[Entry, IssuedCopy]]:
        """Return the deeds that count, with their entries, oldest first: the first of a copy, and of an approval.

        Raises:
            RecordAltered: a document that the ledger names is gone or another.

        """
        names = self._deeds.subjects(_subject(""))
        entered = [one for name in names for one in self._deeds.each(name, IssuedCopy)]
        copies, requests = set[str](), set[str]()
        found = list[tuple[Entry, IssuedCopy]]()
        for entry, deed in sorted(entered, key=lambda one: one[0].index):
            if deed.copy not in copies and deed.request not in requests and self._is_approved(entry, deed):
                found.append((entry, deed))
                copies.add(deed.copy)
                requests.add(deed.request)
        return found

    def _is_approved(self, entry: Entry, deed: IssuedCopy) -> bool:
        """Whether the deed is its signer's own, and says what an approval that was used before it was given for."""
        own = (_subject(deed.copy), deed.issuer.name, deed.issuer.keys.fingerprint())
        signer = entry.event.who.partition(":")[2]
        if own != (entry.event.object, signer, entry.event.detail.get("key")):
            return False
        grant = self._grant(deed)
        if grant is None or grant.index >= entry.index or not approves(grant.event, deed):
            return False
        sealed = self._journal.ledger.find(action=SEALED, object=subject(deed.title))
        version = {"checkpoint": deed.checkpoint, "version": deed.version, "digest": grant.event.detail.get("digest")}
        return any(version.items() <= one.event.detail.items() for one in sealed)

    def _grant(self, deed: IssuedCopy) -> Entry | None:
        """Return the entry in which the approval that a deed names was used."""
        return next(self._journal.ledger.find(claim=f"request:{deed.request}"), None)


def copy_id(request: str) -> str:
    """Return the id of the copy that the approval of `request` is for: so a deed can't be given another's approval."""
    return f"copy_{request.partition('_')[2]}"


def approves(grant: Event, deed: IssuedCopy) -> bool:
    """Whether a ledger entry is the use of an approval of what a deed says: claim, asker, purpose and destination."""
    told = (grant.action, grant.outcome, grant.object, grant.who.partition(":")[2], grant.why, grant.claim)
    asked = (ISSUE, "granted", subject(deed.title), deed.issuer.name, deed.purpose, f"request:{deed.request}")
    return told == asked and grant.detail.get("destination") == deed.destination


def _subject(copy: str) -> str:
    """Return how the ledger names a copy."""
    return f"copy:{copy}"


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
