"""Writing a checkpoint as plain files: the one way out of the sealed world, behind two people's approval (rule 2).

The plaintext is written beside its destination under a temporary name and renamed whole; on any error it is removed.
What a killed export leaves under that name is removed by the next one to the same place. The folder that it all goes
into is opened once, compared with the approved path, and from then on named by its descriptor: no link leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.core.errors import AlreadyExists, ApprovalAltered, BadInput, DiskFull, StorageError, StoreUnavailable
from strongroom.custody.read import SealedReader

_PIECE = 16 << 20  # bytes in memory at a time
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


def check_destination(destination: Path, *, outside: Path | None = None) -> Path:
    """Return where an export goes: absolute, free of links, its parent there, nothing at the place itself.

    Raises:
        AlreadyExists: something stands there (an empty folder is fine).
        BadInput: the parent folder is missing, or the place lies under `outside`.

    """
    target = Path(os.path.realpath(destination.expanduser()))
    if outside is not None and target.is_relative_to(os.path.realpath(outside)):
        raise BadInput("plain files in the home would go into its backups", where=str(target))
    if not target.parent.is_dir():
        raise BadInput("the folder that the export would go into does not exist", where=str(target.parent))
    if target.is_dir() and not any(target.iterdir()):
        return target
    if os.path.lexists(target):
        raise AlreadyExists("something stands at the destination", where=str(target))
    return target


def write_plain(reader: SealedReader, target: Path, *, single: bool) -> None:
    """Write every file of `reader` to `target`: a folder (mode 0700), or with `single` the one file itself (0600).

    Raises:
        AlreadyExists: something came to stand at `target`; it is left alone.
        ApprovalAltered: the path to `target`, as `check_destination` returned it, leads elsewhere now.
        TamperError: a segment was altered; nothing is left at `target`.
        StorageError: the disk said no; nothing is left at `target`.

    """
    partial = f".{target.name}.strongroom-partial"
    with _named(target), _approved(target.parent) as parent, _removed_on_error(partial, parent):
        _remove(partial, parent)
        if single:
            _write(reader, reader.contents.files[0].file, partial, folder=parent)
        else:
            os.mkdir(partial, 0o700, dir_fd=parent)
            with _folder(parent, [partial]) as top:
                for entry in reader.contents.files:
                    *above, name = entry.path.split("/")
                    with _folder(top, above) as place:
                        _write(reader, entry.file, name, folder=place)
        _check_place(parent, target.parent)
        _take_place(partial, target, parent, single=single)
        os.fsync(parent)


@contextmanager
def _approved(folder: Path) -> Generator[int]:
    """Open the folder that was approved: the one at the end of that very path, with no link on the way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check_place(descriptor, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_place(descriptor: int, folder: Path) -> None:
    if Path(f"/proc/self/fd/{descriptor}").readlink() != folder:
        raise ApprovalAltered("the path leads to another folder than the approved one", where=str(folder))


@contextmanager
def _folder(top: int, parts: Sequence[str]) -> Generator[int]:
    """Open a folder under `top`, made on the way."""
    here = os.dup(top)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=here)
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _write(reader: SealedReader, file: int, name: str, *, folder: int) -> None:
    descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
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


def _take_place(partial: str, target: Path, parent: int, *, single: bool) -> None:
    """Give the finished export its name, without replacing what somebody may have put there meanwhile."""
    ends = {"src_dir_fd": parent, "dst_dir_fd": parent}
    try:
        if not single:
            os.rename(partial, target.name, **ends)  # noqa: PTH104 - by descriptor; replaces an empty folder at most
            return
        with suppress(FileNotFoundError, NotADirectoryError):
            os.rmdir(target.name, dir_fd=parent)
        os.link(partial, target.name, **ends, follow_symlinks=False)
    except OSError as error:
        if error.errno in _TAKEN:
            raise AlreadyExists("something came to stand at the destination", where=str(target)) from None
        raise
    os.unlink(partial, dir_fd=parent)


@contextmanager
def _removed_on_error(partial: str, parent: int) -> Generator[None]:
    try:
        yield
    except BaseException:
        _remove(partial, parent)
        raise


def _remove(partial: str, parent: int) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(partial, dir_fd=parent).st_mode):
            shutil.rmtree(partial, dir_fd=parent)
        else:
            os.unlink(partial, dir_fd=parent)


@contextmanager
def _named(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        kind: type[StorageError] = DiskFull if error.errno == errno.ENOSPC else StoreUnavailable
        raise kind(f"the export can't be written ({error.strerror})", where=str(target)) from None
