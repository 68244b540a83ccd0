"""What is left of a tensor's difference once zeros and known steps are out of it, and how much storing it explains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from strongroom.lineage.how.casts import rounding
from strongroom.lineage.how.pruning import zeroed
from strongroom.lineage.how.grids import on_grid
from strongroom.lineage.how.quantisers import TENSOR, Grid
from strongroom.lineage.how.samples import Pair

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


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


def grid_noise(pair: Pair, grid: Grid) -> F32:
    """Return the variance (rows, columns) that a grid adds to the source: its mean, spread as the steps' squares are."""
    if grid.block == TENSOR:
        return np.full(pair.source.shape, _tensor_noise(pair, grid), np.float32)
    error: F32 = grid.rounded(pair.source) - pair.source
    step = grid.step(pair.source)
    square = step * step
    mean = float(square.mean(dtype=np.float64))
    if mean == 0:
        return np.zeros_like(step)
    return square * np.float32((error.astype(np.float64) ** 2).mean() / mean)


def _residual(pair: Pair, dtype: str, grid: Grid | None, *, pruned: bool) -> Residual:
    mask = zeroed(pair, grid) if pruned else np.zeros(pair.source.shape, np.bool_)
    floor = rounding(pair.aligned, dtype)
    if grid is not None:
        floor = floor + grid_noise(pair, grid)
    return Residual(pair, np.where(mask, np.float32(0), pair.difference), mask, floor)


def _tensor_noise(pair: Pair, grid: Grid) -> float:
    """Return the same for a scale that the whole tensor has: some rows don't hold its largest weight, but its step."""
    sizes: F32 = np.abs(pair.aligned)
    least = float(sizes[sizes > 0].min(initial=np.inf))
    step = max(least if np.isfinite(least) else 0, float(np.abs(pair.source).max()) / grid.steps / 4)
    if not step:
        return 0.0
    error = np.clip(np.round(pair.source / step), -grid.steps, grid.steps) * step - pair.source
    return float((error.astype(np.float64) ** 2).mean())
