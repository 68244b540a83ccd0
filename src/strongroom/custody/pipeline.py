"""The pipeline of a sealing: plaintext of any origin in, encrypted and hashed segments out, in a few megabytes.

Worker threads read, encrypt and hash a segment each; the caller's thread writes them in order. What is sealed may be a
folder (`source`) or a checkpoint that is being marked for a recipient (`marked`): the pipeline asks both the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
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
    MANIFEST_TYPE,
    SEGMENT,
    SIGNATURE,
    Content,
    Contents,
    Manifest,
    SealedFile,
    Signature,
    associated,
    pae,
    sealed_name,
)
from strongroom.custody.keys import file_key
from strongroom.custody.memory import anonymous, wipe, workers
from strongroom.custody.read import Progress
from strongroom.ports.blobs import Blob, Stage


@dataclass(frozen=True, slots=True)
class Options:
    """How to seal: the segment length (tests take small ones), the threads, and who is told of progress."""

    segment: int = SEGMENT
    threads: int = 0
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Cover:
    """What the manifest of a sealing says of it."""

    checkpoint: str
    name: CheckpointName
    version: int
    parent: str | None
    created: str
    segment: int


class Plaintext(Protocol):
    """Plaintext of a known size that can be read at any offset, by several threads."""

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`."""
        ...


class Opened(Plaintext, Protocol):
    """One open file of what is being sealed."""

    def check_unchanged(self) -> None:
        """Return if it is what it was when it was opened.

        Raises:
            BadInput: somebody wrote to it.

        """
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Plan(Protocol):
    """What is to be sealed: a table of contents, and the files that it names."""

    @property
    def contents(self) -> Contents:
        """Return the table of contents."""
        ...

    def open(self, entry: Content) -> Opened:
        """Open one file."""
        ...


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


def seal_files(stage: Stage, plan: Plan, *, cover: Cover, data_key: Secret, options: Options) -> list[SealedFile]:
    """Seal the table of contents and every file onto `stage`, in order, going on where an earlier attempt stopped.

    Raises:
        BadInput: the source changed meanwhile.
        StorageError: the stage can't be written.

    """
    layout, threads = Layout(cover.segment), options.threads or workers()
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
        files = [_seal_one(work, _Bytes(toc), key=data_key, cover=cover, index=0)]
        work = _Work(stage, layout, pool, buffers, advance=advance)
        for entry in plan.contents.files:
            with closing(plan.open(entry)) as source:
                if source.size != entry.size:
                    raise BadInput("the file changed while it was being sealed", where=entry.path)
                files.append(_seal_one(work, source, key=data_key, cover=cover, index=entry.file))
                source.check_unchanged()
    for plain, _ in buffers:
        wipe(plain)
    return files


def _seal_one(work: _Work, source: Plaintext, *, key: Secret, cover: Cover, index: int) -> SealedFile:
    """Seal one file onto the stage, going on where an earlier attempt stopped; durable on return."""
    name = sealed_name(index)
    aad = associated(cover.checkpoint, cover.version, index)
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


def _encrypted(work: _Work, floe: Floe, source: Plaintext, *, first: int) -> Iterator[tuple[memoryview, bytes]]:
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


def _taken_up(work: _Work, source: Plaintext, *, key: Secret, aad: bytes, name: str) -> tuple[Floe, list[bytes]]:
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


def _compared(work: _Work, floe: Floe, blob: Blob, *, source: Plaintext) -> Iterator[bytes]:
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
        if not equal(plain[:length], wanted[:length]):
            return
        work.advance(length)
        yield blake3(there).digest()


def put_manifest(stage: Stage, files: list[SealedFile], *, cover: Cover, keyring: Keyring) -> bytes:
    """Write manifest and signature onto `stage`, beside payloads that are durable already; return the manifest."""
    manifest = encode(
        Manifest(
            checkpoint=cover.checkpoint,
            name=cover.name.name,
            tag=cover.name.tag,
            version=cover.version,
            parent=cover.parent,
            created=cover.created,
            segment=cover.segment,
            files=files,
        )
    )
    signature = Signature(signer=keyring.name, signature=keyring.sign(pae(MANIFEST_TYPE, manifest)))
    stage.put(MANIFEST, manifest)
    stage.put(SIGNATURE, encode(signature))
    return manifest


def names_of(files: list[SealedFile]) -> list[str]:
    """Return the names of everything that a sealed folder of `files` holds."""
    return [*(file.name for file in files), MANIFEST, SIGNATURE]


def equal(one: memoryview, other: memoryview) -> bool:
    """Whether two pieces of memory hold the same bytes."""
    return np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8))
