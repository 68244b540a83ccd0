"""How files of a corpus are written: packed as they were, always to the same bytes, synced before they count."""

from __future__ import annotations

import gzip
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from strongroom.core.errors import MissingExtra
from strongroom.core.privacy_errors import EXTRA


@contextmanager
def packed(target: Path, packing: str) -> Generator[IO[bytes]]:
    """Make a new file (mode 0600) and yield what to write into it, unpacked; at the end it is on the disk.

    Raises:
        MissingExtra: zstd is wanted and not installed.
        OSError: the disk said no.

    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        if packing == "gzip":
            with gzip.GzipFile("", "wb", 6, stream, mtime=0) as out:
                yield cast("IO[bytes]", out)
        elif packing == "zstd":
            with _zstd(stream) as out:
                yield out
        else:
            yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _zstd(stream: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard  # noqa: PLC0415 - only who writes such files needs it
    except ModuleNotFoundError:
        raise MissingExtra("zstandard is not installed", where="zstd", remedy=EXTRA) from None
    return cast("IO[bytes]", zstandard.ZstdCompressor(level=3).stream_writer(stream, closefd=False))


def sync(folder: Path) -> None:
    """Bring a folder and the files in it, not those below, onto the disk."""
    for path in (*(one for one in folder.iterdir() if one.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
