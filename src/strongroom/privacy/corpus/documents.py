"""Which files make a corpus, and the documents in each: always in the same order, so that work can go on."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from strongroom.core.errors import BadInput, InputTooLarge, MissingExtra
from strongroom.core.privacy_errors import CorpusUnreadable
from strongroom.privacy.corpus.packed import PACKED, REMEDY, opened

TEXT: Final = "text"  # the member of a record that holds its text
REPORT: Final = "filter-report.json"  # what a filter says of the folder that it made: no part of the corpus
LONGEST_LINE: Final = 256 << 20  # bytes: a JSON line, or a text file, whole in memory
Kind = Literal["jsonl", "parquet", "text"]
_LINES: Final = frozenset({".jsonl", ".ndjson"})


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file of a corpus."""

    path: Path
    name: str  # its path below the corpus' folder, with "/"; or its own name
    size: int  # bytes, as stored

    @property
    def packed(self) -> str:
        """Say what is around it: ``gzip``, ``zstd`` or nothing."""
        return PACKED.get(self.path.suffix.lower(), "")

    @property
    def kind(self) -> Kind:
        """Say what is in it."""
        suffixes = [one.lower() for one in self.path.suffixes]
        last = suffixes[-2:-1] if self.packed else suffixes[-1:]
        if last == [".parquet"]:
            return "parquet"
        return "jsonl" if last and last[0] in _LINES else "text"


@dataclass(frozen=True, slots=True)
class Document:
    """A document: its text, where it stands, and what else its record holds."""

    text: str
    file: str  # `CorpusFile.name`
    record: int  # its number in the file, from 0: of a text file 0
    rest: Mapping[str, Any] = field(default_factory=dict[str, Any])  # the record's other members

    @property
    def source(self) -> str:
        """Name it: ``notes/a.jsonl#12``; a text file by its name alone."""
        return f"{self.file}#{self.record}" if self.record or self.rest else self.file


def files(source: Path) -> tuple[CorpusFile, ...]:
    """Return the files of a corpus, by name: those below a folder, or the one file.

    Hidden ones are left out, and the report of a filter that made the folder.

    Raises:
        BadInput: nothing is there, or nothing in it.
        CorpusUnreadable: a folder can't be listed.

    """
    if source.is_file():
        return (CorpusFile(source, source.name, source.stat().st_size),)
    if not source.is_dir():
        raise BadInput("no file or folder is there", where=str(source))
    found = list[CorpusFile]()
    for folder, below, names in os.walk(source, onerror=_unlisted):
        below[:] = sorted(one for one in below if not one.startswith("."))
        for name in names:
            path = Path(folder, name)
            if not name.startswith(".") and path != source / REPORT and path.is_file() and not path.is_symlink():
                found.append(CorpusFile(path, path.relative_to(source).as_posix(), path.stat().st_size))
    if not found:
        raise BadInput("the folder holds no files", where=str(source))
    return tuple(sorted(found, key=lambda one: one.name))


def _unlisted(error: OSError) -> None:
    raise unreadable(error, str(error.filename)) from None


def read(file: CorpusFile, *, text: str = TEXT) -> Iterator[Document]:
    """Yield a file's documents, in order. `text` names the member of a record that holds the text.

    Raises:
        CorpusUnreadable: it is cut off, is no UTF-8, or a record is no JSON object with such a text.
        InputTooLarge: a line or a text file is longer than `LONGEST_LINE`.
        MissingExtra: what reads parquet or zstd is not installed.

    """
    try:
        if file.kind == "parquet":
            yield from _parquet(file, text)
        else:
            with opened(file.path) as stream:
                yield from _jsonl(file, stream, text) if file.kind == "jsonl" else _whole(file, stream)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(error, file.name) from None


def unreadable(error: Exception, name: str) -> CorpusUnreadable:
    """Return what is wrong with the file that the corpus calls `name`."""
    said = error.strerror if isinstance(error, OSError) else None
    return CorpusUnreadable(f"can't be read ({said or 'what is packed in it is cut off or broken'})", where=name)


def _jsonl(file: CorpusFile, stream: IO[bytes], text: str) -> Iterator[Document]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        where = f"{file.name}#{number}"
        if len(line) > LONGEST_LINE:
            raise InputTooLarge(f"a line of over {LONGEST_LINE} bytes", where=where)
        if not line.strip():
            continue
        try:
            rest = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise CorpusUnreadable("this line is no JSON object", where=where) from None
        yield _document(rest, text, file=file, number=number)
        number += 1


def _document(rest: dict[str, Any], text: str, *, file: CorpusFile, number: int) -> Document:
    said = rest.pop(text, None)
    if not isinstance(said, str):
        raise CorpusUnreadable(f"the record has no text in its member {text[:40]!r}", where=f"{file.name}#{number}")
    return Document(said, file.name, number, rest)


def _whole(file: CorpusFile, stream: IO[bytes]) -> Iterator[Document]:
    raw = stream.read(LONGEST_LINE + 1)
    if len(raw) > LONGEST_LINE:
        raise InputTooLarge(f"a text of over {LONGEST_LINE} bytes", where=file.name)
    try:
        yield Document(raw.decode("utf-8"), file.name, 0)
    except UnicodeDecodeError:
        raise CorpusUnreadable("this is no UTF-8 text", where=file.name) from None


def _parquet(file: CorpusFile, text: str) -> Iterator[Document]:
    try:
        from strongroom.privacy.corpus.parquet import rows  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        raise MissingExtra("pyarrow is not installed", where=file.name, remedy=REMEDY) from None
    for number, row in enumerate(rows(file.path, file.name)):
        yield _document(row, text, file=file, number=number)
