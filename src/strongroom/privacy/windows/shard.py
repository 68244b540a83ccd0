"""The fingerprints of some files of a corpus, as sorted runs on disk. Knows nothing of other shards, nor of a pool.

A shard is a list of files. Its runs are sorted by fingerprint, so that any stretch of the hash space can be cut out of
all of them and merged by itself; ``done.json``, written last, says that it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record
from strongroom.core.words import fold, words
from strongroom.kernels.blake2b import keyed
from strongroom.kernels.minhash import HASHES, signatures
from strongroom.kernels.tables import sort_pairs
from strongroom.kernels.windows import fingerprints
from strongroom.ports.recall import VALUE_WORDS
from strongroom.privacy.corpus.documents import CorpusFile, Document, read
from strongroom.privacy.windows.layout import END, PERSON_END, PERSON_VALUE, PERSON_WINDOW, fingerprint

DONE: Final = "done.json"
_BATCH: Final = 16 << 20  # bytes of text that are scanned at once
_RUN: Final = 8 << 20  # fingerprints of a run: some 100 MB, and twice that while it is sorted
_SHORTEST_VALUE: Final = 8  # letters and digits: what is shorter comes up by chance
Prints = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.uint32]
LIKENESS: Final = np.dtype([("signature", "<u4", (HASHES,)), ("whole", "<u8"), ("words", "<u4")])
FindValues = Callable[[Sequence[bytes]], Iterable[tuple[int, bytes]]]
"""Finds values in texts, UTF-8: yields the number of a text, and a value that is in it."""


class Cut(Record, frozen=True):
    """How documents are cut into windows."""

    window: int
    stride: int
    text: str  # the member of a record that holds its text


class ShardFile(Record, frozen=True):
    """A file of a shard, and how many documents it had."""

    name: str
    documents: int
    records: bool


class ShardDone(Record, frozen=True):
    """What a shard came to."""

    files: tuple[ShardFile, ...]
    documents: int
    bytes: int  # of text, UTF-8
    runs: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Some files, and the folder that their runs go to."""

    files: tuple[CorpusFile, ...]
    folder: Path


def index_shard(shard: Shard, cut: Cut, *, key: bytes, values: FindValues | None = None) -> ShardDone:
    """Write the runs of a shard; what an earlier attempt left is done again, unless that was whole.

    `values` finds what is worth knowing by itself, wherever it turns up: keys, numbers of cards and accounts.

    Raises:
        CorpusUnreadable, InputTooLarge, MissingExtra: see `documents.read`.
        OSError: the runs can't be written.

    """
    done = shard.folder / DONE
    if done.exists():
        return msgspec.json.decode(done.read_bytes(), type=ShardDone)
    shard.folder.mkdir(mode=0o700, exist_ok=True)
    with contextlib.closing(_Runs(shard.folder, cut, key=key, values=values)) as runs:
        files = tuple([_index_file(one, runs, cut) for one in shard.files])
        runs.end()
    result = ShardDone(files=files, documents=runs.documents, bytes=runs.bytes, runs=runs.count)
    whole = shard.folder / f"{DONE}.new"
    with whole.open("wb") as stream:
        stream.write(msgspec.json.encode(result))
        stream.flush()
        os.fsync(stream.fileno())
    whole.replace(done)
    return result


def _index_file(file: CorpusFile, runs: _Runs, cut: Cut) -> ShardFile:
    before = runs.documents
    for document in read(file, text=cut.text):
        runs.add(document)
    return ShardFile(name=file.name, documents=runs.documents - before, records=file.kind != "text")


class _Runs:
    """The runs of one shard on their way to disk."""

    def __init__(self, folder: Path, cut: Cut, *, key: bytes, values: FindValues | None) -> None:
        self.documents = self.bytes = self.count = 0
        self._folder = folder
        self._cut = cut
        self._state = keyed(key, PERSON_WINDOW)
        self._of_value = fingerprint(key, PERSON_VALUE)
        self._of_end = fingerprint(key, PERSON_END)
        self._find = values
        self._texts: list[str] = []  # not yet scanned
        self._waiting = 0  # bytes of these
        self._first = 0  # the number of the first of these
        self._found: list[tuple[Prints, Owners]] = []
        self._held = 0  # fingerprints in these
        self._digests: IO[bytes] = (folder / "documents").open("wb")
        self._values: IO[bytes] = (folder / "values").open("wb")
        self._likenesses: IO[bytes] = (folder / "likenesses").open("wb")

    def add(self, document: Document) -> None:
        """Take the next document."""
        raw = document.text.encode("utf-8", "replace")
        self._digests.write(hashlib.sha256(raw).digest())
        self.bytes += len(raw)
        self._texts.append(document.text)
        self._waiting += len(raw)
        self.documents += 1
        if self._waiting >= _BATCH:
            self._scan()

    def _value(self, document: int, found: bytes) -> None:
        said = [word for word, _ in words(found.decode("utf-8", "replace"))]
        value = b"".join(said)
        if len(value) < _SHORTEST_VALUE or len(said) > VALUE_WORDS:
            return
        for hashing, what in ((self._of_value, value), (self._of_end, value[-END:])):
            one = hashing.copy()
            one.update(what)
            self._values.write(one.digest())
        self._values.write(document.to_bytes(8, "little"))

    def _scan(self) -> None:
        if not self._texts:
            return
        if self._find is not None:
            for at, value in self._find([one.encode("utf-8", "replace") for one in self._texts]):
                self._value(self._first + at, value)
        folded = [fold(one) for one in self._texts]
        self._likenesses.write(likenesses(folded).tobytes())
        ends = np.cumsum([len(one) for one in folded], dtype=np.int64)
        data = np.frombuffer(b"".join(folded), dtype=np.uint8)
        cut = self._cut
        prints, owners = fingerprints(data, ends, window=cut.window, stride=cut.stride, state=self._state)
        # copies: what was handed out is the beginning of a larger array
        self._found.append((prints.copy(), owners + np.uint32(self._first)))
        self._held += len(prints)
        self._first, self._waiting, self._texts = self.documents, 0, []
        if self._held >= _RUN:
            self._flush()

    def _flush(self) -> None:
        if not self._held:  # documents of a few words have no windows, and an empty file can't be mapped
            self._found = []
            return
        prints, owners = sort_pairs(
            np.concatenate([one for one, _ in self._found]), np.concatenate([one for _, one in self._found])
        )
        prints.astype("<u8").tofile(self._folder / f"{self.count:04}.prints")
        owners.astype("<u4").tofile(self._folder / f"{self.count:04}.owners")
        self._found, self._held = [], 0
        self.count += 1

    def end(self) -> None:
        """Write what is left."""
        self._scan()
        self._flush()

    def close(self) -> None:
        """Close the files."""
        self._digests.close()
        self._likenesses.close()
        self._values.close()


def likenesses(texts: Sequence[bytes]) -> npt.NDArray[np.void]:
    """Return by what documents are known that are versions of one another (n)."""
    found = np.empty(len(texts), dtype=LIKENESS)
    found["signature"], found["whole"], found["words"] = signatures(texts)
    return found


def runs_of(folder: Path, done: ShardDone) -> Iterator[tuple[Prints, Owners]]:
    """Yield a shard's runs, mapped: fingerprints in their order, and the shard's own numbers of the documents."""
    for at in range(done.runs):
        prints = np.memmap(folder / f"{at:04}.prints", dtype="<u8", mode="r")
        yield prints, np.memmap(folder / f"{at:04}.owners", dtype="<u4", mode="r")
