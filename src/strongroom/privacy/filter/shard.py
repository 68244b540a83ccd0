"""A shard: some documents, filtered. It knows nothing of the pool that runs it, so anything may run it.

`filter_shard` reads its pieces of files, and leaves a folder named by what went in: what to write of each document, its
findings, and its signature by which duplicates are found over the whole corpus. The folder gets its name when all is
written and synced, so a run that was killed goes on with the shards that are there.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record, encode
from strongroom.core.errors import InputTooLarge
from strongroom.core.privacy_errors import CorpusUnreadable
from strongroom.core.secrets import Secret
from strongroom.kernels.minhash import HASHES, signatures
from strongroom.privacy.corpus.batches import Batch, LineReader
from strongroom.privacy.corpus.documents import LONGEST_LINE, Kind, unreadable
from strongroom.privacy.corpus.packed import opened
from strongroom.privacy.corpus.writing import sync
from strongroom.privacy.filter.actions import Action, replace
from strongroom.privacy.filter.findings import Finding
from strongroom.privacy.filter.planted import planted
from strongroom.privacy.filter.rules import rules

ROW: Final = np.dtype(
    [
        ("piece", "<u4"),
        ("record", "<u8"),
        ("at", "<u8"),
        ("size", "<u8"),
        ("fate", "u1"),
        ("words", "<u4"),
        ("whole", "<u8"),
    ]
)
"""A document: its piece and number there, where what is written of it stands, what became of it, its words."""
FOUND: Final = np.dtype([("row", "<u4"), ("start", "<u8"), ("end", "<u8"), ("kind", "<u2"), ("rule", "<u2")])
"""A finding: `start` and `end` count characters."""
_LOT: Final = 2 << 20  # bytes
KEPT, CHANGED, DROPPED, DENIED = range(4)


class Piece(Record, frozen=True, kw_only=True):
    """Of a file, the lines that begin in the bytes from `low` to `high` (None: all of it)."""

    path: str
    name: str
    kind: Kind
    size: int  # of the file, and its time: a file that changes is another
    changed: int
    low: int = 0
    high: int | None = None


class Job(Record, frozen=True, kw_only=True):
    """What is done with every shard."""

    action: Action
    rules: bytes
    member: str
    denied: tuple[str, ...]  # sources and ids
    version: str  # of the program, and the digest of its rules: another one may find other things
    key_check: str = ""  # a digest of the key's pseudonym of nothing: another key is another job


@dataclass(frozen=True, slots=True)
class Shard:
    """Pieces, and the folder that its result goes into."""

    pieces: tuple[Piece, ...]
    folder: Path
    job: Job
    key: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What its result is called: the same for the same pieces and job, no other."""
        return hashlib.sha256(msgspec.json.encode([self.pieces, self.job])).hexdigest()[:32]

    @property
    def size(self) -> int:
        """Bytes of files that it reads."""
        return sum((one.size if one.high is None else one.high) - one.low for one in self.pieces)


class Counts(Record, frozen=True, kw_only=True):
    """What a shard's result says of itself."""

    names: tuple[str, ...]  # of kinds and rules, as findings number them
    records: tuple[int, ...]  # of each piece
    bytes: int  # of text
    planted: dict[str, tuple[int, int]]  # made-up values found, and how many there were, by kind


@dataclass(frozen=True, slots=True)
class Lot:
    """Documents on their way: a batch, and where each comes from."""

    batch: Batch
    pieces: list[int]
    numbers: list[int]
    kind: str


class _Result:
    """What a shard's folder will hold."""

    def __init__(self, shard: Shard, data: IO[bytes]) -> None:
        self._shard = shard
        self._data = data
        self._at = 0
        self._bytes = 0
        self._secret = None if shard.key is None else Secret(shard.key)
        self._scanner = rules(shard.job.rules).scanner
        self._lines = LineReader(shard.job.member)
        self._names = dict[str, int]()
        self._rows = list[npt.NDArray[np.void]]()
        self._signatures = list[npt.NDArray[np.uint32]]()
        self._found = list[tuple[int, int, int, int, int]]()
        self._count = 0
        self._planted: dict[str, tuple[int, int]] | None = None
        self._denied = frozenset(shard.job.denied)

    def take(self, lot: Lot) -> None:
        """Filter documents, and write what is left of them."""
        texts, records = lot.batch.texts, lot.batch.records
        fates = np.zeros(len(texts), dtype=np.uint8)
        found = self._scanner.find(texts)
        if self._planted is None:
            clean = [one for place, one in enumerate(texts) if place not in found]
            self._planted = planted(self._scanner.find, clean)
        for place, findings in found.items():
            self._note(self._count + place, texts[place], findings)
            fates[place] = DROPPED if self._shard.job.action == "drop" else CHANGED
            if fates[place] == CHANGED:
                text = replace(texts[place], findings, self._secret)
                records[place] = self._lines.changed(records[place], text) if lot.kind == "jsonl" else text
        if self._denied:
            fates[[place for place, one in enumerate(lot.batch.ids) if _spelt(one) in self._denied]] = DENIED
        self._keep(lot, fates)

    def _note(self, row: int, text: bytes, findings: list[Finding]) -> None:
        at, counted = 0, 0
        for one in findings:
            start = counted + len(text[at : one.start].decode())
            at, counted = one.end, start + len(text[one.start : one.end].decode())
            kind, rule = (self._names.setdefault(name, len(self._names)) for name in (one.kind, one.rule))
            self._found.append((row, start, counted, kind, rule))

    def _keep(self, lot: Lot, fates: npt.NDArray[np.uint8]) -> None:
        rows = np.zeros(len(fates), dtype=ROW)
        rows["piece"], rows["record"], rows["fate"] = lot.pieces, lot.numbers, fates
        signed, rows["whole"], rows["words"] = signatures(lot.batch.texts)
        out = [b"" if fate >= DROPPED else one for one, fate in zip(lot.batch.records, fates, strict=True)]
        if lot.kind == "jsonl":
            out = [one and one + b"\n" for one in out]
        elif lot.kind == "parquet":
            out = [one if fate == CHANGED else b"" for one, fate in zip(out, fates, strict=True)]
        rows["size"] = [len(one) for one in out]
        rows["at"] = self._at + np.cumsum(rows["size"]) - rows["size"]
        self._at += self._data.write(b"".join(out))
        self._bytes += sum(map(len, lot.batch.texts))
        self._count += len(rows)
        self._rows.append(rows)
        self._signatures.append(signed)

    def write(self, folder: Path) -> None:
        """Write all but the data."""
        rows = np.concatenate(self._rows) if self._rows else np.zeros(0, dtype=ROW)
        signed = np.concatenate(self._signatures) if self._signatures else np.zeros((0, HASHES), dtype=np.uint32)
        save(folder / "rows.npy", rows)
        save(folder / "signatures.npy", signed)
        save(folder / "found.npy", np.array(self._found, dtype=FOUND))
        records = np.bincount(rows["piece"], minlength=len(self._shard.pieces)).tolist()
        counts = Counts(
            names=tuple(self._names), records=tuple(records), bytes=self._bytes, planted=self._planted or {}
        )
        (folder / "counts.json").write_bytes(encode(counts))


