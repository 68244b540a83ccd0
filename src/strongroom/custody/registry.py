"""The registry: which checkpoints exist, under which names, held by whom.

A record says what a checkpoint is; the ledger's newest ``custody.sealed`` entry says which record is current. So a tag
that was moved back, or a record put back from an old copy, is noticed, and an older authentic version is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.access.directory import People
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import AlreadyClaimed, Busy, NoSuchCheckpoint, RecordAltered
from strongroom.core.ids import CheckpointName
from strongroom.custody.formats import Envelope
from strongroom.custody.judge import Expected
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

SEALED = "custody.sealed"  # the ledger action that makes a version the current one

_CHECKPOINT, _ENVELOPE = "checkpoint", "envelope"


class Registered(Record, frozen=True):
    """One version of a checkpoint."""

    checkpoint: str
    name: str
    tag: str
    version: int
    manifest: str  # SHA-256 of the signed manifest
    signer: str
    parent: str | None
    created: str
    tensors: int
    bytes: int
    single: bool  # sealed from one file, not from a folder
    host: str

    @property
    def title(self) -> CheckpointName:
        """The name and tag."""
        return CheckpointName(self.name, self.tag)


def subject(name: CheckpointName) -> str:
    """Return how the ledger names a checkpoint."""
    return f"checkpoint:{name}"


class Registry:
    """The checkpoints of one home."""

    def __init__(self, records: Records, journal: Journal, people: People) -> None:
        """Keep the registry in `records`, pinned by the ledger behind `journal`."""
        self._records = records
        self._journal = journal
        self._people = people

    def current(self, name: CheckpointName) -> Registered:
        """Return the current version of `name`.

        Raises:
            NoSuchCheckpoint: nothing was sealed under that name.
            RecordAltered: the record is not the one that the ledger names.

        """
        entry = self._journal.ledger.latest(SEALED, subject(name))
        if entry is None:
            raise NoSuchCheckpoint("nothing was sealed under that name", where=str(name))
        stored = self._records.get(_CHECKPOINT, f"{name}/{entry.event.detail.get('checkpoint')}")
        if stored is None:
            raise RecordAltered("the record that the ledger names is gone", where=subject(name))
        record = decode(stored.document, Registered, where=subject(name))
        if _pins(record) != {key: entry.event.detail.get(key) for key in _pins(record)}:
            raise RecordAltered("the record is not the one that the ledger names", where=subject(name))
        return record

    def expected(self, record: Registered) -> Expected:
        """Return what the sealed folder of `record` must prove to be."""
        return Expected(
            checkpoint=record.checkpoint,
            name=record.title,
            version=record.version,
            manifest=record.manifest,
            signer=record.signer,
            key=self._people.find(record.signer).certificate.keys,
        )

    def next_version(self, name: CheckpointName) -> int:
        """Return the version that the next sealing under `name` takes: one more than the ledger has seen."""
        entry = self._journal.ledger.latest(SEALED, subject(name))
        return 1 if entry is None else int(entry.event.detail.get("version", 0)) + 1

    def all(self) -> list[Registered]:
        """Return the current version of every checkpoint, by name."""
        names = {stored.key.rpartition("/")[0] for stored in self._records.scan(_CHECKPOINT)}
        titles = (CheckpointName.parse(name) for name in sorted(names))
        return [self.current(title) for title in titles if self._journal.ledger.latest(SEALED, subject(title))]

    def history(self, name: CheckpointName) -> Iterator[Entry]:
        """Return every ledger entry about `name`, oldest first."""
        return self._journal.ledger.find(object=subject(name))

    def register(self, record: Registered, envelopes: Sequence[Envelope], *, who: str) -> None:
        """Make `record` the current version: documents first, inert, then the ledger entry that makes them count.

        Raises:
            Busy: somebody else has sealed this version meanwhile.

        """
        key = f"{record.title}/{record.checkpoint}"
        changes = [
            self._change(_CHECKPOINT, key, encode(record)),
            *(self._change(_ENVELOPE, _key(one), encode(one)) for one in envelopes),
        ]
        self._records.apply(changes)
        detail: Detail = {**_pins(record), "tensors": record.tensors, "bytes": record.bytes}
        claim = f"version:{record.title}@{record.version}"
        try:
            self._journal.record(Act(who, SEALED, subject(record.title)), "done", detail=detail, claim=claim)
        except AlreadyClaimed:
            message = f"version {record.version} was sealed by somebody else meanwhile"
            raise Busy(message, where=str(record.title)) from None

    # ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────
    def envelope(self, checkpoint: str, person: str) -> Envelope | None:
        """Return the data key of `checkpoint` wrapped to `person`, or None."""
        stored = self._records.get(_ENVELOPE, f"{checkpoint}/{person}")
        return None if stored is None else decode(stored.document, Envelope, where=f"envelope of {person}")

    def holders(self, checkpoint: str) -> list[str]:
        """Return who holds an envelope of `checkpoint`: one query."""
        return [stored.key.rpartition("/")[2] for stored in self._records.scan(_ENVELOPE, f"{checkpoint}/")]

    def exchange(self, checkpoint: str, *, add: Sequence[Envelope], drop: Sequence[str]) -> None:
        """Add and delete envelopes, all at once."""
        changes = [self._change(_ENVELOPE, _key(one), encode(one)) for one in add]
        changes += [self._change(_ENVELOPE, f"{checkpoint}/{person}", None) for person in drop]
        if changes:
            self._records.apply(changes)

    def _change(self, kind: str, key: str, document: bytes | None) -> Change:
        stored = self._records.get(kind, key)
        return Change(kind=kind, key=key, expect=0 if stored is None else stored.version, document=document)


def _pins(record: Registered) -> Detail:
    """Return what the ledger holds of a record."""
    return {
        "checkpoint": record.checkpoint,
        "version": record.version,
        "digest": record.manifest,
        "signer": record.signer,
    }


def _key(envelope: Envelope) -> str:
    return f"{envelope.checkpoint}/{envelope.person}"
