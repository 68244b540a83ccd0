"""Blobs as files in local folders.

    ROOT/FOLDER/…           what is published
    ROOT/.stage/KEY/lock    held with flock by the one process at work
    ROOT/.stage/KEY/files/  the folder in the making; `publish` renames it

The order of a publication: every file synced, the stage's folder synced, the rename, the root synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.errors import AlreadyExists, BadName, Busy, DiskFull, NotSealed, StorageError, StoreUnavailable
from strongroom.core.ids import check_name

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_STAGES = ".stage"
_PRIVATE = 0o700
_FILE = 0o600


@contextmanager
def _storage(where: str) -> Generator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        kind: type[StorageError] = DiskFull if error.errno in _FULL else StoreUnavailable
        raise kind(os.strerror(error.errno or 0), where=where) from None


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class LocalBlob:
    """A local file open for reading."""

    def __init__(self, descriptor: int, *, size: int, where: str) -> None:
        """Take over the open `descriptor`."""
        self._descriptor = descriptor
        self._size = size
        self._where = where

    @property
    def size(self) -> int:
        """Return the size in bytes when the file was opened."""
        return self._size

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; return the bytes read, fewer than asked only at the end of the file."""
        done = 0
        with _storage(self._where):
            while done < len(buffer):
                got = os.preadv(self._descriptor, [buffer[done:]], offset + done)
                if not got:
                    break
                done += got
        return done

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class LocalSink:
    """A local file open for appending."""

    def __init__(self, descriptor: int, *, where: str) -> None:
        """Take over the open `descriptor`, which stands at its end."""
        self._descriptor = descriptor
        self._where = where

    def write(self, data: memoryview | bytearray | bytes) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        with _storage(self._where):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]

    def sync(self) -> None:
        """Return once everything written is durable."""
        with _storage(self._where):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _open_regular(path: Path) -> LocalBlob | None:
    """Open `path` if it is a regular file, without following a link and without waiting for a pipe's other end."""
    where = f"{path.parent.name}/{path.name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENOTDIR}:
            raise NotSealed("no regular file stands there", where=where) from None
        raise StoreUnavailable(os.strerror(error.errno or 0), where=where) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise NotSealed("no regular file stands there", where=where)
    return LocalBlob(descriptor, size=status.st_size, where=where)


class LocalStage:
    """A folder in the making, locked."""

    def __init__(self, root: Path, folder: Path) -> None:
        """Lock `folder` under ``root/.stage``, making it if need be."""
        self._root = root
        self._folder = folder
        self._files = folder / "files"
        with _storage(folder.name):
            self._files.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise Busy("another process is writing it", where=folder.name) from None
            _sync_folder(folder.parent)

    def open(self, name: str) -> LocalBlob | None:
        """Return what an earlier attempt left under `name`, or None."""
        check_name(name, what="file")
        return _open_regular(self._files / name) or _open_regular(self._folder / name)

    def append(self, name: str, *, at: int) -> LocalSink:
        """Return a sink for `name`, after cutting what is there to `at` bytes."""
        path = self._files / check_name(name, what="file")
        with _storage(name):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _FILE)
            os.ftruncate(descriptor, at)
            os.lseek(descriptor, at, os.SEEK_SET)
        return LocalSink(descriptor, where=name)

    def put(self, name: str, data: bytes) -> None:
        """Store a small file whole and durably, through a temporary one and a rename."""
        path = self._files / check_name(name, what="file")
        temporary = self._folder / f"{name}.tmp"
        with _storage(name):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _FILE)
            sink = LocalSink(descriptor, where=name)
            try:
                sink.write(data)
                sink.sync()
            finally:
                sink.close()
            os.rename(temporary, path)  # noqa: PTH104 - os throughout: the fault tests count these calls
            _sync_folder(self._files)

    def publish(self, folder: str, names: Sequence[str]) -> None:
        """Rename the stage's files into place; what else was put on the stage stays there."""
        target = self._root / check_name(folder, what="folder")
        with _storage(folder):
            if target.exists():
                raise AlreadyExists("it is published already", where=folder)
            for name in set(os.listdir(self._files)) - set(names):  # noqa: PTH208 - as above
                # out of the way, not away: a crash before the next rename still finds the seal's journal
                os.rename(self._files / name, self._folder / name)  # noqa: PTH104 - as above
            _sync_folder(self._files)
            os.rename(self._files, target)  # noqa: PTH104 - as above
            _sync_folder(self._root)

    def close(self) -> None:
        """Let another process have the stage."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class LocalBlobs:
    """A folder of published folders."""

    def __init__(self, root: Path) -> None:
        """Keep everything under `root`, which is made for this user alone if it is not there."""
        self._root = root
        with _storage(root.name):
            root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)

    def names(self, folder: str) -> Sequence[str] | None:
        """Return the names in `folder`, sorted, whatever they are; None if there is no such folder."""
        with _storage(folder):
            try:
                return sorted(os.listdir(self._root / check_name(folder, what="folder")))  # noqa: PTH208 - as above
            except (FileNotFoundError, NotADirectoryError):
                return None

    def open(self, folder: str, name: str) -> LocalBlob | None:
        """Return the file, or None."""
        return _open_regular(self._root / check_name(folder, what="folder") / check_name(name, what="file"))

    def stage(self, key: str) -> LocalStage:
        """Return the stage of that key, new or left by an earlier attempt."""
        return LocalStage(self._root, self._stage_path(key))

    def discard(self, key: str) -> None:
        """Remove the stage of that key and all that it holds."""
        stage = self.stage(key)
        try:
            with _storage(key):
                shutil.rmtree(self._stage_path(key))
        finally:
            stage.close()

    def remove(self, folder: str) -> None:
        """Remove a published folder: out of sight by one rename, then its files."""
        source = self._root / check_name(folder, what="folder")
        doomed = self._root / _STAGES / f".removed.{folder}"
        with _storage(folder):
            doomed.parent.mkdir(mode=_PRIVATE, exist_ok=True)
            if source.exists():
                os.rename(source, doomed)  # noqa: PTH104 - as above
                _sync_folder(self._root)
            shutil.rmtree(doomed, ignore_errors=True)

    def _stage_path(self, key: str) -> Path:
        """Return the folder of a stage. A key is a name, or NAME:TAG."""
        for part in key.split(":"):
            check_name(part, what="stage")
        if key.count(":") > 1:
            raise BadName(f"stage {key[:80]!r} is not a legal name", where="stage")
        return self._root / _STAGES / key
