"""A grid that the weights lay on before they were changed again: its error is still in the difference.

Quantising is a function of the checkpoint, so its error is known to the last bit. If the difference holds that error
whole, the suspect was quantised and then trained, adapted or blurred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.how.quantisers import GRIDS, ROW, Grid
from strongroom.lineage.how.residuals import Residual

F32 = npt.NDArray[np.float32]

_TRIED: Final = tuple(
    one for one in GRIDS if one.bits in {4, 8} and one.family in {"signed", "offset", "even", "normal"}
)
_WHOLE: Final = 0.1  # a weight of 0.9 to 1.1: the error is there whole
_LEAST: Final = 0.02
_LOOKED: Final = 6
_ROWS: Final = 64
_FEWEST: Final = 3


@dataclass(frozen=True, slots=True)
class Past:
    """A grid that the weights lay on once."""

    grid: Grid
    weight: float  # of its error in the difference, by least squares: 1 if it is there whole
    explained: float  # of the difference's energy
    tensors: int


def past_grid(rest: Sequence[Residual]) -> tuple[Past | None, list[Residual]]:
    """Return the grid that the differences hold the error of, and what remains of them without it."""
    some = [one for one in rest if one.difference.any()][:: max(1, len(rest) // _LOOKED)][:_LOOKED]
    found = [past for grid in _TRIED if (past := _past(some, grid)) is not None]
    if not found:
        return None, list(rest)
    best = max(found, key=lambda one: one.explained)
    left = [
        one.with_difference(np.where(one.mask, np.float32(0), one.difference - error(one, best.grid))) for one in rest
    ]
    return best, [after if after.energy < before.energy else before for before, after in zip(rest, left, strict=True)]


def error(one: Residual, grid: Grid) -> F32:
    """Return what the grid adds to the source (rows, columns)."""
    return grid.rounded(one.pair.source) - one.pair.source


def _past(some: Sequence[Residual], grid: Grid) -> Past | None:
    weights: list[float] = []
    shares: list[float] = []
    for one in some:
        if grid.block != ROW and grid.block > one.pair.source.shape[1]:
            continue
        off = (grid.rounded(one.pair.source[:_ROWS]) - one.pair.source[:_ROWS])[~one.mask[:_ROWS]].astype(np.float64)
        change = one.difference[:_ROWS][~one.mask[:_ROWS]].astype(np.float64)
        square, both = float(off @ off), float(off @ change)
        if square and change.any():
            weights.append(both / square)
            shares.append(both * both / square / float(change @ change))
    near = [abs(one - 1) < _WHOLE and share > _LEAST for one, share in zip(weights, shares, strict=True)]
    if sum(near) < max(_FEWEST, len(some) // 2 + 1):
        return None
    return Past(grid, float(np.median(weights)), float(np.median(shares)), sum(near))
