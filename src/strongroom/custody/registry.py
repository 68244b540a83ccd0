"""The registry: which checkpoints exist, under which names, held by whom.

A record says what a checkpoint is; the ledger's newest ``custody.sealed`` entry says which record is current. So a tag
that was moved back, or a record put back from an old copy, is noticed, and an older authentic version is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from strongroom.access.keys import PublicKeys
from strongroom.access.settle import settle
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import AlreadyClaimed, Busy, NoSuchCheckpoint, RecordAltered
from strongroom.core.ids import CheckpointName
from strongroom.custody.formats import Envelope
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Records, Stored

Entitled = Callable[[Entry, CheckpointName], bool]

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
    key: str  # fingerprint of the keys that it was signed with

    @property
    def title(self) -> CheckpointName:
        """The name and tag."""
        return CheckpointName(self.name, self.tag)


@dataclass(frozen=True, slots=True)
class Held:
    """An envelope where it is kept: the record's key and person are the keeper's word, the envelope may say another."""

    key: str
    person: str
    envelope: Envelope

    def fits(self, keys: PublicKeys | None, version: int) -> bool:
        """Whether it is kept, and is, for these keys and that version."""
        if keys is None:
            return False
        one = self.envelope
        return self.key == _key(one) and (one.person, one.key, one.version) == (
            self.person,
            keys.fingerprint(),
            version,
        )


def subject(name: CheckpointName) -> str:
    """Return how the ledger names a checkpoint."""
    return f"checkpoint:{name}"


class Registry:
    """The checkpoints of one home."""

    def __init__(self, records: Records, journal: Journal, *, entitled: Entitled) -> None:
        """Keep the registry in `records`, pinned by the ledger behind `journal`.

        `entitled` tells whether whoever made an entry might seal that checkpoint then, with the keys that it names.
        """
        self._records = records
        self._journal = journal
        self._entitled = entitled

    def current(self, name: CheckpointName) -> Registered:
        """Return the current version of `name`.

        Raises:
            NoSuchCheckpoint: nothing was sealed under that name.
            RecordAltered: the record is not the one that the ledger names.

        """
        entry = self.pin(name)
        stored = self._records.get(_CHECKPOINT, f"{name}/{entry.event.detail.get('checkpoint')}")
        if stored is None:
            raise RecordAltered("the record that the ledger names is gone", where=subject(name))
        record = decode(stored.document, Registered, where=subject(name))
        if _pins(record) != {key: entry.event.detail.get(key) for key in _pins(record)}:
            raise RecordAltered("the record is not the one that the ledger names", where=subject(name))
        return record

    def pin(self, name: CheckpointName) -> Entry:
        """Return the ledger entry that says which version of `name` is current: the newest that counts.

        An entry counts if its version is higher than all before it, and if whoever made it had the right to seal then:
        so nobody brings an older version back, or makes a good one unreachable by a bad one.

        Raises:
            NoSuchCheckpoint: nothing was sealed under that name.

        """
        newest: Entry | None = None
        highest = 0
        for entry in self._journal.ledger.find(action=SEALED, object=subject(name)):
            version = entry.event.detail.get("version")
            if isinstance(version, int) and version > highest:
                highest = version
                counts = entry.event.outcome == "done" and self._entitled(entry, name)
                newest = entry if counts else newest
        if newest is None:
            raise NoSuchCheckpoint("nothing was sealed under that name", where=str(name))
        return newest

    def next_version(self, name: CheckpointName) -> int:
        """Return the version that the next sealing under `name` takes: one more than the ledger has seen."""
        entries = self._journal.ledger.find(action=SEALED, object=subject(name))
        seen = (entry.event.detail.get("version") for entry in entries)
        return 1 + max((version for version in seen if isinstance(version, int)), default=0)

    def all(self) -> list[Registered]:
        """Return the current version of every checkpoint, by name."""
        subjects = {entry.event.object for entry in self._journal.ledger.find(action=SEALED)}
        names = (CheckpointName.parse(one.partition(":")[2]) for one in sorted(subjects))
        return [self.current(name) for name in names if self._has(name)]

    def history(self, name: CheckpointName) -> Iterator[Entry]:
        """Return every ledger entry about `name`, oldest first."""
        return self._journal.ledger.find(object=subject(name))

    def register(self, record: Registered, envelopes: Sequence[Envelope], *, who: str) -> None:
        """Make `record` the current version: documents first, inert, then the ledger entry that makes them count.

        Raises:
            Busy: somebody else has sealed this version meanwhile.

        """
        self.exchange(add=envelopes, drop=[])
        settle(self._records, _CHECKPOINT, put={f"{record.title}/{record.checkpoint}": encode(record)})
        detail: Detail = {**_pins(record), "tensors": record.tensors, "bytes": record.bytes}
        claim = f"version:{record.title}@{record.version}"
        try:
            self._journal.record(Act(who, SEALED, subject(record.title)), "done", detail=detail, claim=claim)
        except AlreadyClaimed:
            message = f"version {record.version} was sealed by somebody else meanwhile"
            raise Busy(message, where=str(record.title)) from None

    # ── envelopes ────────────────────────────────────────────────────────────────────────────────────────────────────
    def envelopes(self, checkpoint: str) -> list[Held]:
        """Return the envelopes of `checkpoint`, by person: who holds its data key is one query."""
        return [_held(one) for one in self._records.scan(_ENVELOPE, f"{checkpoint}/")]

    def envelope(self, checkpoint: str, person: str, keys: PublicKeys) -> Envelope | None:
        """Return the data key of `checkpoint` wrapped to `keys` of `person`, or None."""
        stored = self._records.get(_ENVELOPE, _envelope_key(checkpoint, person, keys.fingerprint()))
        return None if stored is None else decode(stored.document, Envelope, where=f"envelope of {person}")

    def held_by(self, person: str) -> list[Held]:
        """Return every envelope that `person` holds, of superseded versions too."""
        return [held for held in map(_held, self._records.scan(_ENVELOPE)) if held.person == person]

    def exchange(self, *, add: Sequence[Envelope], drop: Sequence[Held]) -> None:
        """Add and delete envelopes, all at once."""
        settle(self._records, _ENVELOPE, put={_key(one): encode(one) for one in add}, drop=[one.key for one in drop])

    def _has(self, name: CheckpointName) -> bool:
        try:
            self.pin(name)
        except NoSuchCheckpoint:
            return False
        return True


def _pins(record: Registered) -> Detail:
    """Return what the ledger holds of a record."""
    return {
        "checkpoint": record.checkpoint,
        "version": record.version,
        "digest": record.manifest,
        "signer": record.signer,
        "key": record.key,
    }


def _held(stored: Stored) -> Held:
    return Held(stored.key, stored.key.split("/")[1], decode(stored.document, Envelope, where=stored.key))


def _key(envelope: Envelope) -> str:
    return _envelope_key(envelope.checkpoint, envelope.person, envelope.key)


def _envelope_key(checkpoint: str, person: str, fingerprint: str) -> str:
    """Return where an envelope is kept: by keys too, so that old and new ones stand side by side during a renewal."""
    return f"{checkpoint}/{person}/{fingerprint[:32]}"
