"""Seal a checkpoint: stream in, encrypt, hash, stream out, in a few megabytes and without a plaintext byte on disk.

Worker threads read, encrypt and hash a segment each; the caller's thread writes them in order. A sealing that was
cut off is taken up again: what is there is decrypted and compared with the source, so nothing on the stage is believed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from blake3 import blake3

from strongroom.access.keys import Keyring
from strongroom.core.canonical import encode
from strongroom.core.errors import BadInput, SegmentForged, WrongKey
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.floe import HEADER_BYTES, Floe, Layout
from strongroom.custody.formats import (
    MANIFEST,
    MANIFEST_LIMIT,
    MANIFEST_TYPE,
    SEGMENT,
    SIGNATURE,
    Content,
    Envelope,
    Journal,
    Manifest,
    SealedFile,
    Signature,
    associated,
    pae,
    sealed_name,
)
from strongroom.custody.journal import Identity, begin, instead_of, take_up
from strongroom.custody.judge import Expected
from strongroom.custody.keys import file_key
from strongroom.custody.memory import anonymous, wipe, workers
from strongroom.custody.read import Progress, SealedReader
from strongroom.custody.source import Source, scan
from strongroom.ports.blobs import Blob, Blobs, Stage


@dataclass(frozen=True, slots=True)
class Options:
    """How to seal: the segment length (tests take small ones), the threads, and who is told of progress."""

    segment: int = SEGMENT
    threads: int = 0
    progress: Progress | None = None


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


class _Plain(Protocol):
    """Plaintext of a known size that can be read at any offset."""

    size: int

    def read_into(self, offset: int, buffer: memoryview) -> None: ...


class _Bytes:
    """Plaintext in memory: the table of contents."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self._data[offset : offset + len(buffer)]


@dataclass(frozen=True, slots=True)
class _Work:
    """What one sealing holds together."""

    stage: Stage
    layout: Layout
    pool: ThreadPoolExecutor
    buffers: deque[tuple[memoryview, memoryview]]
    advance: Callable[[int], None]


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
            files = _seal_files(stage, plan, journal=journal, data_key=data_key, options=options)
            taken = _publish(stage, files, journal=journal, keyring=keyring), files
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


def _seal_files(
    stage: Stage, plan: Source, *, journal: Journal, data_key: Secret, options: Options
) -> list[SealedFile]:
    """Seal the table of contents and every file, in order."""
    layout, threads = Layout(journal.segment), options.threads or workers()
    total, done = sum(entry.size for entry in plan.contents.files), 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if options.progress:
            options.progress(min(done, total), total)

    buffers = deque((anonymous(layout.payload), anonymous(layout.segment)) for _ in range(threads + 2))
    toc = encode(plan.contents)
    with ThreadPoolExecutor(threads) as pool:
        work = _Work(stage, layout, pool, buffers, advance=lambda _size: None)
        files = [_seal_one(work, _Bytes(toc), key=data_key, journal=journal, index=0)]
        work = _Work(stage, layout, pool, buffers, advance=advance)
        for entry in plan.contents.files:
            with closing(plan.open(entry)) as source:
                if source.size != entry.size:
                    raise BadInput("the file changed while it was being sealed", where=entry.path)
                files.append(_seal_one(work, source, key=data_key, journal=journal, index=entry.file))
                source.check_unchanged()
    for plain, _ in buffers:
        wipe(plain)
    return files


def _seal_one(work: _Work, source: _Plain, *, key: Secret, journal: Journal, index: int) -> SealedFile:
    """Seal one file onto the stage, going on where an earlier attempt stopped; durable on return."""
    name = sealed_name(index)
    aad = associated(journal.checkpoint, journal.version, index)
    floe, hashes = _taken_up(work, source, key=file_key(key, aad), aad=aad, name=name)
    with closing(work.stage.append(name, at=_end(work.layout, len(hashes), source.size))) as sink:
        if not hashes:
            sink.write(floe.header)
        for sealed, digest in _encrypted(work, floe, source, first=len(hashes)):
            sink.write(sealed)
            hashes.append(digest)
        sink.sync()
    floe.wipe()
    return SealedFile(
        name=name,
        size=work.layout.sealed(source.size),
        header=blake3(floe.header).hexdigest(),
        segments=b"".join(hashes),
    )


