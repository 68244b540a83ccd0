"""The read side: the signed head, entries checked against the tree, proofs.

No snapshot is needed: tiles and rows only grow at the right, so what is read after the head covers the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from strongroom.core.errors import BadInput, LedgerAltered, LedgerTruncated, NoSuchEntry, ProofInvalid, SignatureInvalid
from strongroom.ledger import checkpoints, events
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.events import Entry
from strongroom.ledger.merkle import NodeSource, check_inclusion, leaf_hash, prove_consistency, prove_inclusion
from strongroom.ledger.notes import Verifier
from strongroom.ledger.tiles import nodes
from strongroom.ports.log_store import LogQuery, LogRow, LogStore

HEAD = "log checkpoint"
_PAGE = 256


class Reader:
    """Reads one log; every value that it returns has been checked."""

    def __init__(self, store: LogStore, verifier: Verifier) -> None:
        """Read from `store`; believe what `verifier` has signed."""
        self._store = store
        self._verifier = verifier
        self._seen: SignedCheckpoint | None = None

    def head(self) -> SignedCheckpoint:
        """Return the newest log checkpoint, its signature verified.

        Raises:
            LedgerTruncated: there is none.
            LedgerAltered: it is not what the log's key has signed.

        """
        return self.read_head(self._store.head())

    def read_head(self, text: bytes | None) -> SignedCheckpoint:
        """Verify a log checkpoint as stored; the one seen last is not verified again."""
        if text is None:
            raise LedgerTruncated("the store holds no log checkpoint", where=HEAD)
        seen = self._seen
        if seen is not None and seen.text == text:
            return seen
        try:
            found = checkpoints.parse(text, self._verifier, where=HEAD)
        except (BadInput, SignatureInvalid) as error:
            raise LedgerAltered(error.message, where=HEAD) from None
        self._seen = found
        return found

    def nodes(self) -> NodeSource:
        """Return a source of the tree's nodes, good for the head that was read before it."""
        return nodes(self._store.tile)

    def check_rows(self, rows: Sequence[LogRow]) -> list[Entry]:
        """Return `rows` as entries.

        Raises:
            LedgerAltered: a row's bytes are not the leaf at its index.

        """
        node = self.nodes()
        found: list[Entry] = []
        for row in rows:
            where = f"entry {row.index}"
            if node(0, row.index) != leaf_hash(row.raw):
                raise LedgerAltered("the entry is not the one that was signed", where=where)
            found.append(Entry(row.index, read_event(row, where=where), row.raw))
        return found

    def entry(self, index: int) -> Entry:
        """Return one entry, proven to be in the signed tree.

        Raises:
            NoSuchEntry: the log has no such index.
            LedgerAltered: the bytes are not the leaf's, or the row is missing.

        """
        head = self.head()
        if not 0 <= index < head.size:
            raise NoSuchEntry(f"the log has {head.size} entries", where=f"entry {index}")
        row = self._row(index)
        self.check_rows([row])
        return self._proven(row, head)

    def marked(self, index: int, leaf: bytes) -> Entry:
        """Return the entry at `index`, whose leaf hash is known from the signed root.

        Raises:
            LedgerAltered: the bytes are not the leaf's, or the row is missing.

        """
        row = self._row(index)
        if leaf_hash(row.raw) != leaf:
            raise LedgerAltered("the entry is not the one that was signed", where=f"entry {index}")
        return Entry(index, read_event(row, where=f"entry {index}"), row.raw)

    def _row(self, index: int) -> LogRow:
        """Return the row of an entry that must be there."""
        rows = self._store.rows(LogQuery(start=index, stop=index + 1))
        if not rows:
            raise LedgerAltered("the entry is missing", where=f"entry {index}")
        return rows[0]

    def _proven(self, row: LogRow, head: SignedCheckpoint) -> Entry:
        """Return a row as an entry, its bytes proven to be in the tree under `head`."""
        where = f"entry {row.index}"
        proof = prove_inclusion(row.index, head.size, self.nodes())
        try:
            check_inclusion(leaf_hash(row.raw), row.index, head.size, proof=proof, root=head.root)
        except ProofInvalid:
            raise LedgerAltered("the entry is not in the signed tree", where=where) from None
        return Entry(row.index, read_event(row, where=where), row.raw)

    def latest(self, action: str, object_: str) -> Entry | None:
        """Return the newest entry of that action and object that the store's index finds, proven to be in the tree.

        Raises:
            LedgerAltered: its bytes are not in the tree, or say something else than the store's index.

        """
        head = self.head()
        rows = self._store.rows(LogQuery(stop=head.size, action=action, object=object_, newest=True, limit=1))
        return self._proven(rows[0], head) if rows else None

    def scan(self, query: LogQuery) -> Iterator[Entry]:
        """Yield the entries that fit `query` (its limit is a page, not an end), oldest first, up to the head of now."""
        stop = self.head().size
        while rows := self._store.rows(replace(query, stop=stop, limit=_PAGE)):
            yield from self.check_rows(rows)
            query = replace(query, start=rows[-1].index + 1)

    def tail(self, count: int) -> list[Entry]:
        """Return the newest `count` entries, oldest first."""
        size = self.head().size
        return list(self.scan(LogQuery(start=max(0, size - count)))) if count > 0 else []

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the inclusion proof of an entry in the tree of `size`."""
        return prove_inclusion(index, size, self.nodes())

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Return the consistency proof between two sizes."""
        return prove_consistency(old, new, self.nodes())


def read_event(row: LogRow, *, where: str) -> events.Event:
    """Return the event of a row whose bytes are known to be the tree's.

    Raises:
        LedgerAltered: the bytes are no event, or the store's copies of its fields say something else.

    """
    try:
        event = events.decode(row.raw, where=where)
    except BadInput as error:
        raise LedgerAltered(error.message, where=where) from None
    copies = {"id": row.id, "action": row.action, "object": row.object, "claim": row.claim}
    for name, copy in copies.items():
        if copy != getattr(event, name):
            raise LedgerAltered(f"the index column {name!r} does not fit the entry", where=where)
    return event
