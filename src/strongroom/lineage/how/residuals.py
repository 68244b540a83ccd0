"""What is left of a tensor's difference once zeros and known steps are out of it, and how much storing it explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.how.casts import rounding
from strongroom.lineage.how.grids import on_grid
from strongroom.lineage.how.pruning import zeroed
from strongroom.lineage.how.quantisers import Grid
from strongroom.lineage.how.samples import Pair

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SAME: Final = 0.4  # of a step: bfloat16 moves the largest weights of 8 bits by a quarter of one
_ALL: Final = 0.995


@dataclass(frozen=True, slots=True)
class Residual:
    """A difference, of the weights that were not pruned."""

    pair: Pair
    difference: F32  # (rows, columns), zero under the mask
    mask: Bools  # (rows, columns): weights that tell nothing, since they were set to zero
    floor: F32  # (rows, columns): the variance that storing it adds to each weight

    @property
    def kept(self) -> float:
        """The share of the weights that tell."""
        return 1 - float(self.mask.mean())

    @property
    def energy(self) -> float:
        """The mean square of the weights that tell, in squares of the tensor's spread."""
        return float((self.difference.astype(np.float64) ** 2).mean()) / max(self.kept, 1e-9) / self.pair.spread**2

    @property
    def expected(self) -> float:
        """The mean square that storing alone would leave, in squares of the tensor's spread."""
        floor = float(np.where(self.mask, 0, self.floor).mean(dtype=np.float64))
        return floor / max(self.kept, 1e-9) / self.pair.spread**2

    def with_difference(self, difference: F32) -> Residual:
        """Return the same with another difference."""
        return replace(self, difference=difference)


def residuals(some: Sequence[Pair], dtype: str, *, grid: Grid | None, pruned: bool) -> list[Residual]:
    """Return the differences of tensors that are stored in `dtype`, on `grid`, and `pruned`.

    A grid does not reach every tensor: an embedding is often left as it was. Where alignment turned the weights' basis
    back, none is on the grid any more, and all of them were.
    """
    if grid is None:
        return [_residual(one, dtype, None, pruned=pruned) for one in some]
    there = [on_grid(grid, one.aligned) for one in some]
    anywhere = any(there)
    return [
        _residual(one, dtype, grid if here or not anywhere else None, pruned=pruned)
        for one, here in zip(some, there, strict=True)
    ]


def _residual(pair: Pair, dtype: str, grid: Grid | None, *, pruned: bool) -> Residual:
    mask = zeroed(pair, grid) if pruned else np.zeros(pair.source.shape, np.bool_)
    floor, difference = rounding(pair.aligned, dtype), pair.difference
    if grid is not None:
        made, step = grid.as_stored(pair.source, pair.aligned)
        same: Bools = np.abs(pair.aligned - made) <= SAME * step
        if float(same[~mask].mean() if not mask.all() else 1) > _ALL:
            difference = np.zeros_like(difference)
        floor = floor + _noise(made - pair.source)
    return Residual(pair, np.where(mask, np.float32(0), difference), mask, floor)


def _noise(error: F32) -> F32:
    """Return the variance (rows, columns) that a grid adds to the source, as a product of rows' and columns'."""
    square = error.astype(np.float64) ** 2
    mean = float(square.mean()) or 1.0
    return (square.mean(axis=1, keepdims=True) * square.mean(axis=0, keepdims=True) / mean).astype(np.float32)