def _spelt(raw: bytes) -> str:
    """Return a member `id` as a list names it: a text without its quotes and escapes, else as it stands."""
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else raw.decode()


def save(path: Path, array: npt.NDArray[np.generic]) -> None:
    """Write an array. Numpy, writing into a file itself, doesn't say that a disk is full.

    Raises:
        OSError: the disk said no, and why.

    """
    made = io.BytesIO()
    np.save(made, array)
    path.write_bytes(made.getbuffer())


def lots(shard: Shard) -> Iterator[Lot]:
    """Yield a shard's documents in its order, some megabytes at a time; texts of several files together."""
    texts, pieces = list[bytes](), list[int]()
    for place, piece in enumerate(shard.pieces):
        check_same(piece)
        if piece.kind == "text":
            texts.append(_text(piece))
            pieces.append(place)
        if texts and (piece.kind != "text" or sum(map(len, texts)) > _LOT):
            yield _texts(texts, pieces)
            texts, pieces = [], []
        if piece.kind != "text":
            yield from _records(piece, place, shard.job.member)
    if texts:
        yield _texts(texts, pieces)


def _texts(texts: list[bytes], pieces: list[int]) -> Lot:
    return Lot(Batch(texts, [b""] * len(texts), list(texts)), pieces, [0] * len(texts), "text")


def _records(piece: Piece, place: int, member: str) -> Iterator[Lot]:
    number = 0
    for batch in _batches(piece, member):
        count = len(batch.texts)
        yield Lot(batch, [place] * count, list(range(number, number + count)), piece.kind)
        number += count


def _batches(piece: Piece, member: str) -> Iterator[Batch]:
    if piece.kind == "parquet":
        from strongroom.privacy.corpus.parquet import texts_of  # noqa: PLC0415 - pyarrow is slow to import

        for texts, ids in texts_of(Path(piece.path), piece.name, member):
            yield Batch(texts, ids, [b""] * len(texts))
        return
    where = f"{piece.name} (from byte {piece.low})" if piece.low else piece.name
    try:
        with opened(Path(piece.path)) as stream:
            yield from LineReader(member).batches(stream, where, low=piece.low, high=piece.high)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(error, piece.name) from None


def _text(piece: Piece) -> bytes:
    try:
        with opened(Path(piece.path)) as stream:
            raw = stream.read(LONGEST_LINE + 1)
        raw.decode()
    except UnicodeDecodeError:
        raise CorpusUnreadable("this is no UTF-8 text", where=piece.name) from None
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(error, piece.name) from None
    if len(raw) > LONGEST_LINE:
        raise InputTooLarge(f"a text of over {LONGEST_LINE} bytes", where=piece.name)
    return raw


def check_same(piece: Piece) -> None:
    """Return if the piece's file is the one that was planned with.

    Raises:
        CorpusUnreadable: it has another size or time by now, or is gone.

    """
    try:
        now = Path(piece.path).stat()
    except OSError:
        raise CorpusUnreadable("the file is gone", where=piece.name) from None
    if (now.st_size, now.st_mtime_ns) != (piece.size, piece.changed):
        raise CorpusUnreadable("the file changed while the corpus was filtered", where=piece.name)


def filter_shard(shard: Shard) -> str:
    """Filter a shard's documents; return the name of its folder, below `shard.folder`.

    Raises:
        CorpusUnreadable: a document can't be read.
        OSError: the disk said no.

    """
    name = shard.name
    if (shard.folder / name).is_dir():
        return name
    draft = shard.folder / f"{name}.{os.getpid()}.tmp"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    with (draft / "data").open("xb") as data:
        made = _Result(shard, data)
        for lot in lots(shard):
            made.take(lot)
    made.write(draft)
    sync(draft)
    try:
        draft.rename(shard.folder / name)
    except OSError:
        if not (shard.folder / name).is_dir():
            raise
        shutil.rmtree(draft)
    return name
