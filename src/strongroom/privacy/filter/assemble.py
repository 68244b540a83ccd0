"""The files of a filtered corpus, put together from what the shards left: pure, and run by any pool, like they."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
import numpy.typing as npt

from strongroom.privacy.corpus.documents import CorpusFile
from strongroom.privacy.corpus.writing import packed
from strongroom.privacy.filter.shard import CHANGED, Piece, check_same

_STEP: Final = 1 << 20  # bytes copied at once


@dataclass(frozen=True, slots=True)
class Part:
    """A file's documents in one shard's folder, and which of them stay."""

    folder: Path
    rows: npt.NDArray[np.void]  # of `shard.ROW`
    stay: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to be written: its source, its parts in order, where it goes, and the member that holds the text."""

    piece: Piece
    parts: tuple[Part, ...]
    target: Path
    member: str


@dataclass(frozen=True, slots=True)
class FileDigests:
    """SHA-256 of a file that was read and of what became of it (nothing, of a text that was dropped)."""

    source: str
    written: str | None


def assemble(task: FileTask) -> FileDigests:
    """Write one file.

    Raises:
        CorpusUnreadable: the source changed meanwhile.
        OSError: the disk said no.

    """
    check_same(task.piece)
    source = _digest(Path(task.piece.path))
    if task.piece.kind == "text" and not any(part.stay.any() for part in task.parts):
        return FileDigests(source, None)
    if task.piece.kind == "parquet":
        _write_parquet(task)
    else:
        with packed(task.target, CorpusFile(Path(task.piece.path), "", 0).packed) as out:
            for part in task.parts:
                _copy(part, out)
    check_same(task.piece)
    return FileDigests(source, _digest(task.target))


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _copy(part: Part, out: IO[bytes]) -> None:
    """Copy what stays, in as long stretches as there are."""
    rows = part.rows[part.stay]
    if not len(rows):
        return
    ends = rows["at"] + rows["size"]
    breaks = np.flatnonzero(rows["at"][1:] != ends[:-1])
    firsts, lasts = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(rows) - 1]])
    with (part.folder / "data").open("rb") as data:
        for low, high in zip(rows["at"][firsts].tolist(), ends[lasts].tolist(), strict=True):
            data.seek(low)
            for at in range(low, high, _STEP):
                out.write(data.read(min(_STEP, high - at)))


def _write_parquet(task: FileTask) -> None:
    from strongroom.privacy.corpus.parquet import rewrite  # noqa: PLC0415 - pyarrow is slow to import

    (part,) = task.parts
    task.target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (part.folder / "data").open("rb") as data:

        def change(first: int, texts: list[str]) -> tuple[list[bool], list[str]]:
            rows = part.rows[first : first + len(texts)]
            changed = list(texts)
            for place in np.flatnonzero(rows["fate"] == CHANGED).tolist():
                data.seek(int(rows["at"][place]))
                changed[place] = data.read(int(rows["size"][place])).decode()
            return part.stay[first : first + len(texts)].tolist(), changed

        rewrite(Path(task.piece.path), task.piece.name, task.target, member=task.member, change=change)
    task.target.chmod(0o600)
    with task.target.open("rb") as written:
        os.fsync(written.fileno())
