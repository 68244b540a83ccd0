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
from strongroom.lineage.pickled import TRAINERS
from strongroom.lineage.together import Together
from strongroom.ports.suspects import Suspect
from strongroom.wiring.table import load

_GGUF: Final = b"GGUF"
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = 0x80  # the first byte of every pickle since protocol 2
_PICKLED: Final = (".bin", ".pt", ".pth", ".pkl")
_BRACE: Final = slice(8, 9)  # where the header of a safetensors file begins
_SUFFIXES: Final = {"safetensors": (".safetensors",), "torch": (".bin", ".pt", ".pth"), "gguf": (".gguf",)}
_ADAPTER: Final = "adapter_model."
_CONFIG: Final = "adapter_config.json"


def open_suspect(path: Path, *, partial: bool = False) -> AbstractContextManager[Suspect]:
    """Open a safetensors, PyTorch or GGUF file, or a folder of one of them; an adapter is put into a base beside it.

    With `partial`, a file that ends before its tensors do is read as far as it goes.

    Raises:
        BadInput: it is none, or one that can't be read; a pickle that would run something, which is named.
        InputTooLarge: a header, a pickle or a directory beyond its limits.
        MissingExtra: a GGUF file, and the package that reads it is not installed.

    """
    parts = _parts(path) if path.is_dir() else [(_kind(path), path)]
    found: list[OpenSuspect] = []
    try:
        for kind, where in parts:
            opener: Callable[..., OpenSuspect] = load("suspects", kind)
            found.append(opener(where, partial=partial))
        whole = merged(found[0] if len(found) == 1 else Together(found))
    except BaseException:
        for one in found:
            one.close()
        raise
    return cast("AbstractContextManager[Suspect]", whole)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the canonical JSON of its weight files' [name, digest].

    They are the files of the formats that `open_suspect` reads of the folder, and what says how much an adapter counts.

    Raises:
        BadInput: it can't be read, or is neither a file nor a folder.

    """
    if not path.is_dir():
        return _digest(path)
    found = {one for kind, where in _parts(path) for one in (_of_kind(path, kind) if where == path else [where])}
    if (path / _CONFIG).is_file():
        found.add(path / _CONFIG)
    return digest([[one.name, _digest(one)] for one in sorted(found)])


def vocabulary_of(suspect: Suspect) -> str | None:
    """Return the SHA-256 of the canonical JSON of a suspect's tokens, by which models are aligned; None without any.

    A tokenizer lies in or beside what is read, so that no digest of the weights covers it.
    """
    tokens = suspect.tokens()
    return None if tokens is None else digest(list(tokens))


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


def _parts(folder: Path) -> list[tuple[str, Path]]:
    """Return what to open in a folder: the first format of which it has weights, and an adapter in another.

    Where there is nothing, it is safetensors: its reader says what is wrong.
    """
    listed = {kind: _of_kind(folder, kind) for kind in _SUFFIXES}
    adapters = {kind: [one for one in files if one.name.startswith(_ADAPTER)] for kind, files in listed.items()}
    kinds = [kind for kind, files in listed.items() if len(files) > len(adapters[kind])]
    base = (kinds or [kind for kind, files in listed.items() if files] or ["safetensors"])[0]
    others = [(kind, one) for kind, files in adapters.items() for one in files if kind != base]
    return [(base, folder)] + ([] if adapters[base] else others[:1])


def _of_kind(folder: Path, kind: str) -> list[Path]:
    """Return the files in a folder that are of a format by their names, in order."""
    try:
        names = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(folder)) from None
    return [one for one in names if one.name.endswith(_SUFFIXES[kind]) and not one.name.startswith(TRAINERS)]


def _digest(file: Path) -> str:
    opened = open_regular(file)
    try:
        with os.fdopen(opened.descriptor, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
