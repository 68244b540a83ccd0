"""The elements of a tensor as float32, read in pieces that fit a cache; what is not finite counts as zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import OtherShape
from strongroom.core.errors import BadInput
from strongroom.lineage.projections import Projection
from strongroom.ports.marks import TensorInfo, Tensors

F32 = npt.NDArray[np.float32]

CHUNK: Final = 1 << 16  # weights worked on at a time: their intermediate arrays stay in a core's own cache
_READ_BYTES: Final = 8 << 20
_F16_IN_F32: Final = np.int32(-0x7000_2000)  # 0x8FFFE000: where its bits come to stand, the copies of the sign cut
_F16_EXPONENTS: Final = np.float32(2**112)
_F16_BEYOND: Final = np.float32(2**16)
_DTYPES: Final[dict[str, np.dtype[np.generic]]] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
FLOATS: Final = frozenset(_DTYPES)
"""The safetensors dtypes that weights can be read from."""


def dtype_of(name: str, *, where: str) -> np.dtype[np.generic]:
    """Return numpy's type for the safetensors dtype `name`.

    Raises:
        BadInput: it has no floating-point meaning by itself.

    """
    if name not in _DTYPES:
        raise BadInput(f"weights in {name} can't be read as numbers by themselves", where=where)
    return _DTYPES[name]


class Rows:
    """A projection's rows, in a suspect or a checkpoint, as float32 chunks.

    Can be gone through more than once; a tensor that fits the buffer of 8 MiB is read once all the same.
    """

    __slots__ = ("_buffer", "_dtype", "_held", "_name", "_per_read", "_weights", "shape")

    def __init__(self, weights: Tensors, info: TensorInfo, where: Projection) -> None:
        """Look at the tensor of `weights` that has the projection's name: `info` says in which float dtype.

        Raises:
            OtherShape: it has another shape.
            BadInput: its dtype is no float.

        """
        if info.shape != where.shape:
            message = f"the tensor is {shown(info.shape)}, the checkpoint's is {shown(where.shape)}"
            raise OtherShape(message, where=f"tensor {where.name!r}")
        self.shape = where.shape
        self._weights, self._name = weights, where.name
        self._dtype = dtype_of(info.dtype, where=f"tensor {where.name!r}")
        rows, width = where.shape
        step = _chunk_rows(width)
        wanted = _READ_BYTES // (width * self._dtype.itemsize) // step * step
        self._per_read = min(rows, max(step, wanted))
        self._buffer = bytearray(self._per_read * width * self._dtype.itemsize)
        self._held = -1

    def chunks(self) -> Iterator[tuple[int, F32]]:
        """Yield the number of a first row and a chunk of rows (rows, width), the caller's to change, in order."""
        rows, width = self.shape
        step = _chunk_rows(width)
        for start in range(0, rows, self._per_read):
            block = self._block(start, min(self._per_read, rows - start))
            for at in range(0, len(block), step):
                yield start + at, finite(block[at : at + step])

    def _block(self, start: int, rows: int) -> npt.NDArray[np.generic]:
        width = self.shape[1]
        view = memoryview(self._buffer)[: rows * width * self._dtype.itemsize]
        if self._held != start:
            self._weights.read_into(self._name, start * width, view)
            self._held = start
        return np.frombuffer(view, self._dtype).reshape(rows, width)


def _chunk_rows(width: int) -> int:
    return max(1, CHUNK // width)


def finite(some: npt.NDArray[np.generic]) -> F32:
    """Return a copy in float32 with zeros in place of what is not finite."""
    if some.dtype == np.float16:
        return _finite_f16(some.view(np.int16))
    with np.errstate(over="ignore", invalid="ignore"):
        made = some.astype(np.float32)
    odd = ~np.isfinite(made)
    if odd.any():
        made[odd] = 0
    return made


def _finite_f16(words: npt.NDArray[np.int16]) -> F32:
    """Do the same for float16 whose bits are `words`, six times as fast as numpy's own conversion.

    Sign, exponent and fraction move to their places in a float32; a product then mends the exponent, whose zero is
    2^112 higher, for subnormal numbers too. What was infinite or no number has the largest exponent: 2^16 and more.
    """
    bits = words.astype(np.int32)
    bits <<= 13
    bits &= _F16_IN_F32
    made = bits.view(np.float32)
    made *= _F16_EXPONENTS
    odd = np.abs(made) >= _F16_BEYOND
    if odd.any():
        made[odd] = 0
    return made


def shown(shape: tuple[int, ...]) -> str:
    """Return a shape in words: 576x1536."""
    return "x".join(map(str, shape)) or "a single number"
