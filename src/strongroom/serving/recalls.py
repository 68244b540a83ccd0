"""Which window index is attached to what is served, and what is done by it: a deed, so no file alone detaches it."""

from __future__ import annotations

from typing import Final, Literal

from strongroom.access.deeds import Deeds
from strongroom.access.identity import Identity
from strongroom.core.canonical import Record
from strongroom.core.clock import Clock, stamp
from strongroom.core.serving_errors import NothingAttached
from strongroom.serving.recall.policy import Policy, check_policy

SUBJECT: Final = "recall"


class Attached(Record, frozen=True, kw_only=True):
    """An attached index; an empty `index`: none is."""

    format: Literal["strongroom/recall@1"] = "strongroom/recall@1"
    index: str = ""  # its id
    digest: str = ""  # of its header, which names every file's digest: another folder in its place is noticed
    folder: str = ""
    window: int = 0  # words
    stride: int = 0
    policy: Policy = Policy()
    since: str


class Recalls:
    """What is attached in one home."""

    def __init__(self, deeds: Deeds, clock: Clock) -> None:
        """Keep it as `deeds`."""
        self._deeds = deeds
        self._clock = clock

    def attach(self, who: Identity, wanted: Attached) -> Attached:
        """Attach an index in place of what was attached.

        Raises:
            BadInput: a policy that can't be kept.

        """
        check_policy(wanted.policy)
        self._deeds.enter(who, SUBJECT, wanted, why="attach a window index")
        return wanted

    def detach(self, who: Identity) -> Attached:
        """Let answers go unlooked at; return what was attached.

        Raises:
            NothingAttached: nothing is.

        """
        old = self.find()
        self._deeds.enter(who, SUBJECT, Attached(since=stamp(self._clock.now())), why="detach the window index")
        return old

    def find(self) -> Attached:
        """Return what is attached.

        Raises:
            NothingAttached: nothing is.
            RecordAltered: the document that the ledger names is gone or another.

        """
        found = self.current()
        if found is None:
            raise NothingAttached("no window index is attached", where=SUBJECT)
        return found

    def current(self) -> Attached | None:
        """Return what is attached, or None.

        Raises:
            RecordAltered: the document that the ledger names is gone or another: nobody knows whether one is.

        """
        found = self._deeds.read(SUBJECT, Attached)
        return found if found is not None and found.index else None
