"""A suspect on disk: opened as weights, whatever format it is in, and named by its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, cast

from strongroom.core.canonical import digest
from strongroom.core.errors import BadInput
from strongroom.lineage.adapters import OpenSuspect, merged
from strongroom.lineage.files import open_regular
from strongroom.ports.suspects import Suspect
from strongroom.wiring.table import load

_GGUF: Final = b"GGUF"
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = 0x80  # the first byte of every pickle since protocol 2
_PICKLED: Final = (".bin", ".pt", ".pth", ".pkl")
_BRACE: Final = slice(8, 9)  # where the header of a safetensors file begins
_KINDS: Final = {"safetensors": (".safetensors",), "torch": (".bin", ".pt", ".pth"), "gguf": (".gguf",)}


def open_suspect(path: Path, *, partial: bool = False) -> AbstractContextManager[Suspect]:
    """Open a safetensors, PyTorch or GGUF file, or a folder of one of them; an adapter is put into a base beside it.

    With `partial`, a file that ends before its tensors do is read as far as it goes.

    Raises:
        BadInput: it is none, or one that can't be read; a pickle that would run something, which is named.
        InputTooLarge: a header, a pickle or a directory beyond its limits.
        MissingExtra: a GGUF file, and the package that reads it is not installed.

    """
    kind = _kind_of_folder(path) if path.is_dir() else _kind(path)
    opener: Callable[..., OpenSuspect] = load("suspects", kind)
    found = opener(path, partial=partial)
    try:
        return cast("AbstractContextManager[Suspect]", merged(found))
    except BaseException:
        found.close()
        raise


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the canonical JSON of its weight files' [name, digest].

    They are the files of the format that `open_suspect` reads of the folder.

    Raises:
        BadInput: it can't be read, or is neither a file nor a folder.

    """
    if not path.is_dir():
        return _digest(path)
    suffixes = _KINDS[_kind_of_folder(path)]
    return digest([[one.name, _digest(one)] for one in _listed(path) if one.name.endswith(suffixes)])


def _kind(path: Path) -> str:
    """Return the format of a file, by how it begins; if that says nothing, by its name."""
    opened = open_regular(path)
    try:
        first = opened.read(0, min(opened.size, _BRACE.stop))
    finally:
        os.close(opened.descriptor)
    if first.startswith(_GGUF):
        return "gguf"
    if first[_BRACE] == b"{":
        return "safetensors"
    return "torch" if first.startswith((_ZIP, bytes([_PICKLE]))) or path.name.endswith(_PICKLED) else "safetensors"


def _kind_of_folder(folder: Path) -> str:
    """Return the first format of which a folder has a file; safetensors, which says what is wrong, if there is none."""
    names = [one.name for one in _listed(folder)]
    return next(
        (kind for kind, suffixes in _KINDS.items() if any(name.endswith(suffixes) for name in names)), "safetensors"
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(folder)) from None


def _digest(file: Path) -> str:
    opened = open_regular(file)
    try:
        with os.fdopen(opened.descriptor, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
