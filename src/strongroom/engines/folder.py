"""A checkpoint in a plain folder, read and written: what is trained and measured here is no secret of anybody."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from strongroom.core.errors import BadInput, DiskFull, MissingExtra, StorageError, StoreUnavailable
from strongroom.engines.torch_tensors import as_tensor
from strongroom.ports.weights import WeightSource

try:
    import torch
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - `PathLike` without its argument
except ModuleNotFoundError as missing:
    raise MissingExtra("reading a model needs safetensors, not installed", where=str(missing.name)) from missing

FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
_WEIGHTS, _SUFFIX, _INDEX = "model.safetensors", ".safetensors", ".safetensors.index.json"
_FULL = 28  # ENOSPC


class _Reader(Protocol):
    """The part of safetensors' open file that we use."""

    def keys(self) -> list[str]:
        """Return the tensors' names."""
        ...

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return a tensor."""
        ...


class Folder:
    """A `WeightSource` over a folder of safetensors files and what goes with them: no folders in it, no shard index."""

    def __init__(self, path: Path) -> None:
        """Open the safetensors files in `path`.

        Raises:
            BadInput: it is no folder, has no such file, or a broken one.

        """
        if not path.is_dir():
            raise BadInput("not a folder", where=str(path))
        self._files = {one.name: one for one in sorted(path.iterdir()) if one.is_file()}
        self._tensors: dict[str, _Reader] = {}
        for name, file in self._files.items():
            if name.endswith(_SUFFIX):
                reader = _open(file)
                self._tensors |= dict.fromkeys(reader.keys(), reader)
        if not self._tensors:
            raise BadInput("no safetensors file in the folder", where=str(path))

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self._tensors)

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return the tensor, in the file's type.

        Raises:
            BadInput: there is none of that name.

        """
        if name not in self._tensors:
            raise BadInput("no such tensor", where=name[:200])
        return self._tensors[name].get_tensor(name)

    def files(self) -> list[str]:
        """Return the names of the files in the folder."""
        return list(self._files)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of one of `files`.

        Raises:
            BadInput: there is none of that name, or it can't be read.

        """
        try:
            return self._files[path].read_bytes()
        except (KeyError, OSError) as error:
            raise BadInput(f"can't be read: {type(error).__name__}", where=path[:200]) from None


def _open(file: Path) -> _Reader:
    """Open one safetensors file."""
    try:
        return cast("_Reader", safe_open(file, framework="pt"))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"not a safetensors file: {type(error).__name__}", where=file.name) from None


def write_like(source: WeightSource, tensors: Mapping[str, object], target: Path, *, dtype: str) -> None:
    """Write `tensors`, torch's or numpy's, in `dtype` into the folder `target`, beside `source`'s config and tokenizer.

    Those are written that `source` has, so that tied tensors stay one. All files are on the disk when it returns.

    Raises:
        BadInput: a tensor of `source` is missing from `tensors`, or `dtype` is unknown.
        StorageError: the disk said no.

    """
    if dtype not in FLOATS:
        raise BadInput(f"unknown dtype; one of {', '.join(FLOATS)}", where=dtype[:40])
    if lost := [name for name in source.keys() if name not in tensors]:  # noqa: SIM118 - a source is no mapping
        raise BadInput("the trained model has lost a tensor", where=lost[0][:200])
    whole = {name: as_tensor(tensors[name], where=name) for name in source.keys()}  # noqa: SIM118
    kept = {name: one.detach().to(FLOATS[dtype]).contiguous() for name, one in whole.items()}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in source.files():
            if not name.endswith((_SUFFIX, _INDEX)):
                (target / name).write_bytes(_with_dtype(name, source.read_file(name), dtype))
                _sync(target / name)
    except OSError as error:
        raise disk_error(error, target) from error
    write_tensors(kept, target / _WEIGHTS, {"format": "pt"})


def write_tensors(tensors: Mapping[str, torch.Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Write one safetensors file, whole or not at all; it is on the disk when this returns.

    Raises:
        StorageError: the disk said no.

    """
    partial = file.with_name(file.name + ".partial")
    try:
        save_file(dict(tensors), partial, metadata=metadata)
        _sync(partial)
        partial.replace(file)
    except SafetensorError as error:  # which tells of the system's error in words alone
        kind = DiskFull if f"os error {_FULL}" in str(error) else StoreUnavailable
        raise kind("the weights can't be written", where=str(file)) from error
    except OSError as error:
        raise disk_error(error, file) from error
    finally:
        partial.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def make_folder(path: Path) -> Path:
    """Make the folder `path`, and those above it, unless it is there.

    Raises:
        StorageError: the disk said no.

    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, path) from error
    return path


def disk_error(error: OSError, place: Path) -> StorageError:
    """Return what an error of the disk is in the house's words."""
    kind = DiskFull if error.errno == _FULL else StoreUnavailable
    return kind(f"the model can't be written: {error.strerror}", where=str(place))


def _with_dtype(name: str, raw: bytes, dtype: str) -> bytes:
    """Return a file's bytes; of the config, with the dtype that the weights now have."""
    if name != "config.json":
        return raw
    document = cast("dict[str, object]", json.loads(raw))
    document.pop("torch_dtype", None)  # what older versions of transformers called it
    return (json.dumps(document | {"dtype": dtype}, ensure_ascii=False, indent=1) + "\n").encode()
