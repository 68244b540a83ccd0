"""The write side: check the tree that stands, decide which drafts go in, extend the tree, sign, commit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from strongroom.core.errors import (
    AlreadyClaimed,
    AlreadyExists,
    LedgerAltered,
    LedgerForked,
    LedgerRolledBack,
    LedgerTruncated,
    ProofInvalid,
    StrongroomError,
    TamperError,
)
from strongroom.ledger import checkpoints, events
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.combine import Draft, Pending
from strongroom.ledger.events import Receipt
from strongroom.ledger.keys import LogKey
from strongroom.ledger.merkle import check_consistency, leaf_hash, prove_consistency
from strongroom.ledger.reader import Reader
from strongroom.ledger.state import StateIndex
from strongroom.ledger.tiles import Growth, nodes
from strongroom.ports.log_store import LogQuery, LogRow, LogStore, LogWrite, Turn

_HEAD = "log checkpoint"


@dataclass(frozen=True, slots=True)
class _Tree:
    """The tree as last signed, ready to grow."""

    head: SignedCheckpoint
    growth: Growth


@dataclass(slots=True)
class _Plan:
    """Which drafts go in, in order, and what became of the others, by event id."""

    size: int
    stored: dict[str, LogRow]
    claimed: dict[str, bytes]  # the leaf hash of the entry that carries the claim
    doubt: TamperError | None = None  # why nobody knows what is claimed
    accepted: list[Draft] = field(default_factory=list[Draft])
    places: dict[str, int | StrongroomError] = field(default_factory=dict[str, int | StrongroomError])
    repeats: bool = False

    def consider(self, draft: Draft) -> int | StrongroomError:
        """Decide on one draft; return its index or why it stays out."""
        event = draft.event
        place: int | StrongroomError
        if event.claim is not None and self.doubt is not None:
            place = _same(self.doubt)
        elif (row := self.stored.get(event.id)) is not None:
            self.repeats = True
            place = self._repeated(draft, row)
        elif event.claim is not None and event.claim in self.claimed:
            place = AlreadyClaimed("a ledger entry has claimed this right", where=event.claim[:80])
        else:
            place = self.size + len(self.accepted)
            self._accept(draft, place)
        return place

    def _repeated(self, draft: Draft, row: LogRow) -> int | StrongroomError:
        """Decide on a draft whose id the store knows; a claim counts only if the signed entries carry it too."""
        event = draft.event
        if row.raw != draft.raw:
            return AlreadyExists("an entry with this id says something else", where=event.id[:80])
        if event.claim is not None and self.claimed.get(event.claim) != leaf_hash(row.raw):
            return LedgerAltered("the entry is not the one that was signed", where=f"entry {row.index}")
        return row.index

    def _accept(self, draft: Draft, index: int) -> None:
        """Take a draft in; what follows in the same batch sees it as stored."""
        event = draft.event
        self.accepted.append(draft)
        self.stored[event.id] = _row(index, draft)
        if event.claim is not None:
            self.claimed[event.claim] = leaf_hash(draft.raw)


def _same(error: StrongroomError) -> StrongroomError:
    """Return an error like `error`: each thread raises one of its own, for a shared one would mix up tracebacks."""
    return type(error)(error.message, where=error.where, remedy=error.advice)


def _row(index: int, draft: Draft) -> LogRow:
    """Return the row of a draft at its place."""
    event = draft.event
    return LogRow(index, draft.raw, event.id, event.action, event.object, event.claim)


class Writer:
    """Writes batches of drafts. One thread at a time calls it; the store keeps other processes out."""

    def __init__(self, store: LogStore, key: LogKey, state: StateIndex) -> None:
        """Write to `store`, sign with `key`; `state` knows what is claimed."""
        self._store = store
        self._state = state
        self._key = key
        self._reader = Reader(store, key.verifier)
        self._tree: _Tree | None = None

    def settle(self, pending: Sequence[Pending], more: Callable[[], Sequence[Pending]]) -> None:
        """Give every pending draft its outcome: a receipt once it is durable, or why it is not in the log."""
        everybody = list(pending)
        try:
            with self._store.turn([one.draft.raw for one in pending], _check_offer) as turn:
                everybody += more()
                self._write(everybody, turn)
        except StrongroomError as error:
            self._tree = None  # whatever stands in the store now is read and checked anew
            for one in everybody:
                if one.outcome is None:
                    one.outcome = _same(error)

    def _write(self, everybody: Sequence[Pending], turn: Turn) -> None:
        """Write one batch; outcomes are set only after the commit."""
        tree = self._current(turn)
        offered = list(_drafts(turn.offered))
        plan = self._plan(tree.head, turn, [*(one.draft for one in everybody), *offered])
        places = [plan.consider(one.draft) for one in everybody]
        for draft in offered:
            plan.consider(draft)
        self._tree = self._commit(tree, plan, turn)
        for one, place in zip(everybody, places, strict=True):
            one.outcome = Receipt(place, self._tree.head.size) if isinstance(place, int) else place

    def _plan(self, head: SignedCheckpoint, turn: Turn, drafts: Sequence[Draft]) -> _Plan:
        """Look up the ids and claims of `drafts`. If the claims can't be known, what claims nothing still goes in."""
        ids = tuple({draft.event.id for draft in drafts})
        stored = turn.rows(LogQuery(ids=ids, limit=len(ids)))
        plan = _Plan(head.size, {row.id: row for row in stored}, {})
        if claims := {draft.event.claim for draft in drafts if draft.event.claim is not None}:
            try:
                plan.claimed = self._state.claimed(claims, head)
            except TamperError as error:
                plan.doubt = error
        return plan

    def _commit(self, tree: _Tree, plan: _Plan, turn: Turn) -> _Tree:
        """Extend, sign and store the tree; return the one that stands now."""
        if not plan.accepted and not plan.repeats:
            return tree
        # A repeat was visible, yet perhaps not durable: its writer may have been killed before the fsync. Committing
        # again, even nothing, makes it so before it is acknowledged.
        growth = tree.growth.copy()
        growth.extend(leaf_hash(draft.raw) for draft in plan.accepted)
        head = tree.head
        if plan.accepted:
            head = checkpoints.sign(growth.frontier.size, growth.frontier.root(), self._key.signer)
        rows = [_row(tree.head.size + at, draft) for at, draft in enumerate(plan.accepted)]
        turn.commit(LogWrite(rows=rows, tiles=growth.changed, head=head.text, was=tree.head.text))
        return _Tree(head, growth)

    def _current(self, turn: Turn) -> _Tree:
        """Return the tree that stands: the one we left if nobody wrote since, else loaded and checked."""
        text = turn.head()
        if self._tree is not None and self._tree.head.text == text:
            return self._tree
        head = self._reader.read_head(text)
        if self._tree is not None:
            _check_extends(self._tree.head, head, self._store)
        growth = Growth.load(head.size, self._store.tile)
        if growth.frontier.root() != head.root:
            raise LedgerAltered("the tiles do not fit the signed log checkpoint", where=_HEAD)
        _check_edge(turn, self._reader, head)
        return _Tree(head, growth)


