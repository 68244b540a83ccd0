"""The ledger: append · prove · verify · follow."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from strongroom.core.errors import BadInput, ProofInvalid
from strongroom.ledger import events, export, proofs
from strongroom.ledger.audit import Audit, Progress, Verified
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.combine import Draft, GroupCommit
from strongroom.ledger.events import STATE_ACTIONS, Entry, Event, Receipt
from strongroom.ledger.keys import LogKey
from strongroom.ledger.reader import Reader
from strongroom.ledger.state import StateIndex
from strongroom.ledger.writer import Writer, begin
from strongroom.ports.log_store import LogQuery, LogStore

_POLL_S = 0.05


class Ledger:
    """An append-only Merkle log of events. Threads may share one; a child process opens its own after the fork."""

    def __init__(self, store: LogStore, key: LogKey, state: Path | None = None) -> None:
        """Open the log in `store`, which `create` has begun, with the key that signs it.

        In the file `state`, if given, the state index is kept from one process to the next.

        Raises:
            LedgerTruncated: the store holds no log checkpoint.
            LedgerAltered: the newest log checkpoint is not what `key` signed.

        """
        self._store = store
        self._reader = Reader(store, key.verifier)
        self._reader.head()
        self._state = StateIndex(store, self._reader, key, file=state)
        self._group = GroupCommit(Writer(store, key, self._state).settle)
        self.origin = key.origin
        self.vkey = key.vkey

    @classmethod
    def create(cls, store: LogStore, key: LogKey, state: Path | None = None) -> Ledger:
        """Begin a new log in an empty store: sign its empty tree.

        Raises:
            AlreadyExists: the store holds a log.
            LedgerUnavailable: it can't be written.

        """
        begin(store, key)
        return cls(store, key, state)

    def append(self, event: Event) -> Receipt:
        """Return when `event` is in the log: durable, and under a signed log checkpoint.

        Appending the same event again is harmless, and returns where it is.

        Raises:
            BadInput: a field has the wrong type, or no canonical form.
            EntryTooLarge: the entry is over 65,535 bytes.
            AlreadyClaimed: another entry carries the event's claim.
            AlreadyExists: an entry with the event's id says something else.
            LedgerUnavailable: the store can't be written.
            LedgerAltered: what stands in the store is not what was signed.
            LedgerTruncated, LedgerRolledBack, LedgerForked: as LedgerAltered, named more closely.

        """
        raw = events.encode(event)
        events.decode(raw, where=f"event {event.action[:80]}")  # what can't be read back is not written
        return self._group.append(Draft(event, raw))

    def entry(self, index: int) -> Entry:
        """Return one entry, proven to be in the signed tree.

        Raises:
            NoSuchEntry: there is none at `index`.
            LedgerAltered: its bytes are not in the tree.

        """
        return self._reader.entry(index)

    def latest(self, action: str, object: str) -> Entry | None:  # noqa: A002 - the event's own word
        """Return the newest entry of that action and object, proven to be in the signed tree, or None.

        Of a state action (`events.STATE_ACTIONS`) it is also proven to be the newest. Of others it is the newest that
        the store finds: good for a display, not for a decision.

        Raises:
            LedgerAltered: its bytes are not in the tree, or say something else than the store's index.
            LedgerTruncated, LedgerRolledBack, LedgerForked: as LedgerAltered, named more closely.

        """
        if action not in STATE_ACTIONS:
            return self._reader.latest(action, object)
        marks = self._state.find(action=action, object=object, claim=None)
        return self._reader.marked(marks[-1].index, marks[-1].leaf) if marks else None

    def find(
        self,
        *,
        object: str | None = None,  # noqa: A002 - the event's own word
        action: str | None = None,
        claim: str | None = None,
    ) -> Iterator[Entry]:
        """Yield the entries of that object, action and claim, oldest first; None means any.

        Given a claim or a state action (`events.STATE_ACTIONS`), these are proven to be all. Else they are what the
        store finds: good for a display, not for a decision.

        Raises:
            LedgerAltered: an entry's bytes are not the leaf's, or say something else than the store's index.
            LedgerTruncated, LedgerRolledBack, LedgerForked: as LedgerAltered, named more closely.

        """
        if claim is None and action not in STATE_ACTIONS:
            yield from self._reader.scan(LogQuery(object=object, action=action))
            return
        for mark in self._state.find(action=action, object=object, claim=claim):
            yield self._reader.marked(mark.index, mark.leaf)

    def tail(self, count: int) -> list[Entry]:
        """Return the newest `count` entries, oldest first.

        Raises:
            LedgerAltered: an entry's bytes are not the leaf's.

        """
        return self._reader.tail(count)

    def follow(
        self, start: int, *, stop: threading.Event | None = None, timeout: float | None = None
    ) -> Iterator[Entry]:
        """Yield the entries from index `start` on, waiting for new ones.

        It ends when `stop` is set, or when nothing new has come for `timeout` seconds (0: at the end of the log).

        Raises:
            LedgerAltered: an entry's bytes are not the leaf's.

        """
        stop = threading.Event() if stop is None else stop
        query = LogQuery(start=start)
        deadline = None if timeout is None else time.monotonic() + timeout
        while not stop.is_set():
            for entry in self._reader.scan(query):
                yield entry
                query = replace(query, start=entry.index + 1)
                deadline = None if timeout is None else time.monotonic() + timeout
                if stop.is_set():
                    return
            if deadline is not None and time.monotonic() >= deadline:
                return
            stop.wait(_POLL_S)

    def checkpoint(self) -> SignedCheckpoint:
        """Return the newest signed log checkpoint.

        Raises:
            LedgerTruncated: there is none.
            LedgerAltered: it is not what the log's key signed.

        """
        return self._reader.head()

    def verify(self, witness: SignedCheckpoint | None = None, *, progress: Progress | None = None) -> Verified:
        """Re-read every entry, recompute every tile and the root, compare every index column, check the signature.

        So is the state index, as used and as kept. With `witness` (see `Witness.last`), the log must also extend what
        the witness saw.

        Raises:
            LedgerAltered, LedgerTruncated, LedgerForked, LedgerRolledBack: what is wrong; `where` names the place.

        """
        found = Audit(self._store, self._reader, witness).run(progress)
        self._state.check()
        return found

    def prove(self, index: int, under: SignedCheckpoint | None = None) -> bytes:
        """Return the proof bundle of an entry, under the newest log checkpoint or `under` (say, a witnessed one).

        Raises:
            NoSuchEntry: there is none at `index`.
            BadInput: `under` is older than the entry.
            LedgerAltered: the entry is not what was signed.

        """
        entry = self._reader.entry(index)
        head = self._reader.head() if under is None else under
        if index >= head.size:
            raise BadInput("the log checkpoint is older than the entry", where=f"entry {index}")
        return proofs.write_bundle(entry, self._reader.inclusion(index, head.size), head)

    def consistency(self, old_size: int, size: int | None = None) -> list[bytes]:
        """Return the consistency proof (RFC 6962) from `old_size` to `size`, by default the newest.

        Raises:
            BadInput: the log has never had these sizes.

        """
        newest = self._reader.head().size
        size = newest if size is None else size
        if size > newest:
            raise BadInput(f"the log has {newest} entries", where="consistency proof")
        try:
            return self._reader.consistency(old_size, size)
        except ProofInvalid as error:
            raise BadInput(error.message, where=error.where) from None

    def export(self, directory: Path) -> int:
        """Write the log as static files in C2SP tlog-tiles layout, with its ``vkey``; return the tree's size.

        Raises:
            LedgerUnavailable: a file can't be written.
            LedgerAltered: an entry or a tile is not what was signed.

        """
        return export.write_tree(self._store, self._reader, directory, vkey=self.vkey)

    def close(self) -> None:
        """Keep the state index, if that is worth it, and let go of the store."""
        self._state.save()
        self._store.close()
