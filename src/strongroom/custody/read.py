"""Verify a sealed checkpoint without a key; open one with its key and read any part of any file.

Each segment is read once into a private buffer, hashed there while it is in cache, and decrypted from there into the
memory that it is wanted in. A file that is changed between hash and decryption is therefore changed for nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from blake3 import blake3

from strongroom.core.errors import (
    BadInput,
    InputTooLarge,
    ManifestAltered,
    ManifestMissing,
    PayloadMissing,
    PayloadTruncated,
    SegmentAltered,
    SegmentForged,
)
from strongroom.core.secrets import Secret
from strongroom.custody.floe import HEADER_BYTES, Floe, Layout
from strongroom.custody.formats import (
    HASH_BYTES,
    MANIFEST,
    MANIFEST_LIMIT,
    SIGNATURE,
    SIGNATURE_LIMIT,
    Contents,
    Manifest,
    SealedFile,
    associated,
    read_contents,
)
from strongroom.custody.judge import Expected, judge_manifest, judge_names, judge_start, whose_segment
from strongroom.custody.keys import file_key
from strongroom.custody.memory import Scratch, anonymous, wipe, workers
from strongroom.ports.blobs import Blob, Folders

Progress = Callable[[int, int], None]
_BATCH = 8  # segments that a thread takes at a time
_CACHED = 8  # decrypted segments kept for small tensors that share one
_CONTENTS_LIMIT = 128 << 20


@dataclass(frozen=True, slots=True)
class Verified:
    """What was verified: so many segments, so many bytes of ciphertext, under this manifest."""

    manifest: Manifest
    segments: int
    bytes: int


class Reader(Protocol):
    """An opened checkpoint: any range of any file, as plaintext. Threads may share it."""

    @property
    def describe(self) -> Callable[[int, int], str]:
        """Return what says, for errors, what a segment of a file holds. Whoever knows the tensors sets a better one."""
        ...

    @describe.setter
    def describe(self, describe: Callable[[int, int], str]) -> None:
        """Set it."""
        ...

    @property
    def contents(self) -> Contents:
        """Return the table of contents."""
        ...

    @property
    def layout(self) -> Layout:
        """Return how files are cut into segments."""
        ...

    def size(self, file: int) -> int:
        """Return the plaintext size of `file`."""
        ...

    def read_into(self, file: int, offset: int, target: memoryview) -> None:
        """Fill `target` with the plaintext of `file` from `offset`."""
        ...

    def load_into(
        self, file: int, target: memoryview, *, pool: ThreadPoolExecutor, progress: Progress | None = None
    ) -> None:
        """Fill `target` with the whole of `file`, on the threads of `pool`."""
        ...

    def close(self) -> None:
        """Wipe keys and cached plaintext, close the files."""
        ...


def verify(blobs: Folders, folder: str, *, expected: Expected, progress: Progress | None = None) -> Verified:
    """Check every byte of `folder` against what the ledger expects. No key is needed, nothing is decrypted.

    Raises:
        TamperError: the leaf of the first check that fails, naming file and segment (format page, section 8).
        StorageError: the store can't be read.

    """
    manifest = _judged_manifest(blobs, folder, expected)
    total = sum(file.size for file in manifest.files)
    done = segments = 0
    scratch = Scratch(manifest.segment)
    with ThreadPoolExecutor(workers()) as pool:
        for file in manifest.files:
            count = len(file.segments) // HASH_BYTES
            done += HEADER_BYTES
            with closing(_opened(blobs, folder, file)) as blob:
                _started(blob, file, manifest)

                def check(batch: range, blob: Blob = blob, file: SealedFile = file) -> int:
                    return sum(len(_hashed(blob, scratch, manifest, file=file, index=index)) for index in batch)

                for size in pool.map(check, _batches(count)):
                    done += size
                    if progress:
                        progress(done, total)
            segments += count
    return Verified(manifest, segments, total)


def _judged_manifest(blobs: Folders, folder: str, expected: Expected) -> Manifest:
    """Fetch manifest, signature and names; judge them."""
    data = _small(blobs, folder, MANIFEST, limit=MANIFEST_LIMIT)
    if data is None:
        raise ManifestMissing("there is no manifest", where=f"{folder}/{MANIFEST}")
    signature = _small(blobs, folder, SIGNATURE, limit=SIGNATURE_LIMIT)
    manifest = judge_manifest(data, signature, expected)
    judge_names(blobs.names(folder) or (), manifest, beside=expected.beside)
    return manifest


def _small(blobs: Folders, folder: str, name: str, *, limit: int) -> bytes | None:
    """Return a whole small file, cut one byte beyond its `limit`: longer ones then fail their check."""
    blob = blobs.open(folder, name)
    if blob is None:
        return None
    with closing(blob):
        buffer = bytearray(min(blob.size, limit + 1))
        return bytes(buffer[: blob.read_into(0, memoryview(buffer))])


def _opened(blobs: Folders, folder: str, file: SealedFile) -> Blob:
    blob = blobs.open(folder, file.name)
    if blob is None:
        raise PayloadMissing("the sealed file is not there", where=f"{folder}/{file.name}")
    return blob


def _started(blob: Blob, file: SealedFile, manifest: Manifest) -> bytes:
    """Return the file's header if start and size are right."""
    start = bytearray(HEADER_BYTES)
    got = blob.read_into(0, memoryview(start))
    judge_start(bytes(start[:got]), blob.size, file=file, manifest=manifest)
    return bytes(start)


