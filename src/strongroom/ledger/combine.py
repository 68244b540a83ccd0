"""Group commit within a process: whoever comes first writes for everybody who came meanwhile (flat combining).

There is no writer thread to start, stop or lose in a fork: the first caller leads, the others wait, and a leader that
finds new callers when it is done wakes one of them to lead next.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from strongroom.core.errors import LedgerUnavailable, StrongroomError
from strongroom.ledger.events import Event, Receipt

_MAX_BATCH = 4096
_GATHER_ROUNDS = 16  # how often a leader lets others run before it writes, at most


@dataclass(frozen=True, slots=True)
class Draft:
    """An event on its way into the log, and its bytes."""

    event: Event
    raw: bytes


class Pending:
    """A draft that somebody waits for."""

    __slots__ = ("draft", "gate", "outcome", "promoted")

    def __init__(self, draft: Draft) -> None:
        """Begin to wait."""
        self.draft = draft
        self.outcome: Receipt | StrongroomError | None = None
        self.promoted = False
        self.gate = threading.Lock()
        self.gate.acquire()


Settle = Callable[[Sequence[Pending], Callable[[], Sequence[Pending]]], None]
"""Give every pending draft its outcome; the second argument draws those that came while waiting for the turn."""


class GroupCommit:
    """The queue of one process."""

    def __init__(self, settle: Settle) -> None:
        """Let leaders write with `settle`."""
        self._settle = settle
        self._mutex = threading.Lock()
        self._queue: deque[Pending] = deque()
        self._led = False
        self._crowd = 0

    def append(self, draft: Draft) -> Receipt:
        """Return when `draft` is in the log, durably.

        Raises:
            StrongroomError: what `settle` found for this draft.

        """
        mine = Pending(draft)
        with self._mutex:
            self._queue.append(mine)
            lead, self._led = not self._led, True
        if not lead:
            self._wait(mine)
        if mine.outcome is None:
            self._lead()
        if isinstance(mine.outcome, Receipt):
            return mine.outcome
        raise mine.outcome or _interrupted()

    def _wait(self, mine: Pending) -> None:
        """Wait for an outcome, or to be told to lead; give up cleanly if interrupted (Ctrl-C)."""
        try:
            mine.gate.acquire()
        except BaseException:
            with self._mutex:
                if mine in self._queue:
                    self._queue.remove(mine)
            if mine.promoted:
                self._hand_over()
            raise

    def _draw(self) -> list[Pending]:
        """Take what is queued."""
        with self._mutex:
            count = min(len(self._queue), _MAX_BATCH)
            return [self._queue.popleft() for _ in range(count)]

    def _gather(self) -> None:
        """Let those run who were served last time and are about to come back, as long as more of them come.

        Without it a leader that the scheduler favours writes one entry, and the crowd waits for the next fsync.
        """
        for _ in range(_GATHER_ROUNDS):
            waiting = len(self._queue)
            if waiting >= self._crowd:
                return
            time.sleep(0)  # gives the interpreter to whoever is ready

    def _lead(self) -> None:
        """Write one batch, wake those it was for, and see that somebody leads the next."""
        batch: list[Pending] = []

        def more() -> list[Pending]:
            late = self._draw()
            batch.extend(late)
            return late

        try:
            self._gather()
            batch.extend(first := self._draw())
            self._settle(first, more)
        finally:
            self._crowd = len(batch)
            for pending in batch:
                if pending.outcome is None:
                    pending.outcome = _interrupted()
                pending.gate.release()
            self._hand_over()

    def _hand_over(self) -> None:
        """Wake the longest waiting to lead; if nobody waits, the next to come leads."""
        with self._mutex:
            if not self._queue:
                self._led = False
                return
            self._queue[0].promoted = True
            self._queue[0].gate.release()


def _interrupted() -> LedgerUnavailable:
    """Return the error of drafts whose leader was interrupted: they may or may not be in the log."""
    return LedgerUnavailable("the write was interrupted; append the same event again to make sure", where="ledger")
