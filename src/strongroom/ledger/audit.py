"""The full check: every entry re-read, every tile and the root recomputed, every index column compared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.core.errors import LedgerAltered, LedgerForked, LedgerRolledBack, LedgerTruncated
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.merkle import HASH_BYTES, Frontier, leaf_hash
from strongroom.ledger.reader import HEAD, Reader, read_event
from strongroom.ledger.tiles import HEIGHT, WIDTH, Growth, TileAt, path
from strongroom.ports.log_store import LogQuery, LogRow, LogStore

Progress = Callable[[int, int], None]
"""Called with how many entries are checked and how many there are."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a full check found to be whole: a tree of `size` entries with `root` (hexadecimal)."""

    size: int
    root: str


class Audit:
    """One full check of a log."""

    def __init__(self, store: LogStore, reader: Reader, witnessed: SignedCheckpoint | None) -> None:
        """Check `store`, and that it extends what a witness saw."""
        self._store = store
        self._reader = reader
        self._witnessed = witnessed
        self._forked = False
        self._growth = Growth(Frontier(), {})
        self._suspect: tuple[str, str] | None = None  # the first tile that differs, and whom to blame if it is right
        self._unique: set[bytes] = set()

    def run(self, progress: Progress | None = None) -> Verified:
        """Check everything.

        Raises:
            LedgerTruncated: entries at the end are missing.
            LedgerAltered: an entry, a tile, an index column or the log checkpoint was changed; `where` says which.
            LedgerRolledBack: the log is older than what the witness saw.
            LedgerForked: the log contradicts what the witness saw.

        """
        head = self._reader.head()
        self._check_count(head)
        self._check_witnessed()
        for start in range(0, head.size, WIDTH):
            self._check_page(start, min(start + WIDTH, head.size))
            if progress is not None:
                progress(min(start + WIDTH, head.size), head.size)
        for level, tile in self._growth.edge.items():
            self._compare((level, head.size >> (HEIGHT * (level + 1))), bytes(tile))
        self._judge(head)
        self._check_beyond()
        return Verified(head.size, head.root.hex())

    def _check_count(self, head: SignedCheckpoint) -> None:
        """Compare sizes before anything is read at length."""
        if self._witnessed is not None and self._witnessed.size > head.size:
            seen = self._witnessed.size
            raise LedgerRolledBack(f"a witness saw {seen} entries, {head.size} are signed here", where=HEAD)
        count = self._count()
        if count < head.size:
            raise LedgerTruncated(f"{head.size} entries are signed, {count} stand", where=f"entry {count}")

    def _count(self) -> int:
        """Return how many rows the store's last index makes."""
        newest = self._store.rows(LogQuery(newest=True, limit=1))
        return newest[0].index + 1 if newest else 0

    def _check_page(self, start: int, stop: int) -> None:
        """Check one tile's worth of entries, and the tiles that it completes."""
        rows = self._store.rows(LogQuery(start=start, stop=stop, limit=WIDTH))
        present = {row.index for row in rows}
        for index in range(start, stop):
            if index not in present:
                raise LedgerAltered("the entry is missing", where=f"entry {index}")
        leaves = [leaf_hash(row.raw) for row in rows]
        self._compare((0, start // WIDTH), b"".join(leaves))
        seen = self._witnessed.size - start if self._witnessed is not None else 0
        for part in (leaves[:seen], leaves[seen:]) if 0 < seen <= len(leaves) else (leaves,):
            self._growth.extend(part)
            self._check_witnessed()
        for at, tile in self._growth.changed.items():
            if at[0] and len(tile) == WIDTH * HASH_BYTES:  # the partial ones are compared at the end
                self._compare(at, tile)
        self._growth.changed.clear()
        if self._suspect is None:  # else the bytes are in doubt already
            for row in rows:
                self._check_fields(row)

    def _check_witnessed(self) -> None:
        """At the size that the witness saw, the root must be the one that it saw."""
        frontier, seen = self._growth.frontier, self._witnessed
        if seen is not None and seen.size == frontier.size and seen.root != frontier.root():
            self._forked = True

    def _compare(self, at: TileAt, expected: bytes) -> None:
        """Compare a tile as recomputed from the entries with the stored one; remember the first that differs."""
        stored = (self._store.tile(*at) or b"")[: len(expected)]
        if stored == expected or self._suspect is not None:
            return
        same = next((n for n in range(len(expected)) if stored[n : n + 1] != expected[n : n + 1]), 0)
        tile = path(at[0], at[1], len(expected) // HASH_BYTES)
        self._suspect = (tile, HEAD if at[0] else f"entry {at[1] * WIDTH + same // HASH_BYTES}")

    def _judge(self, head: SignedCheckpoint) -> None:
        """The signed root decides: if the entries lead to it, a differing tile was altered, else the entry was."""
        tile, entry = self._suspect or (HEAD, HEAD)
        if self._growth.frontier.root() != head.root:
            raise LedgerAltered("what stands there is not what was signed", where=entry)
        if self._suspect is not None:
            raise LedgerAltered("the tile does not fit the signed entries under it", where=tile)
        if self._forked and self._witnessed is not None:
            seen = self._witnessed.size
            raise LedgerForked(f"a witness saw another tree of {seen} entries", where=f"log checkpoint {seen}")

    def _check_beyond(self) -> None:
        """Nothing may stand beyond the log checkpoint; rows are counted first, for the log may grow meanwhile."""
        count = self._count()
        size = self._reader.head().size
        if count > size:
            raise LedgerAltered("entries stand beyond the signed log checkpoint", where=f"entry {size}")

    def _check_fields(self, row: LogRow) -> None:
        """Check an entry's index columns, and that its id and its claim are the only ones of their kind."""
        where = f"entry {row.index}"
        event = read_event(row, where=where)
        for kind, value in (("id", event.id), ("claim", event.claim)):
            mark = hashlib.sha256(f"{kind}:{value}".encode()).digest()[:16]  # 16 bytes: chance does not repeat them
            if value is not None and mark in self._unique:
                raise LedgerAltered(f"the {kind} stands in an earlier entry too", where=where)
            self._unique.add(mark)
