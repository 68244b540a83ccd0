"""What is to be sealed: a safetensors file, or a folder of them with configuration and tokenizer.

Links are followed as far as the source reaches: a foreign model must not get a file of its custodian's sealed as well.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from strongroom.core.canonical import digest
from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.safetensors_header import LENGTH_BYTES, header_length, parse_header
from strongroom.custody.formats import FILES_LIMIT, Content, Contents, check_path

_PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".mar"})
_PICKLE_START = 0x80
_PICKLE_PROTOCOLS = range(2, 6)
_COPY = "Put the file itself in place of the link, if it is to be sealed."
_CONVERT = "Convert the weights to safetensors first; a pickle runs code when it is read."


class SourceFile:
    """An open source file that notices when somebody changes it."""

    def __init__(self, path: Path, *, where: str, roots: Sequence[Path]) -> None:
        """Open `path`, following a link that stays under one of `roots`, which are free of links themselves.

        Raises:
            BadInput: it can't be read, is no regular file, or lies elsewhere.

        """
        self.where = where
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadInput(f"can't be read: {os.strerror(error.errno or 0)}", where=where) from None
        self._seen = self._look()
        self.size = self._seen[2]
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            self.close()
            raise BadInput("no regular file", where=where)
        real = Path(f"/proc/self/fd/{self._descriptor}").readlink()  # of what was opened, whatever links say by now
        if not any(real.is_relative_to(root) for root in roots):
            self.close()
            raise BadInput("a link that leads out of what is to be sealed", where=where, remedy=_COPY)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from `offset`.

        Raises:
            BadInput: the file ends before, or can't be read.

        """
        done = 0
        while done < len(buffer):
            try:
                got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            except OSError as error:
                raise BadInput(f"can't be read: {os.strerror(error.errno or 0)}", where=self.where) from None
            if not got:
                raise BadInput("the file became shorter while it was read", where=self.where)
            done += got

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`."""
        buffer = bytearray(size)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def check_unchanged(self) -> None:
        """Return if the file is what it was when it was opened.

        Raises:
            BadInput: somebody wrote to it.

        """
        if self._look() != self._seen:
            raise BadInput("the file changed while it was being sealed", where=self.where)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _look(self) -> tuple[int, int, int, int]:
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Source:
    """Everything to be sealed: the table of contents, each file's place, where links may lead, how many tensors."""

    contents: Contents
    places: tuple[Path, ...]
    roots: tuple[Path, ...]
    tensors: int

    def open(self, entry: Content) -> SourceFile:
        """Open one file of the source.

        Raises:
            BadInput: it can't be read, is no regular file, or lies elsewhere.

        """
        return SourceFile(self.places[entry.file - 1], where=entry.path, roots=self.roots)

    def digest(self) -> str:
        """Return the SHA-256 of the table of contents: by it a resumed sealing knows its source."""
        return digest(self.contents)


def scan(source: Path) -> Source:
    """List and check what stands at `source`.

    Raises:
        BadInput: pickled weights, malformed safetensors, no safetensors at all, what is no regular file, a link that
            leads elsewhere.
        InputTooLarge: more than 100,000 files.

    """
    found = _walk(source) if source.is_dir() else [(source.name, source)]
    if len(found) >= FILES_LIMIT:
        raise InputTooLarge(f"{len(found)} files; the limit is {FILES_LIMIT - 1}", where=source.name)
    roots = _roots(source)
    entries: list[Content] = []
    tensors: set[str] = set()
    for index, (path, place) in enumerate(found, start=1):
        entry, names = _examine(path, place, index=index, roots=roots)
        if twice := tensors.intersection(names):
            raise BadInput(f"tensor {min(twice)[:200]!r} is in another file as well", where=path)
        tensors.update(names)
        entries.append(entry)
    if not any(entry.kind == "safetensors" for entry in entries):
        raise BadInput("no safetensors file in it", where=source.name, remedy=_CONVERT)
    return Source(Contents(files=entries), tuple(place for _, place in found), roots, len(tensors))


def _roots(source: Path) -> tuple[Path, ...]:
    """Return where the source's files may really lie: under it, or in the blobs of the Hugging Face cache it is in."""
    real = Path(os.path.realpath(source))
    snapshots = (above for above in real.parents if above.name == "snapshots")
    return real, *(above.parent / "blobs" for above in snapshots)


def _walk(folder: Path) -> list[tuple[str, Path]]:
    """Return (relative path, place) of every file under `folder`, by path, following links to files."""
    found: list[tuple[str, Path]] = []
    for parent, folders, files in os.walk(folder):
        base = Path(parent)
        for name in folders:
            if (base / name).is_symlink():
                raise BadInput("a link to a folder", where=str((base / name).relative_to(folder)))
        found.extend(((base / name).relative_to(folder).as_posix(), base / name) for name in files)
    return sorted(found)


def _examine(path: str, place: Path, *, index: int, roots: Sequence[Path]) -> tuple[Content, list[str]]:
    """Return the entry of one file and the names of its tensors."""
    check_path(path, where=repr(path[:200]))
    if place.suffix.lower() in _PICKLES:
        raise BadInput("pickled weights are not sealed", where=path, remedy=_CONVERT)
    file = SourceFile(place, where=path, roots=roots)
    try:
        kind: Literal["safetensors", "other"] = "safetensors" if path.endswith(".safetensors") else "other"
        names: list[str] = []
        first = file.read(0, min(LENGTH_BYTES, file.size))
        if kind == "safetensors":
            length = header_length(first, total=file.size, where=path)
            names.extend(parse_header(file.read(LENGTH_BYTES, length), total=file.size, where=path).tensors)
        elif first[:1] == bytes([_PICKLE_START]) and first[1:2] and first[1] in _PICKLE_PROTOCOLS:
            raise BadInput("pickled data is not sealed", where=path, remedy=_CONVERT)
        return Content(path=path, size=file.size, file=index, kind=kind), names
    finally:
        file.close()
