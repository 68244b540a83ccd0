"""A suspect on disk: opened as weights, whatever format it is in, and named by its digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from strongroom.core.canonical import digest
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
    """Return the SHA-256 of a file; of a folder, that of the canonical JSON of its safetensors files' [name, digest].

    Raises:
        BadInput: it can't be read, or is neither a file nor a folder.

    """
    if not path.is_dir():
        return _digest(path)
    return digest([[one.name, _digest(one)] for one in sorted(path.glob("*.safetensors"))])


def _digest(file: Path) -> str:
    descriptor = _opened(file)
    try:
        with os.fdopen(descriptor, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None


def _starts(path: Path) -> bytes:
    """Return the first bytes of a regular file; nothing of a folder."""
    if path.is_dir():
        return b""
    descriptor = _opened(path)
    try:
        return os.read(descriptor, len(_GGUF))
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(path)) from None
    finally:
        os.close(descriptor)


def _opened(file: Path) -> int:
    """Open a regular file. A pipe is not waited for.

    Raises:
        BadInput: it is none, or can't be read.

    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput("no regular file", where=str(file))
    return descriptor
