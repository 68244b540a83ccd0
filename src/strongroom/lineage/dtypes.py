"""What weights truly are: bfloat16 kept in float32 or float16, float16 kept in float32, or what they are kept in.

A mark that moves such weights off the values of their true dtype is gone as soon as somebody rounds them back. By
chance one float16 in eight is a bfloat16, one float32 in 8,192 a float16 and one in 65,536 a bfloat16: a small sample
tells. The share that it takes, a half, matters little: a weight that is not of the narrower dtype is rounded as what it
is kept in, whatever its tensor is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.lineage.elements import dtype_of
from strongroom.lineage.projections import Projection, Projections
from strongroom.ports.marks import Tensors

_ROWS: Final = 16
_PER_ROW: Final = 256
_MOST: Final = 0.5
_NARROWER: Final[Mapping[str, Mapping[str, npt.DTypeLike]]] = {
    "F32": {"BF16": ml_dtypes.bfloat16, "F16": np.float16},  # every bfloat16 of weights' sizes but the least is both
    "F16": {"BF16": ml_dtypes.bfloat16},
    "BF16": {},
}


def true_dtypes(weights: Tensors, where: Projections) -> dict[str, str]:
    """Return each tensor's true dtype, from up to 4,096 of its weights: the narrowest that over half of them have.

    Zeros, and what is not finite, are left out; of nothing but these, it is the dtype that the tensor is kept in.
    """
    return {one.name: _true_dtype(weights, one) for one in where.tensors}


def sampled(weights: Tensors, tensor: Projection, *, rows: int, columns: int) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the first `columns` weights of some `rows` rows, evenly spread, in the dtype that they are kept in."""
    dtype = dtype_of(tensor.dtype, where=tensor.name)
    for row in ((np.arange(rows) + 0.5) * tensor.shape[0] / rows).astype(np.int64).tolist():
        buffer = bytearray(columns * dtype.itemsize)
        weights.read_into(tensor.name, row * tensor.shape[1], memoryview(buffer))
        yield np.frombuffer(buffer, dtype)


def _true_dtype(weights: Tensors, tensor: Projection) -> str:
    rows, columns = min(_ROWS, tensor.shape[0]), min(_PER_ROW, tensor.shape[1])
    some = np.concatenate(list(sampled(weights, tensor, rows=rows, columns=columns))).astype(np.float32)
    some = some[(some != 0) & np.isfinite(some)]
    for name, narrow in _NARROWER[tensor.dtype].items():
        with np.errstate(over="ignore"):  # beyond float16's range is not float16
            same = some.astype(narrow).astype(np.float32) == some
        if same.any() and same.mean() > _MOST:
            return name
    return tensor.dtype