def _hashed(blob: Blob, scratch: Scratch, manifest: Manifest, *, file: SealedFile, index: int) -> memoryview:
    """Read segment `index` into the thread's buffer and return it there, if its hash is the manifest's."""
    layout = Layout(manifest.segment)
    place = layout.place(index)
    sealed = scratch.buffer[: min(manifest.segment, file.size - place)]
    where = f"{manifest.checkpoint}/{file.name}, segment {index}"
    if blob.read_into(place, sealed) != len(sealed):
        raise PayloadTruncated("the file became shorter while it was read", where=where)
    found = blake3(sealed).digest()
    if found != file.segments[index * HASH_BYTES : (index + 1) * HASH_BYTES]:
        raise SegmentAltered(f"its BLAKE3 is not the signed one{whose_segment(found, manifest)}", where=where)
    return sealed


def _batches(count: int, first: int = 0) -> Iterator[range]:
    return (range(start, min(start + _BATCH, count)) for start in range(first, count, _BATCH))


class SealedReader:
    """An opened sealed checkpoint: any range of any file, checked and decrypted as it is read. Threads may share it."""

    def __init__(self, blobs: Folders, folder: str, *, expected: Expected, data_key: Secret) -> None:
        """Judge manifest, names, sizes and headers; decrypt the table of contents.

        Raises:
            TamperError: the leaf of the first check that fails (format page, sections 8 and 9).
            StorageError: the store can't be read.

        """
        self.manifest = _judged_manifest(blobs, folder, expected)
        self.layout = Layout(self.manifest.segment)
        self.describe: Callable[[int, int], str] = self._path_of
        self._blobs, self._folder = blobs, folder
        self._data_key = Secret(data_key.reveal())
        self._scratch = Scratch(self.manifest.segment)
        self._cache: OrderedDict[tuple[int, int], memoryview] = OrderedDict()
        self._lock, self._cache_lock = Lock(), Lock()
        self._open: dict[int, tuple[Blob, Floe]] = {}
        self._contents: Contents | None = None
        self._headers: list[bytes] = []
        for file in self.manifest.files:
            with closing(_opened(blobs, folder, file)) as blob:
                self._headers.append(_started(blob, file, self.manifest))
        self._contents = self._read_contents()

    @property
    def contents(self) -> Contents:
        """Return the table of contents."""
        if self._contents is None:
            raise ManifestAltered("the table of contents was not read", where=self._folder)
        return self._contents

    def size(self, file: int) -> int:
        """Return the plaintext size of `file`."""
        sealed = self.manifest.files[file]
        return self.layout.plain(sealed.size, where=sealed.name)

    def read_into(self, file: int, offset: int, target: memoryview) -> None:
        """Fill `target` with the plaintext of `file` from `offset`; whole segments are decrypted straight into it.

        Raises:
            SegmentAltered: a segment's hash is not the signed one.
            SegmentForged: a segment does not decrypt at its place.
            BadInput: the range is not within the file.

        """
        end, size = offset + len(target), self.size(file)
        if not 0 <= offset <= end <= size:
            raise BadInput(f"bytes {offset} to {end} of {size}", where=f"{self._folder}/{file}")
        if offset == end:
            return
        payload = self.layout.payload
        for index in range(offset // payload, (end - 1) // payload + 1):
            start, stop = self.layout.span(index, size)
            if offset <= start and stop <= end:
                self._decrypt(file, index, target[start - offset : stop - offset])
            else:
                low, high = max(start, offset), min(stop, end)
                with self._cache_lock:
                    target[low - offset : high - offset] = self._cached(file, index)[low - start : high - start]

    def load_into(
        self, file: int, target: memoryview, *, pool: ThreadPoolExecutor, progress: Progress | None = None
    ) -> None:
        """Fill `target` with the whole of `file`, on the threads of `pool`.

        Raises:
            SegmentAltered: a segment's hash is not the signed one.
            SegmentForged: a segment does not decrypt at its place.

        """
        size = self.size(file)
        self._state(file)

        def fill(batch: range) -> int:
            for index in batch:
                start, stop = self.layout.span(index, size)
                self._decrypt(file, index, target[start:stop])
            return self.layout.span(batch[-1], size)[1]

        for done in pool.map(fill, _batches(self.layout.count(size))):
            if progress:
                progress(done, size)

    def close(self) -> None:
        """Wipe keys and cached plaintext, close the files. Twice is as good as once."""
        with self._cache_lock:
            for area in self._cache.values():
                wipe(area)
            self._cache.clear()
        with self._lock:
            for blob, floe in self._open.values():
                floe.wipe()
                blob.close()
            self._open.clear()
        self._data_key.wipe()

    def _read_contents(self) -> Contents:
        size = self.size(0)
        where = f"{self._folder}/{self.manifest.files[0].name}"
        if size > _CONTENTS_LIMIT:
            raise InputTooLarge(f"a table of contents of {size} bytes", where=where)
        buffer = bytearray(size)
        self.read_into(0, 0, memoryview(buffer))
        try:
            contents = read_contents(bytes(buffer), where=where)
        except BadInput as error:
            raise ManifestAltered(error.message, where=where) from None
        sizes = [self.size(file) for file in range(1, len(self.manifest.files))]
        if [entry.size for entry in contents.files] != sizes:
            raise ManifestAltered("the table of contents does not fit the manifest", where=where)
        return contents

    def _state(self, file: int) -> tuple[Blob, Floe]:
        """Return the open file and its cipher state, made at the first use."""
        with self._lock:
            if file not in self._open:
                sealed, manifest = self.manifest.files[file], self.manifest
                aad = associated(manifest.checkpoint, manifest.version, file)
                where = f"{self._folder}/{sealed.name}"
                floe = Floe.resume(file_key(self._data_key, aad), self._headers[file], aad=aad, where=where)
                self._open[file] = _opened(self._blobs, self._folder, sealed), floe
            return self._open[file]

    def _decrypt(self, file: int, index: int, target: memoryview) -> None:
        """Decrypt one segment into `target`, which is exactly as long as its plaintext."""
        blob, floe = self._open.get(file) or self._state(file)
        sealed_file = self.manifest.files[file]
        last = (index + 1) * HASH_BYTES == len(sealed_file.segments)
        where = f"{self._folder}/{sealed_file.name}, segment {index}"
        with self._named(file, index):
            sealed = _hashed(blob, self._scratch, self.manifest, file=sealed_file, index=index)
            floe.decrypt_into(sealed, target, index=index, last=last, where=where)

    def _cached(self, file: int, index: int) -> memoryview:
        """Return a segment's plaintext from the small cache, decrypting it if need be. Call it under the cache's lock.

        The oldest entry's memory is used again: faulting fresh pages would cost more than the decryption.
        """
        start, stop = self.layout.span(index, self.size(file))
        area = self._cache.pop((file, index), None)
        if area is None:
            full = len(self._cache) >= _CACHED
            area = self._cache.popitem(last=False)[1] if full else anonymous(self.layout.payload)
            self._decrypt(file, index, area[: stop - start])
        self._cache[file, index] = area
        return area[: stop - start]

    @contextmanager
    def _named(self, file: int, index: int) -> Generator[None]:
        """Add to a segment's error the path and the tensors that it hits."""
        try:
            yield
        except (SegmentAltered, SegmentForged) as error:
            known = self.describe(file, index)
            raise type(error)(error.message + (f"; it holds {known}" if known else ""), where=error.where) from None

    def _path_of(self, file: int, _index: int) -> str:
        contents = self._contents
        if file == 0 or contents is None:
            return "the table of contents"
        return f"part of {contents.files[file - 1].path}"
