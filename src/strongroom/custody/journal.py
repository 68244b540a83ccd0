"""The journal of a sealing: what an attempt that was cut off leaves for the next one (format page, section 10).

It is signed: an unsigned one would let a stranger plant a data key of their own, wrapped to the custodian.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from strongroom.access.keys import Keyring
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import BadInput, Busy, SignatureInvalid
from strongroom.core.ids import CheckpointName, new_id
from strongroom.core.secrets import Secret
from strongroom.custody.formats import JOURNAL_TYPE, Journal, SignedJournal, pae
from strongroom.custody.keys import new_data_key, unwrap_key, wrap_key
from strongroom.custody.source import Source
from strongroom.ports.blobs import Stage

_JOURNAL = "journal.json"
_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class Identity:
    """What is to be sealed as: the caller draws `version` from the ledger and `created` from a clock."""

    name: CheckpointName
    version: int
    parent: str | None
    created: str
    replaced: tuple[str, ...] = ()  # earlier attempts at this very version, from another source


def take_up(
    stage: Stage, plan: Source, *, identity: Identity, keyring: Keyring, segment: int
) -> tuple[Journal, Secret]:
    """Return journal and data key of the attempt to go on with, or of a new one.

    Raises:
        Busy: another custodian began to seal that name.
        SignatureInvalid: the journal was altered.

    """
    name, old = identity.name, _read(stage, keyring)
    if old is not None and (old.name, old.tag, old.version) == (name.name, name.tag, identity.version):
        if (old.parent, old.segment, old.contents) == (identity.parent, segment, plan.digest()):
            return old, unwrap_key(old.envelope, keyring, checkpoint=old.checkpoint, version=old.version)
        identity = instead_of(old, identity)
    return begin(stage, plan, identity=identity, keyring=keyring, segment=segment)


def instead_of(old: Journal, identity: Identity) -> Identity:
    """Return `identity` for an attempt that stands in place of `old`, which may have published a folder."""
    return replace(identity, replaced=(*old.replaced, old.checkpoint))


def begin(stage: Stage, plan: Source, *, identity: Identity, keyring: Keyring, segment: int) -> tuple[Journal, Secret]:
    """Draw a data key and an id, and store the journal before any ciphertext."""
    key, checkpoint = new_data_key(), new_id("ckpt")
    envelope = wrap_key(key, keyring.public, person=keyring.name, checkpoint=checkpoint, version=identity.version)
    journal = Journal(
        checkpoint=checkpoint,
        name=identity.name.name,
        tag=identity.name.tag,
        version=identity.version,
        parent=identity.parent,
        created=identity.created,
        segment=segment,
        contents=plan.digest(),
        envelope=envelope,
        replaced=identity.replaced,
    )
    signature = keyring.sign(pae(JOURNAL_TYPE, encode(journal)))
    stage.put(_JOURNAL, encode(SignedJournal(journal=journal, signature=signature)))
    return journal, key


def _read(stage: Stage, keyring: Keyring) -> Journal | None:
    """Return the journal that this custodian left, or None.

    One that was altered is refused, not replaced: whoever could do that is somebody to find out about.
    """
    blob = stage.open(_JOURNAL)
    if blob is None:
        return None
    with closing(blob):
        buffer = bytearray(min(blob.size, _LIMIT))
        data = bytes(buffer[: blob.read_into(0, memoryview(buffer))])
    try:
        signed = decode(data, SignedJournal, where=_JOURNAL)
    except BadInput as error:
        raise SignatureInvalid(f"the journal was altered: {error.message}", where=_JOURNAL) from None
    journal = signed.journal
    if journal.envelope.person != keyring.name:
        raise Busy(f"{journal.envelope.person} began to seal it", where=f"{journal.name}:{journal.tag}")
    if journal.envelope.key != keyring.public.fingerprint():
        return None  # begun with keys that the custodian has renewed since: the data key is beyond reach, begin anew
    keyring.public.verify(signed.signature, pae(JOURNAL_TYPE, encode(journal)), where=_JOURNAL)
    return journal
