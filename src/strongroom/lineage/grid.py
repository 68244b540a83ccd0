"""Whether weights lie on a coarse grid: a mark on a 4-bit grid is gone when somebody rounds to the grid again.

Quantisers for 4 bits give the weights of a block, mostly 32 in a row, at most 16 values; in a block of trained 16-bit
weights nearly all 32 are distinct. A pruned checkpoint has few values too, but for its zeros none of them twice: that
is no grid. Weights that lie near a grid, but not on it, are not found: a few steps of training are enough to leave it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import CoarseGrid
from strongroom.lineage.elements import dtype_of
from strongroom.lineage.projections import Projection, Projections
from strongroom.ports.marks import Tensors

_BLOCK: Final = 32
_LEVELS: Final = 16
_REPEATS: Final = 1.5  # a coarse block's weights come more often than this each, on average
_SAMPLE: Final = 2_000_000
_MOST_COARSE: Final = 0.5


def refuse_grid(weights: Tensors, where: Projections) -> None:
    """Look at up to two million of the weights, evenly spread, and refuse a checkpoint that lies on a coarse grid.

    Raises:
        CoarseGrid: more than half of the blocks of 32 weights have at most 16 values.

    """
    share = coarse_share(weights, where)
    if share > _MOST_COARSE:
        message = f"{share:.1%} of its blocks of {_BLOCK} weights have at most {_LEVELS} values, as 4-bit grids have"
        raise CoarseGrid(message, where="checkpoint")


def coarse_share(weights: Tensors, where: Projections) -> float:
    """Return which share of the blocks, of up to two million weights, have at most 16 values."""
    coarse = judged = 0
    for tensor in where.tensors:
        width = tensor.shape[1] // _BLOCK * _BLOCK
        rows = min(tensor.shape[0], _SAMPLE // len(where.tensors) // max(width, 1)) or 1
        columns = min(width, max(_BLOCK, _SAMPLE // len(where.tensors) // _BLOCK * _BLOCK))
        for row in ((np.arange(rows) + 0.5) * tensor.shape[0] / rows).astype(np.int64).tolist():
            one, of = _coarse(_blocks(weights, tensor, row * tensor.shape[1], count=columns))
            coarse, judged = coarse + one, judged + of
    return coarse / judged if judged else 0.0


def _blocks(weights: Tensors, tensor: Projection, first: int, *, count: int) -> npt.NDArray[np.float64]:
    """Return blocks (count / 32, 32) of the weights from element `first` on."""
    dtype = dtype_of(tensor.dtype, where=tensor.name)
    buffer = bytearray(count * dtype.itemsize)
    weights.read_into(tensor.name, first, memoryview(buffer))
    return np.frombuffer(buffer, dtype).astype(np.float64).reshape(-1, _BLOCK)


def _coarse(blocks: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Return how many blocks have few values, and how many have any weight but zeros."""
    ordered = np.sort(blocks, axis=1)
    there = ordered != 0
    new = there.copy()
    new[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    weights, levels = there.sum(axis=1), new.sum(axis=1)
    zero = weights < _BLOCK
    coarse = (levels + zero <= _LEVELS) & (weights >= _REPEATS * levels)
    judged = weights > 0
    return int((coarse & judged).sum()), int(judged.sum())
