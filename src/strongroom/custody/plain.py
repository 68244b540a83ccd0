"""Writing a checkpoint as plain files: the one way out of the sealed world, behind two people's approval (rule 2).

The plaintext is written beside its destination under a temporary name and renamed whole; on any error it is removed.
What a killed export leaves under that name is removed by the next one to the same place (`landing`).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.custody.landing import check_place, held_folder, landing, partial_name, take_place, take_place_as_file
from strongroom.custody.read import Reader

_PIECE = 16 << 20  # bytes in memory at a time
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_plain(reader: Reader, target: Path, *, single: bool) -> None:
    """Write every file of `reader` to `target`: a folder (mode 0700), or with `single` the one file itself (0600).

    Raises:
        AlreadyExists: something came to stand at `target`; it is left alone.
        ApprovalAltered: the path to `target`, as `check_destination` returned it, leads elsewhere now.
        TamperError: a segment was altered; nothing is left at `target`.
        StorageError: the disk said no; nothing is left at `target`.

    """
    partial = partial_name(target)
    with landing(target, what="export") as parent:
        if single:
            _write(reader, reader.contents.files[0].file, partial, folder=parent)
            check_place(parent, target.parent)
            take_place_as_file(partial, target, parent)
        else:
            with held_folder(partial, parent) as top:
                for entry in reader.contents.files:
                    *above, name = entry.path.split("/")
                    with _folder(top, above) as place:
                        _write(reader, entry.file, name, folder=place)
                check_place(parent, target.parent)
                take_place(partial, target, parent, held_in=parent)
        os.fsync(parent)


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


def _write(reader: Reader, file: int, name: str, *, folder: int) -> None:
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
