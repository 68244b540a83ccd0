"""The directory of a PyTorch zip file, read strictly: stored entries alone, each once, none over another.

Nothing is unpacked: what is asked for is where an entry's bytes stand. Python's own ``zipfile`` holds whatever a
directory claims and looks the other way at much of it. Format: PKWARE's APPNOTE 6.3.10, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage.files import Opened

MAGIC: Final = b"PK\x03\x04"
_END_MAGIC: Final = b"PK\x05\x06"
_LITTLE: Final = b"little"
_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_LOCATOR: Final = struct.Struct("<4sIQI")
_END64: Final = struct.Struct("<4sQ2H2I4Q")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED: Final = 1
_DIRECTORY_LIMIT: Final = 1 << 25  # bytes
ENTRIES_LIMIT: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Extent:
    """Where an entry's bytes stand in the file."""

    start: int
    size: int


def zip_entries(file: Opened) -> Mapping[str, Extent]:
    """Return the entries of a zip file by name.

    Raises:
        BadInput: it has no directory (cut off, or no zip file), or one that a PyTorch file can't have.
        InputTooLarge: over 131,072 entries, or 32 MiB of directory.

    """
    count, size, start = _directory(file)
    if count > ENTRIES_LIMIT or size > _DIRECTORY_LIMIT:
        raise InputTooLarge(f"a directory of {count} entries in {size} bytes", where=file.name)
    found: dict[str, Extent] = {}
    for name, local, length in _listed(file.read(start, size), count, where=file.name):
        if name in found:
            raise BadInput(f"two entries of the name {name[:100]!r}", where=file.name)
        found[name] = _placed(file, local, length)
    stop = 0
    for extent in sorted(found.values(), key=lambda one: (one.start, one.size)):
        if extent.start < stop:
            raise BadInput("entries that lie over each other", where=file.name)
        stop = extent.start + extent.size
    if stop > start:
        raise BadInput("entries that lie over the directory", where=file.name)
    return found


def has_directory(file: Opened) -> bool:
    """Say whether the file ends with a directory, be it as it may."""
    size = min(file.size, _END.size + _FULL16)
    return _END_MAGIC in file.read(file.size - size, size)


def local_entry(file: Opened, at: int) -> tuple[str, int] | None:
    """Return the name and the start of the entry whose header stands at `at`; None if it is not whole."""
    if at + _LOCAL.size > file.size:
        return None
    magic, *_, name_length, extra_length = _LOCAL.unpack(file.read(at, _LOCAL.size))
    start = at + _LOCAL.size + name_length + extra_length
    if magic != MAGIC or start > file.size:
        return None
    return file.read(at + _LOCAL.size, name_length).decode("utf-8", errors="replace"), start


def check_order(file: Opened, start: int, size: int) -> None:
    """Insist on the byte order that the entry ``byteorder`` says, if it is there as a whole.

    Raises:
        BadInput: it is the other one.

    """
    if start + min(size, len(_LITTLE)) <= file.size and file.read(start, min(size, len(_LITTLE))) != _LITTLE:
        raise BadInput("saved on a machine of the other byte order", where=file.name)


def _directory(file: Opened) -> tuple[int, int, int]:
    """Return the directory's number of entries, its size and where it starts."""
    tail_start = max(0, file.size - _END.size - _FULL16)
    tail = file.read(tail_start, file.size - tail_start)
    at = tail.rfind(_END_MAGIC)
    if at < 0 or at + _END.size > len(tail):
        raise BadInput("no whole zip file: its directory, at the end, is missing", where=file.name)
    _, disk, first_disk, _, count, size, start, _ = _END.unpack_from(tail, at)
    if _FULL16 in {count, disk, first_disk} or _FULL32 in {size, start}:
        count, size, start = _directory64(file, tail_start + at)
    if start + size > tail_start + at:
        raise BadInput("a directory beyond the file's end", where=file.name)
    return count, size, start


def _directory64(file: Opened, end: int) -> tuple[int, int, int]:
    if end >= _LOCATOR.size:
        magic, _, place, _ = _LOCATOR.unpack(file.read(end - _LOCATOR.size, _LOCATOR.size))
        if magic == b"PK\x06\x07" and place + _END64.size <= end:
            magic, _, _, _, _, _, _, count, size, start = _END64.unpack(file.read(place, _END64.size))
            if magic == b"PK\x06\x06":
                return count, size, start
    raise BadInput("a zip file whose directory says nothing of its place", where=file.name)


def _listed(raw: bytes, count: int, *, where: str) -> Iterator[tuple[str, int, int]]:
    """Yield each entry's name, where its local header stands and its size."""
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(raw):
            raise BadInput("a directory that ends early", where=where)
        magic, _, _, flags, method, _, _, _, packed, size, *lengths, _, _, _, local = _CENTRAL.unpack_from(raw, at)
        name_length, extra_length, note_length = lengths
        name_stop = at + _CENTRAL.size + name_length
        stop = name_stop + extra_length + note_length
        if magic != b"PK\x01\x02" or stop > len(raw):
            raise BadInput("a directory that ends early", where=where)
        name = raw[at + _CENTRAL.size : name_stop].decode("utf-8", errors="replace")
        size, packed, local = _wide(raw[name_stop : name_stop + extra_length], [size, packed, local])
        if method or flags & _ENCRYPTED or packed != size:
            raise BadInput(f"the entry {name[:100]!r} is compressed or encrypted", where=where)
        yield name, local, size
        at = stop


def _wide(extra: bytes, short: list[int]) -> list[int]:
    """Return size, packed size and place, those of the zip64 field where the short ones are full."""
    values = short
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        field = extra[at + 4 : at + 4 + length]
        if kind == 1:
            wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            values = [next(wide, value) if value == _FULL32 else value for value in short]
            break
        at += 4 + length
    return values


def _placed(file: Opened, local: int, size: int) -> Extent:
    """Return where the bytes of an entry stand, which its local header says."""
    entry = local_entry(file, local)
    if entry is None or entry[1] + size > file.size:
        raise BadInput("an entry beyond the file's end", where=file.name)
    return Extent(entry[1], size)