def _check_offer(raw: bytes) -> object:
    """Refuse spooled bytes that are no event."""
    return events.decode(raw, where="spool")


def _drafts(raws: Iterable[bytes]) -> Iterable[Draft]:
    """Read what other processes offered; the store has checked it with `_check_offer`."""
    return (Draft(events.decode(raw, where="spool"), raw) for raw in raws)


def _check_edge(turn: Turn, reader: Reader, head: SignedCheckpoint) -> None:
    """Return if the newest row is the newest leaf.

    Raises:
        LedgerTruncated: rows are missing.
        LedgerAltered: the newest row is another one, or rows stand beyond the tree.

    """
    newest = turn.rows(LogQuery(newest=True, limit=1))
    count = newest[0].index + 1 if newest else 0
    if count < head.size:
        raise LedgerTruncated(f"{head.size} entries are signed, {count} stand", where=f"entry {count}")
    if count > head.size:
        raise LedgerAltered("entries stand beyond the signed log checkpoint", where=f"entry {head.size}")
    reader.check_rows(newest)


def _check_extends(old: SignedCheckpoint, new: SignedCheckpoint, store: LogStore) -> None:
    """Return if `new` extends what this process saw last.

    Raises:
        LedgerRolledBack: it is older.
        LedgerForked: it contradicts it.

    """
    if new.size < old.size:
        raise LedgerRolledBack(f"the log has {new.size} entries; it had {old.size}", where=_HEAD)
    try:
        proof = prove_consistency(old.size, new.size, nodes(store.tile))
        check_consistency((old.size, old.root), (new.size, new.root), proof)
    except ProofInvalid:
        raise LedgerForked(f"the log at {new.size} contradicts the log at {old.size}", where=_HEAD) from None


def begin(store: LogStore, key: LogKey) -> None:
    """Sign the empty tree of a new log.

    Raises:
        AlreadyExists: the store holds a log.
        LedgerUnavailable: it can't be written.

    """
    with store.turn([], _check_offer) as turn:
        if turn.head() is not None or turn.rows(LogQuery(limit=1)):
            raise AlreadyExists("the store holds a log", where=key.origin)
        head = checkpoints.sign(0, Growth.load(0, store.tile).frontier.root(), key.signer)
        turn.commit(LogWrite(rows=[], tiles={}, head=head.text, was=None))
