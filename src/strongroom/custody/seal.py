"""Seal a checkpoint: stream in, encrypt, hash, stream out, in a few megabytes and without a plaintext byte on disk.

A sealing that was cut off is taken up again: what is there is decrypted and compared with the source, so nothing on the
stage is believed. The stream itself is `pipeline`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from strongroom.access.keys import Keyring
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.formats import MANIFEST, MANIFEST_LIMIT, Content, Envelope, Journal, SealedFile
from strongroom.custody.journal import Identity, begin, instead_of, take_up
from strongroom.custody.judge import Expected
from strongroom.custody.memory import anonymous
from strongroom.custody.pipeline import Cover, Options, equal, names_of, put_manifest, seal_files
from strongroom.custody.read import SealedReader
from strongroom.custody.source import Source, scan
from strongroom.ports.blobs import Blobs


@dataclass(frozen=True, slots=True)
class SealResult:
    """A published folder. `manifest` goes into the ledger, `envelope` into the records.

    `replaced` are folders that attempts at this very version may have published from another source.
    """

    folder: str
    checkpoint: str
    manifest: str
    data_key: Secret
    envelope: Envelope
    tensors: int
    files: int
    bytes: int
    sealed_bytes: int
    replaced: tuple[str, ...] = ()


def seal(
    source: Path, blobs: Blobs, *, identity: Identity, keyring: Keyring, options: Options | None = None
) -> SealResult:
    """Seal `source` into a folder of `blobs`, signed by the keyring's owner; call again after a crash.

    The folder is published, durable and complete on return. The caller then writes the records, then the ledger entry,
    then calls `discard`. Until then a repeated call with an unchanged source returns the same folder, checked.

    Raises:
        BadInput: the source is not what may be sealed, or changed meanwhile; the message names file and place.
        Busy: another process, or another custodian's unfinished sealing, holds the name.
        StorageError: the store can't be written; repeat the call to go on.

    """
    options = options or Options()
    plan = scan(source)
    with closing(blobs.stage(str(identity.name))) as stage:
        journal, data_key = take_up(stage, plan, identity=identity, keyring=keyring, segment=options.segment)
        taken: tuple[bytes, list[SealedFile]] | None = None
        if blobs.names(journal.checkpoint) is not None:  # an earlier attempt got as far as its rename
            taken = _taken_published(blobs, plan, journal=journal, data_key=data_key, keyring=keyring)
            if taken is None:
                anew = instead_of(journal, identity)
                journal, data_key = begin(stage, plan, identity=anew, keyring=keyring, segment=options.segment)
        if taken is None:
            cover = _cover(journal)
            files = seal_files(stage, plan, cover=cover, data_key=data_key, options=options)
            taken = put_manifest(stage, files, cover=cover, keyring=keyring), files
            stage.publish(journal.checkpoint, names_of(files))
    manifest, files = taken
    return SealResult(
        folder=journal.checkpoint,
        checkpoint=journal.checkpoint,
        manifest=hashlib.sha256(manifest).hexdigest(),
        data_key=data_key,
        envelope=journal.envelope,
        tensors=plan.tensors,
        files=len(plan.places),
        bytes=sum(entry.size for entry in plan.contents.files),
        sealed_bytes=sum(file.size for file in files),
        replaced=journal.replaced,
    )


def discard(blobs: Blobs, name: CheckpointName, *, replaced: Sequence[str] = ()) -> None:
    """Forget the sealing of `name`: once the ledger has its entry, or to throw away an unfinished one.

    With its result's `replaced`, remove those folders too. Not before the ledger has the entry: it has one for each
    version, so that only then nobody can be about to register what is removed.

    Raises:
        Busy: a process is at work on it.

    """
    for folder in replaced:
        blobs.remove(folder)
    blobs.discard(str(name))


def _cover(journal: Journal) -> Cover:
    """Return what the manifest of the attempt says."""
    return Cover(
        checkpoint=journal.checkpoint,
        name=CheckpointName(journal.name, journal.tag),
        version=journal.version,
        parent=journal.parent,
        created=journal.created,
        segment=journal.segment,
    )


def _taken_published(
    blobs: Blobs, plan: Source, *, journal: Journal, data_key: Secret, keyring: Keyring
) -> tuple[bytes, list[SealedFile]] | None:
    """Return manifest and files of the folder that an earlier attempt published, if it holds this very source."""
    blob = blobs.open(journal.checkpoint, MANIFEST)
    if blob is None:
        return None
    with closing(blob):
        buffer = bytearray(min(blob.size, MANIFEST_LIMIT))
        manifest = bytes(buffer[: blob.read_into(0, memoryview(buffer))])
    expected = Expected(
        checkpoint=journal.checkpoint,
        name=CheckpointName(journal.name, journal.tag),
        version=journal.version,
        manifest=hashlib.sha256(manifest).hexdigest(),
        signer=keyring.name,
        key=keyring.public,
    )
    with closing(SealedReader(blobs, journal.checkpoint, expected=expected, data_key=data_key)) as reader:
        same = all(_same(reader, entry, plan) for entry in plan.contents.files)
        return (manifest, reader.manifest.files) if same else None


def _same(reader: SealedReader, entry: Content, plan: Source) -> bool:
    """Say whether the sealed file and the source hold the same bytes; every hash and tag is checked on the way."""
    size, step = entry.size, reader.layout.payload
    ours, theirs = anonymous(step), anonymous(step)
    with closing(plan.open(entry)) as source:
        for start in range(0, size, step):
            length = min(step, size - start)
            reader.read_into(entry.file, start, ours[:length])
            source.read_into(start, theirs[:length])
            if not equal(ours[:length], theirs[:length]):
                return False
    return True
