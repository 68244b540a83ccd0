"""Folders of large files: sealed checkpoints at rest, and the stages that they are written on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Buffer = memoryview | bytearray | bytes


class Blob(Protocol):
    """A file open for reading. Reads name their offset, so that threads may share it."""

    @property
    def size(self) -> int:
        """Return the size in bytes when the file was opened."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset`; return the bytes read, fewer than asked only at the end of the file.

        Raises:
            StorageError: the store can't be read.

        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Sink(Protocol):
    """A file open for appending."""

    def write(self, data: Buffer) -> None:
        """Append all of `data`.

        Raises:
            DiskFull: no room is left; what was written before stays.
            StorageError: the store can't be written.

        """
        ...

    def sync(self) -> None:
        """Return once everything written is durable.

        Raises:
            StorageError: it can't be made so.

        """
        ...

    def close(self) -> None:
        """Let go of the file; call `sync` before."""
        ...


class Stage(Protocol):
    """A folder in the making, held by one process at a time. It outlives the process and can be taken up again."""

    def open(self, name: str) -> Blob | None:
        """Return what an earlier attempt left under `name`, or None."""
        ...

    def append(self, name: str, *, at: int) -> Sink:
        """Return a sink for `name`, after cutting what is there to `at` bytes."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Store a small file whole and durably: after a crash there is the old one or the new one."""
        ...

    def publish(self, folder: str, names: Sequence[str]) -> None:
        """Make the files `names`, and no others, appear under `folder`, durably and at once.

        What else was put on the stage stays there until it is discarded.

        Raises:
            AlreadyExists: `folder` is there.
            StorageError: the store can't be written.

        """
        ...

    def close(self) -> None:
        """Let another process have the stage."""
        ...


class Folders(Protocol):
    """Folders that can be read, wherever they lie."""

    def names(self, folder: str) -> Sequence[str] | None:
        """Return the names in `folder`, sorted, whatever they are; None if there is no such folder."""
        ...

    def open(self, folder: str, name: str) -> Blob | None:
        """Return the file, or None.

        Raises:
            NotSealed: what stands there is no regular file.

        """
        ...


class Blobs(Folders, Protocol):
    """A store of folders, each published once and never changed."""

    def stage(self, key: str) -> Stage:
        """Return the stage of that key, new or left by an earlier attempt.

        Raises:
            Busy: another process holds it.

        """
        ...

    def discard(self, key: str) -> None:
        """Remove the stage of that key and all that it holds.

        Raises:
            Busy: a process holds it.

        """
        ...

    def remove(self, folder: str) -> None:
        """Remove a published folder."""
        ...
