"""Writing a checkpoint as plain files: the one way out of the sealed world, behind two people's approval (rule 2).

The plaintext is written beside its destination under a temporary name and renamed whole; on any error it is removed.
What a killed export leaves under that name is removed by the next one to the same place.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.errors import AlreadyExists, BadInput, DiskFull, StorageError, StoreUnavailable
from strongroom.custody.read import SealedReader

_PIECE = 16 << 20  # bytes in memory at a time


def check_destination(destination: Path) -> Path:
    """Return where an export goes: absolute, its parent there, nothing at the place itself.

    Raises:
        AlreadyExists: something stands there (an empty folder is fine).
        BadInput: the parent folder is missing.

    """
    target = destination.expanduser().resolve()
    if not target.parent.is_dir():
        raise BadInput("the folder that the export would go into does not exist", where=str(target.parent))
    if target.is_dir() and not any(target.iterdir()):
        return target
    if target.exists():
        raise AlreadyExists("something stands at the destination", where=str(target))
    return target


def write_plain(reader: SealedReader, target: Path, *, single: bool) -> None:
    """Write every file of `reader` to `target`: a folder, or with `single` the one file itself.

    Raises:
        TamperError: a segment was altered; nothing is left at `target`.
        StorageError: the disk said no; nothing is left at `target`.

    """
    partial = target.with_name(f".{target.name}.strongroom-partial")
    with _named(target), _removed_on_error(partial):
        _remove(partial)
        if single:
            _write(reader, reader.contents.files[0].file, partial)
        else:
            partial.mkdir(mode=0o700)
            for entry in reader.contents.files:
                place = partial / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                _write(reader, entry.file, place)
        _take_place(partial, target)
        _sync(target.parent)


def _write(reader: SealedReader, file: int, place: Path) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as stream:
        size = reader.size(file)
        buffer = memoryview(bytearray(min(_PIECE, size)))
        for offset in range(0, size, _PIECE):
            piece = buffer[: min(_PIECE, size - offset)]
            reader.read_into(file, offset, piece)
            written = 0
            while written < len(piece):
                written += stream.write(piece[written:]) or 0
        os.fsync(stream.fileno())


def _take_place(partial: Path, target: Path) -> None:
    """Give the finished export its name, without replacing what somebody may have put there meanwhile."""
    if partial.is_dir():
        partial.rename(target)  # over an empty folder at most
        return
    if target.is_dir():
        target.rmdir()
    try:
        target.hardlink_to(partial)
    except FileExistsError:
        raise AlreadyExists("something came to stand at the destination", where=str(target)) from None
    partial.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _removed_on_error(partial: Path) -> Generator[None]:
    try:
        yield
    except BaseException:
        _remove(partial)
        raise


def _remove(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


@contextmanager
def _named(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        kind: type[StorageError] = DiskFull if error.errno == errno.ENOSPC else StoreUnavailable
        raise kind(f"the export can't be written ({error.strerror})", where=str(target)) from None
