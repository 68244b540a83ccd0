"""A suspect on disk: opened as weights, whatever format it is in, and named by its digest."""

from __future__ import annotations

import hashlib
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
    try:
        with path.open("rb") as stream:
            return stream.read(len(_GGUF))
    except OSError:  # a folder, or what can't be read: whoever opens it says so
        return b""
