"""Where what leaves comes to stand: one place that two people approved, and no other (rule 2).

The folder that it all goes into is opened once, compared with the approved path, and from then on named by its
descriptor: no link leads elsewhere. What is written is first called ``.NAME.strongroom-partial``, takes its name by one
rename, and is removed on any error; what somebody put at the place meanwhile is never replaced, but an empty folder.
Two who write to the same place never mix: a folder is locked by whoever writes it, until their process ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.core.errors import (
    AlreadyExists,
    ApprovalAltered,
    BadInput,
    Busy,
    DiskFull,
    StorageError,
    StoreUnavailable,
)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


def check_destination(destination: Path, *, outside: Path | None = None) -> Path:
    """Return where something that leaves goes: absolute, free of links, its parent there, nothing at the place itself.

    Raises:
        AlreadyExists: something stands there (an empty folder is fine).
        BadInput: the parent folder is missing, or the place lies under `outside`.

    """
    target = Path(os.path.realpath(destination.expanduser()))
    if outside is not None and target.is_relative_to(os.path.realpath(outside)):
        raise BadInput("what leaves would go into the backups of the home", where=str(target))
    if not target.parent.is_dir():
        raise BadInput("the folder that it would go into does not exist", where=str(target.parent))
    if target.is_dir() and not any(target.iterdir()):
        return target
    if os.path.lexists(target):
        raise AlreadyExists("something stands at the destination", where=str(target))
    return target


def partial_name(target: Path) -> str:
    """Return what stands beside `target` while it is being written."""
    return f".{target.name}.strongroom-partial"


@contextmanager
def landing(target: Path, *, what: str) -> Generator[int]:
    """Yield a descriptor of the folder that `target` goes into; on any error nothing half-written is left there.

    What an earlier attempt left is removed first. `what` is being written, in words.

    Raises:
        ApprovalAltered: the path to `target`, as `check_destination` returned it, leads elsewhere now.
        Busy: somebody else is writing to the same place; what they wrote is left alone.
        StorageError: the disk said no.

    """
    partial = partial_name(target)
    with _named(target, what), _approved(target.parent) as parent:
        _clear(partial, parent)
        try:
            yield parent
        except BaseException:
            with suppress(Busy):  # by now it is somebody else's
                _clear(partial, parent)
            raise


@contextmanager
def held_folder(name: str, parent: int) -> Generator[int]:
    """Make the folder `name` (mode 0700) in `parent` and yield a descriptor of it; nobody else clears it meanwhile.

    At the end it is removed, unless it has another name by then.

    Raises:
        Busy: somebody else is writing to the same place.

    """
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except (FileExistsError, FileNotFoundError):
        raise _busy(name) from None
    try:
        if not _lock(descriptor) or not _stands(descriptor, name, parent):
            raise _busy(name)
        try:
            yield descriptor
        finally:
            if _stands(descriptor, name, parent):
                remove(name, parent)
    finally:
        os.close(descriptor)


def _clear(name: str, parent: int) -> None:
    """Remove what an earlier attempt left, but not what somebody is at work on."""
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError:  # no folder, so nobody can have locked it
        remove(name, parent)
        return
    try:
        if not _lock(descriptor):
            raise _busy(name)
        if _stands(descriptor, name, parent):
            remove(name, parent)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open folder for as long as it is open; return False where somebody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stands(descriptor: int, name: str, parent: int) -> bool:
    """Whether the open folder is the one of that name in `parent`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(name, dir_fd=parent))
    except FileNotFoundError:
        return False


def _busy(name: str) -> Busy:
    return Busy("somebody else is writing to the same place", where=name, remedy="Wait, or choose another place.")


@contextmanager
def _approved(folder: Path) -> Generator[int]:
    """Open the folder that was approved: the one at the end of that very path, with no link on the way."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        check_place(descriptor, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def check_place(descriptor: int, folder: Path) -> None:
    """Return if the open folder is still the one at that path.

    Raises:
        ApprovalAltered: the path leads elsewhere now.

    """
    if Path(f"/proc/self/fd/{descriptor}").readlink() != folder:
        raise ApprovalAltered("the path leads to another folder than the approved one", where=str(folder))


def take_place(source: str, target: Path, parent: int, *, held_in: int) -> None:
    """Give the finished folder `source`, which stands in the folder `held_in`, the name `target` in `parent`.

    Raises:
        AlreadyExists: something came to stand there; it is left alone.

    """
    with _taken(target):  # the rename replaces an empty folder at most
        os.rename(source, target.name, src_dir_fd=held_in, dst_dir_fd=parent)


def take_place_as_file(source: str, target: Path, parent: int) -> None:
    """Give the finished file `source` in `parent` the name `target`.

    Raises:
        AlreadyExists: something came to stand there; it is left alone.

    """
    with _taken(target):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.rmdir(target.name, dir_fd=parent)
        os.link(source, target.name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
    os.unlink(source, dir_fd=parent)


def remove(name: str, parent: int) -> None:
    """Remove a file or folder, if it is there."""
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)


@contextmanager
def _taken(target: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _TAKEN:
            raise AlreadyExists("something came to stand at the destination", where=str(target)) from None
        raise


@contextmanager
def _named(target: Path, what: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        kind: type[StorageError] = DiskFull if error.errno == errno.ENOSPC else StoreUnavailable
        raise kind(f"the {what} can't be written ({error.strerror})", where=str(target)) from None


def write_new(place: Path, data: bytes, *, mode: int) -> None:
    """Write a new small file, durably; a file that is there is never replaced, nor is half of one left.

    Raises:
        AlreadyExists: something stands there.
        StorageError: the disk said no.

    """
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise AlreadyExists("there is a file of that name", where=str(place)) from None
    except OSError as error:
        raise StoreUnavailable(f"the file can't be written ({error.strerror})", where=str(place)) from None
    try:
        with _named(place, "file"), os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except StorageError:
        with suppress(OSError):
            place.unlink()
        raise
