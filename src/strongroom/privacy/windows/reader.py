"""Asks a window index: in plain Python over mapped files, for whoever serves (`strongroom.ports.recall.Windows`).

The bulk twin, for whole corpora, is `strongroom.privacy.windows.bulk`.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from strongroom.core.privacy_errors import IndexAltered
from strongroom.core.secrets import Secret
from strongroom.ports.recall import ABSENT, VALUE_WORDS
from strongroom.privacy.windows.layout import (
    END,
    PERSON_END,
    PERSON_VALUE,
    PERSON_WINDOW,
    SOURCES,
    Header,
    Shape,
    Source,
    checked_header,
    fingerprint,
)

Kind = Literal["H", "I", "Q"]
_TYPES: Final[Mapping[int, Kind]] = {2: "H", 4: "I", 8: "Q"}
_REST: Final = 0xFFFFFFFF
_KNOWN: Final = 1 << 17  # ends of words of which is remembered whether a value ends so


def open_windows(folder: Path, key: Secret) -> WindowIndex:
    """Open the index in `folder`, once every byte of it was checked.

    Raises:
        NoSuchIndex: no index is there.
        WrongKey: the key is not the one that it was built with.
        IndexAltered: a file is missing, cut or changed.

    """
    return WindowIndex(folder, checked_header(folder, key), key)


class Table:
    """Sorted fingerprints, and whose they are, in mapped files."""

    __slots__ = ("bits", "owners", "rest", "starts")

    def __init__(self, folder: Path, name: str, shape: Shape, *, sizes: tuple[int, int]) -> None:
        """Map the table `name`; `sizes`: the bytes of a start and of an owner (0: nobody's)."""
        start, owner = sizes
        self.bits = shape.bits
        self.starts = _mapped(folder / f"{name}.starts", _TYPES[start], (1 << shape.bits) + 1)
        self.rest = _mapped(folder / f"{name}.rest", "I", shape.entries)
        self.owners = _mapped(folder / f"{name}.owners", _TYPES[owner], shape.entries) if owner else None

    def find(self, digest: bytes) -> int:
        """Return where the fingerprint stands, or `ABSENT`."""
        number = int.from_bytes(digest, "little")
        bucket = number >> (64 - self.bits)
        first, end = self.starts[bucket], self.starts[bucket + 1]
        if first == end:
            return ABSENT
        wanted = (number >> (32 - self.bits)) & _REST
        place = bisect_left(self.rest, wanted, first, end)
        return place if place < end and self.rest[place] == wanted else ABSENT

    def owner(self, digest: bytes) -> int:
        """Return the first document that has it, or `ABSENT`."""
        place = self.find(digest)
        return ABSENT if place < 0 or self.owners is None else self.owners[place]


class WindowIndex:
    """An open index (`ports.recall.Windows`). Threads may share it."""

    def __init__(self, folder: Path, header: Header, key: Secret) -> None:
        """Map the files of an index whose `header` was checked."""
        self.header = header
        self.folder = folder
        self.window = header.window
        self.stride = header.stride
        sizes = header.start_bytes, header.owner_bytes
        self.windows = Table(folder, "windows", header.windows, sizes=sizes)
        self.values = Table(folder, "values", header.values, sizes=sizes)
        self._ends = Table(folder, "ends", header.ends, sizes=(header.start_bytes, 0))
        self._of_window = fingerprint(key.reveal(), PERSON_WINDOW)
        self._of_value = fingerprint(key.reveal(), PERSON_VALUE)
        self._of_end = fingerprint(key.reveal(), PERSON_END)
        self._known = dict[bytes, bool]()
        self._sources: tuple[Source, ...] | None = None

    def find(self, window: bytes) -> int:
        """Return the number of a document that has these words, joined by one space; or `ABSENT`."""
        hashing = self._of_window.copy()
        hashing.update(window)
        return self.windows.owner(hashing.digest())

    def find_value(self, last: Sequence[bytes]) -> int:
        """Return the number of a document with a value that these words end with; or `ABSENT`."""
        end = last[-1][-END:] if last else b""
        if len(end) < END:
            end = b"".join(last[-END:])[-END:]
        if not self._ends_value(end):
            return ABSENT
        value = b""
        for word in reversed(last[-VALUE_WORDS:]):
            value = word + value
            hashing = self._of_value.copy()
            hashing.update(value)
            owner = self.values.owner(hashing.digest())
            if owner >= 0:
                return owner
        return ABSENT

    def _ends_value(self, end: bytes) -> bool:
        known = self._known.get(end)
        if known is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            hashing = self._of_end.copy()
            hashing.update(end)
            known = self._known[end] = self._ends.find(hashing.digest()) >= 0
        return known

    def source(self, owner: int) -> str:
        """Return what the corpus called the document with this number: ``notes/a.jsonl#12``.

        Raises:
            IndexAltered: the list of sources is not the one that was built.

        """
        if self._sources is None:
            self._sources = self._read_sources()
        at = bisect_right(self._sources, owner, key=lambda one: one.first) - 1
        if at < 0 or owner >= self._sources[at].first + self._sources[at].documents:
            raise IndexAltered("its list of sources does not have this document", where=str(self.folder))
        found = self._sources[at]
        return f"{found.file}#{owner - found.first}" if found.records else found.file

    def _read_sources(self) -> tuple[Source, ...]:
        try:
            raw = (self.folder / SOURCES).read_bytes()
            return tuple(msgspec.json.Decoder(Source).decode_lines(raw))
        except (OSError, msgspec.DecodeError):
            raise IndexAltered(f"{SOURCES} can't be read", where=str(self.folder)) from None


def _mapped(file: Path, kind: Kind, entries: int) -> memoryview[int]:
    """Return a file's numbers, mapped.

    Raises:
        IndexAltered: it has not so many.

    """
    if not entries:
        return memoryview(b"").cast(kind)
    try:
        with file.open("rb") as stream:
            numbers = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)).cast(kind)
    except (OSError, ValueError, TypeError):
        raise IndexAltered(f"{file.name} can't be read", where=str(file.parent)) from None
    if len(numbers) != entries:
        raise IndexAltered(f"{file.name} has not the length that the header says", where=str(file.parent))
    return numbers