def _end(layout: Layout, good: int, size: int) -> int:
    """Return where the sealed file is cut: after its `good` segments, the last of which may be a short one."""
    return min(layout.place(good), layout.sealed(size)) if good else 0


def _encrypted(work: _Work, floe: Floe, source: _Plain, *, first: int) -> Iterator[tuple[memoryview, bytes]]:
    """Yield the sealed segments from `first` on, with their hashes; each is valid until the next is asked for."""
    size = source.size
    count = work.layout.count(size)

    def make(index: int, plain: memoryview, sealed: memoryview) -> tuple[memoryview, bytes]:
        start, stop = work.layout.span(index, size)
        source.read_into(start, plain[: stop - start])
        out = sealed[: stop - start + work.layout.segment - work.layout.payload]
        floe.encrypt_into(plain[: stop - start], out, index=index, last=index == count - 1)
        return out, blake3(out).digest()

    waiting: deque[tuple[Future[tuple[memoryview, bytes]], tuple[memoryview, memoryview], int]] = deque()
    following = iter(range(first, count))
    while True:
        while work.buffers and (index := next(following, None)) is not None:
            pair = work.buffers.popleft()
            waiting.append((work.pool.submit(make, index, *pair), pair, index))
        if not waiting:
            return
        future, pair, index = waiting.popleft()
        yield future.result()
        start, stop = work.layout.span(index, size)
        work.advance(stop - start)
        work.buffers.append(pair)


def _taken_up(work: _Work, source: _Plain, *, key: Secret, aad: bytes, name: str) -> tuple[Floe, list[bytes]]:
    """Return the cipher state and the hashes of the segments that stand on the stage and are the source's."""
    fresh = Floe.start(key, segment=work.layout.segment, aad=aad)
    blob = work.stage.open(name)
    if blob is None:
        return fresh, []
    with closing(blob):
        header = bytearray(HEADER_BYTES)
        if blob.read_into(0, memoryview(header)) < HEADER_BYTES or bytes(header[:10]) != fresh.header[:10]:
            return fresh, []
        try:
            floe = Floe.resume(key, bytes(header), aad=aad, where=name)
        except WrongKey:  # left by another attempt
            return fresh, []
        hashes = list(_compared(work, floe, blob, source=source))
    return (floe, hashes) if hashes else (fresh, [])


def _compared(work: _Work, floe: Floe, blob: Blob, *, source: _Plain) -> Iterator[bytes]:
    """Yield the hash of each staged segment up to the first that is missing, torn, or not the source's."""
    layout, size = work.layout, source.size
    count = layout.count(size)
    plain, sealed = work.buffers[0]
    wanted = anonymous(layout.payload)
    for index in range(count):
        start, stop = layout.span(index, size)
        length = stop - start
        there = sealed[: length + layout.segment - layout.payload]
        if blob.read_into(layout.place(index), there) < len(there):
            return
        try:
            floe.decrypt_into(there, plain[:length], index=index, last=index == count - 1, where="stage")
        except SegmentForged:
            return
        source.read_into(start, wanted[:length])
        if not _equal(plain[:length], wanted[:length]):
            return
        work.advance(length)
        yield blake3(there).digest()


def _publish(stage: Stage, files: list[SealedFile], *, journal: Journal, keyring: Keyring) -> bytes:
    """Write manifest and signature, then let the folder appear. Every payload is durable already."""
    manifest = encode(
        Manifest(
            checkpoint=journal.checkpoint,
            name=journal.name,
            tag=journal.tag,
            version=journal.version,
            parent=journal.parent,
            created=journal.created,
            segment=journal.segment,
            files=files,
        )
    )
    signature = Signature(signer=keyring.name, signature=keyring.sign(pae(MANIFEST_TYPE, manifest)))
    stage.put(MANIFEST, manifest)
    stage.put(SIGNATURE, encode(signature))
    stage.publish(journal.checkpoint, [*(file.name for file in files), MANIFEST, SIGNATURE])
    return manifest


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
            if not _equal(ours[:length], theirs[:length]):
                return False
    return True


def _equal(one: memoryview, other: memoryview) -> bool:
    return np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))
