"""A suspect on disk: opened as weights, whatever format it is in, and named by its digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from strongroom.core.errors import BadInput
from strongroom.ports.marks import Tensors
from strongroom.wiring.table import load

_GGUF: Final = b"GGUF"


def open_suspect(path: Path) -> AbstractContextManager[Tensors]:
    """Open a GGUF file, a safetensors file, or a folder of them.

    Raises:
        BadInput: it is none.
        MissingExtra: a GGUF file, and the package that reads it is not installed.

    """
    kind = "gguf" if _starts(path) == _GGUF else "safetensors"
    opener: Callable[[Path], AbstractContextManager[Tensors]] = load("suspects", kind)
    return opener(path)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of a line ``digest  name`` for each safetensors file, by name.

    Raises:
        BadInput: it can't be read.

    """
    if not path.is_dir():
        return _digest(path)
    listed = [f"{_digest(one)}  {one.name}\n" for one in sorted(path.glob("*.safetensors"))]
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None


def _starts(path: Path) -> bytes:
    """Return the first bytes of a regular file; nothing of a folder, or of what can't be read: its opener says so.

    Raises:
        BadInput: it is neither a file nor a folder. A pipe is not waited for.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise BadInput("no regular file", where=str(path))
        return os.read(descriptor, len(_GGUF)) if stat.S_ISREG(mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)
