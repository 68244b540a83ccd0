"""Tensors for tests: held in memory, or read from a safetensors file piece by piece."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.core.safetensors_header import LENGTH_BYTES, header_length, parse_header
from strongroom.ports.marks import TensorInfo

NAMES = {
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "int8": "I8",
}
DTYPES = {"F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16), "F32": np.dtype(np.float32)}


class Held:
    """A checkpoint in memory."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.arrays = {name: np.ascontiguousarray(one) for name, one in arrays.items()}

    def infos(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(dtype=NAMES[one.dtype.name], shape=tuple(one.shape)) for name, one in self.arrays.items()
        }

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        one = self.arrays[name].reshape(-1)
        count, odd = divmod(len(buffer), one.itemsize)
        assert not odd
        assert first + count <= one.size
        buffer[:] = one[first : first + count].view(np.uint8).data


class OnDisk:
    """A safetensors file."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDONLY)
        total = file.stat().st_size
        length = header_length(os.pread(self._file, LENGTH_BYTES, 0), total=total, where=file.name)
        header = os.pread(self._file, length, LENGTH_BYTES)
        self._tensors = parse_header(header, total=total, where=file.name).tensors

    def infos(self) -> Mapping[str, TensorInfo]:
        return {name: TensorInfo(dtype=one.dtype, shape=one.shape) for name, one in self._tensors.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        one = self._tensors[name]
        size = (one.stop - one.start) // int(np.prod(one.shape))
        assert os.preadv(self._file, [buffer], one.start + first * size) == len(buffer)

    def close(self) -> None:
        os.close(self._file)


def gaussian(
    generator: np.random.Generator, *, layers: int, hidden: int, width: int, dtype: str = "BF16"
) -> dict[str, npt.NDArray[np.generic]]:
    """Return a Llama's MLP with Gaussian weights, each unit with a spread of its own."""
    made: dict[str, npt.NDArray[np.generic]] = {}
    for layer in range(layers):
        for name in ("gate_proj", "up_proj", "down_proj"):
            spread = np.exp(generator.normal(size=(hidden, 1)) * 0.3) * 0.05
            one = generator.normal(size=(hidden, width)) * spread
            made[f"model.layers.{layer}.mlp.{name}.weight"] = (one.T if name == "down_proj" else one).astype(
                DTYPES[dtype]
            )
    return made
