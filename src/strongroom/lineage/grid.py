"""Whether weights lie on a coarse grid: a mark on such a grid is gone when somebody rounds to the grid again.

Three looks, each at a sample. *Few values in a block*: quantisers for 4 bits give the weights of a block, mostly 32 in
a row, at most 16 values; in a block of trained 16-bit weights nearly all 32 are distinct. A pruned checkpoint has few
values too, but for its zeros none of them twice: that is no grid. *Whole steps in a block*: int8 with a scale for each
block leaves its weights at whole multiples of the largest divided by 127. *Few magnitudes in a run*: FP8 and int8 with
a scale for each row, column, tensor or larger block leave few magnitudes in 512 weights (`lineage.runs`).

Weights that lie near a grid, but not on it, are not found: a few steps of training are enough to leave it. Nor are 5-
and 6-bit blocks with offsets, whose step is no fraction of the largest weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import CoarseGrid
from strongroom.lineage.dtypes import sampled
from strongroom.lineage.projections import Projection, Projections
from strongroom.lineage.runs import LEAST_DISTINCT, distinct
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_BLOCK: Final = 32
_LEVELS: Final = 16
_REPEATS: Final = 1.5  # a coarse block's weights come more often than this each, on average
_SAMPLE: Final = 2_000_000
_MOST_COARSE: Final = 0.5
_SCALED: Final = (32, 64, 128)  # sizes of blocks that have a scale each
_STEPS: Final = {127: 8, 31: 6}  # steps from zero to the largest of a block, and the bits that take them
# Weights are 0.25 of a step off, on average, where there is no grid (0.23 in blocks of 32 if nine in ten are pruned),
# and 0.00 in float32, at most 0.03 in float16 and 0.16 in bfloat16 where there is one: its own rounding blurs it.
_LEAST_OFF: Final = 0.2


def refuse_grid(weights: Tensors, where: Projections) -> None:
    """Look at samples of the weights, evenly spread, and refuse a checkpoint that lies on a coarse grid.

    Raises:
        CoarseGrid: more than half of the blocks of 32 weights have at most 16 values; weights of blocks are whole steps
            of their largest one; or runs of 512 have few magnitudes. The message says which grids look like that.

    """
    share = coarse_share(weights, where)
    if share > _MOST_COARSE:
        message = f"{share:.1%} of its blocks of {_BLOCK} weights have at most {_LEVELS} values, as 4-bit grids have"
        raise CoarseGrid(message, where="checkpoint")
    off, size, steps = steps_off(weights, where)
    if off < _LEAST_OFF:
        message = (
            f"in blocks of {size}, weights are whole {steps}ths of the largest: {off:.2f} off, 0.25 where there is no "
            f"grid. It looks like {_STEPS[steps]}-bit integers with a scale for each block"
        )
        raise CoarseGrid(message, where="checkpoint")
    found = distinct(weights, where)
    if found is not None and found.share < LEAST_DISTINCT:
        message = (
            f"of {found.length} weights along a {found.along}, only {found.share:.0%} differ in magnitude: it looks "
            f"like {found.looks_like} times a scale"
        )
        raise CoarseGrid(message, where="checkpoint")


def coarse_share(weights: Tensors, where: Projections) -> float:
    """Return which share of the blocks, of up to two million weights, have at most 16 values."""
    coarse = judged = 0
    for some in _sample(weights, where):
        one, of = _count_coarse(some.reshape(-1, _BLOCK))
        coarse, judged = coarse + one, judged + of
    return coarse / judged if judged else 0.0


def is_coarse(rows: F32) -> bool:
    """Whether most blocks of 32 weights of rows have at most 16 values."""
    width = rows.shape[1] // _BLOCK * _BLOCK
    coarse, judged = _count_coarse(rows[:, :width].reshape(-1, _BLOCK))
    return coarse > _MOST_COARSE * judged


def steps_off(weights: Tensors, where: Projections) -> tuple[float, int, int]:
    """Return how far weights are off whole steps of their block's largest, in steps, where it is least.

    With the blocks' size and the number of steps from zero to the largest. It is the median over blocks of the mean,
    up to two million weights; 0.25 for weights on no grid, or none that tell.
    """
    found: dict[tuple[int, int], list[F64]] = {}
    for some in _sample(weights, where):
        for size in _SCALED:
            blocks = some[:, : some.shape[1] // size * size].reshape(-1, size)
            for steps in _STEPS:
                found.setdefault((size, steps), []).append(_off(blocks, steps))
    medians = {key: np.concatenate(some) for key, some in found.items()}
    least = [(float(np.median(some)), *key) for key, some in medians.items() if some.size]
    return min(least, default=(0.25, _BLOCK, 127))


def _sample(weights: Tensors, where: Projections) -> Iterator[F32]:
    """Yield pieces of each tensor's rows (rows, columns), some whole blocks of 32 each."""
    for tensor in where.tensors:
        rows, columns = _spread(tensor, _SAMPLE // len(where.tensors))
        if columns:
            yield np.stack(list(sampled(weights, tensor, rows=rows, columns=columns))).astype(np.float32)


def _spread(tensor: Projection, count: int) -> tuple[int, int]:
    """Return how many rows, and how many weights of each, make about `count` of a tensor's weights."""
    width = tensor.shape[1] // _BLOCK * _BLOCK
    rows = min(tensor.shape[0], count // max(width, 1)) or 1
    return rows, min(width, max(_BLOCK, count // _BLOCK * _BLOCK))


def _count_coarse(blocks: F32) -> tuple[int, int]:
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


def _off(blocks: F32, steps: int) -> F64:
    """Return, for each block that tells, how far its weights but the largest are off whole steps, on average."""
    sizes = np.abs(blocks)
    most = sizes.max(axis=1, keepdims=True, initial=0)
    inner = (sizes > 0) & (sizes < most)
    tell = np.isfinite(most[:, 0]) & (inner.sum(axis=1) > 0)
    at: F32 = sizes[tell] / most[tell] * steps
    off: F32 = np.abs(at - np.round(at)) * inner[tell]
    return off.sum(axis=1, dtype=np.float64) / inner[tell].sum(axis=1)
