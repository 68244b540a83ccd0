"""Evidence and reports as files: written for their owner alone, read up to a limit."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.core.errors import BadInput, InputTooLarge


def write_private(file: Path, raw: bytes, *, what: str) -> None:
    """Write a new file that its owner alone may read: an expert's evidence holds the secrets of marks.

    Raises:
        BadInput: something stands there, or the disk said no.

    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(raw)
    except OSError as error:
        raise BadInput(f"the {what} can't be written ({error.strerror})", where=str(file)) from None


def read_bounded(file: Path, limit: int, *, what: str) -> bytes:
    """Return a file's bytes.

    Raises:
        InputTooLarge: there are more than `limit`.

    """
    with file.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise InputTooLarge(f"over {limit} bytes: no {what}", where=str(file))
    return raw
