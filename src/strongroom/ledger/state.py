"""The state index: which entries of an action, an object or a claim there are. The signed root answers for it.

It is read off the entries' bytes, in order, and counts only once their leaf hashes lead to the root that the log has
signed: nothing that the store says about an entry decides anything. It grows with the log, and may be kept in a file,
signed with the log's key. Such a file only saves reading: one that does not lead to the signed root is passed over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from strongroom.core.errors import BadInput, LedgerAltered, LedgerForked, LedgerRolledBack, LedgerTruncated, TamperError
from strongroom.ledger import events, kept
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.events import STATE_ACTIONS
from strongroom.ledger.kept import Kept, Mark
from strongroom.ledger.keys import LogKey
from strongroom.ledger.merkle import Frontier, leaf_hash
from strongroom.ledger.reader import HEAD, Reader
from strongroom.ports.log_store import LogQuery, LogRow, LogStore

_PAGE = 1024
_WORTH = 256  # new entries that make it worth to keep the index again


class _State:
    """What the entries under `frontier` say."""

    def __init__(self, frontier: Frontier, marks: Iterable[Mark] = ()) -> None:
        self.frontier = frontier
        self.marks: list[Mark] = []
        self.found: dict[tuple[str, ...], list[Mark]] = {}
        self.grow(frontier, marks)

    def grow(self, frontier: Frontier, marks: Iterable[Mark]) -> None:
        """Take in the marks of the entries up to a later frontier."""
        for mark in marks:
            self.marks.append(mark)
            for name in _names(mark):
                self.found.setdefault(name, []).append(mark)
        self.frontier = frontier


def _names(mark: Mark) -> Iterable[tuple[str, ...]]:
    """Yield what a mark is found under."""
    if mark.action in STATE_ACTIONS:
        yield "action", mark.action
        yield "object", mark.action, mark.object
    if mark.claim is not None:
        yield "claim", mark.claim


class StateIndex:
    """The state index of one log, for all threads of a process."""

    def __init__(self, store: LogStore, reader: Reader, key: LogKey, *, file: Path | None) -> None:
        """Read from `store`; keep the index in `file`, if any."""
        self._store = store
        self._reader = reader
        self._key = key
        self._file = file
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._head = b""  # the log checkpoint that the state was compared with
        self._kept = 0  # how much of it the file holds

    def find(self, *, action: str | None, object: str | None, claim: str | None) -> list[Mark]:  # noqa: A002 - as events
        """Return the entries of that state action, object and claim, oldest first; one of action and claim is given.

        Raises:
            LedgerAltered, LedgerTruncated, LedgerForked, LedgerRolledBack: the entries are not those that were signed.

        """
        name = ("action", action or "") if object is None else ("object", action or "", object)
        with self._lock:
            state = self._advance(self._reader.head())  # read in here: no other thread has seen a newer one
            if claim is None:
                return state.found.get(name, [])[:]
            found = state.found.get(("claim", claim), [])
        return [one for one in found if action in {None, one.action} and object in {None, one.object}]

    def claimed(self, claims: Iterable[str], head: SignedCheckpoint) -> dict[str, bytes]:
        """Return which of `claims` an entry under `head` carries, and that entry's leaf hash. For who has the turn.

        Raises:
            LedgerAltered, LedgerTruncated, LedgerForked, LedgerRolledBack: the entries are not those that were signed.

        """
        with self._lock:
            found = self._advance(head).found
            return {claim: found["claim", claim][0].leaf for claim in claims if ("claim", claim) in found}

    def check(self) -> None:
        """Read the index off the entries anew; return if the one in use, and the one in the file, say the same.

        Raises:
            LedgerAltered: they do not.

        """
        with self._lock:
            head = self._reader.head()
            whole = _State(Frontier())
            self._extend(whole, head)
            for state, where in ((self._advance(head), "state index"), (self._from_file(head), str(self._file))):
                if state is not None and state.marks != whole.marks:
                    raise LedgerAltered("the kept state index does not say what the entries say", where=where)

    def save(self) -> None:
        """Keep the index for the next process. If that fails, nothing is lost but time."""
        if self._file is None or not self._lock.acquire(blocking=False):  # held: by a thread, or lost in a fork
            return
        try:
            state = self._state
            if state is not None and state.frontier.size - self._kept >= _WORTH:
                frontier = state.frontier
                what = Kept(size=frontier.size, frontier=frontier.nodes, marks=state.marks)
                if kept.write(self._file, what, self._key):
                    self._kept = frontier.size
        finally:
            self._lock.release()

    def _advance(self, head: SignedCheckpoint) -> _State:
        """Return the state under `head`, reading what is new."""
        state = self._state or self._from_file(head) or _State(Frontier())
        if head.size < state.frontier.size:
            raise LedgerRolledBack(f"the log has {head.size} entries; it had {state.frontier.size}", where=HEAD)
        if self._head != head.text:
            self._extend(state, head)
            self._state, self._head = state, head.text
        return state

    def _extend(self, state: _State, head: SignedCheckpoint) -> None:
        """Read the entries from `state` to `head`; `state` grows only if they lead to the signed root."""
        frontier, marks = state.frontier.copy(), list[Mark]()
        while frontier.size < head.size:
            stop = min(frontier.size + _PAGE, head.size)
            rows = self._store.rows(LogQuery(start=frontier.size, stop=stop, limit=_PAGE))
            for row in rows:
                if row.index != frontier.size:
                    break
                mark = _mark(row)
                frontier.push(mark.leaf)
                if mark.action in STATE_ACTIONS or mark.claim is not None:
                    marks.append(mark)
            if frontier.size != stop:
                raise self._missing(frontier.size)
        if frontier.root() != head.root:
            raise self._doubt(state.frontier.size, head)
        state.grow(frontier, marks)

    def _missing(self, index: int) -> TamperError:
        """Return the error of an entry that is not there."""
        if self._store.rows(LogQuery(start=index, limit=1)):
            return LedgerAltered("the entry is missing", where=f"entry {index}")
        return LedgerTruncated(f"entries are signed, {index} stand", where=f"entry {index}")

    def _doubt(self, start: int, head: SignedCheckpoint) -> TamperError:
        """Return the error of entries that do not lead to the signed root; the tiles may tell which it is."""
        if start == head.size:
            return LedgerForked(f"the log at {start} contradicts what this process has read", where=HEAD)
        try:
            for _ in self._reader.scan(LogQuery(start=start)):
                pass
        except TamperError as error:
            return error
        return LedgerAltered("the entries do not lead to the signed root", where=HEAD)

    def _from_file(self, head: SignedCheckpoint) -> _State | None:
        """Return the state under `head` by way of the file, or None if that does not lead there."""
        found = None if self._file is None else kept.read(self._file, self._key)
        if found is None or found.size > head.size:
            return None
        state = _State(Frontier(found.size, found.frontier), found.marks)
        try:
            self._extend(state, head)
        except TamperError:  # perhaps of another history of this log: the entries will tell
            return None
        self._kept = found.size
        return state


def _mark(row: LogRow) -> Mark:
    """Return the mark of a row, from its bytes alone."""
    where = f"entry {row.index}"
    try:
        event = events.decode(row.raw, where=where)
    except BadInput as error:
        raise LedgerAltered(error.message, where=where) from None
    return Mark(index=row.index, leaf=leaf_hash(row.raw), action=event.action, object=event.object, claim=event.claim)
