"""What training leaves: differences of many directions, of another size in every part, and norms' gains that moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.findings import Finding
from strongroom.lineage.how.casts import rounding
from strongroom.lineage.how.grids import on_grid
from strongroom.lineage.how.quantisers import Grid
from strongroom.lineage.how.residuals import SAME, Residual
from strongroom.lineage.how.samples import Pair
from strongroom.lineage.how.spectra import whiteness

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# 300 steps over all of SmolLM2's copy move projections by 0.5 to 1.2 % of their spread, its embedding by 5 %; its gains
# by 2.6 % of theirs, 67 % of them. Rounding alone moves gains by 0.29 of their last place, in root mean square.
CONTINUED: Final = 0.05
_MOVED: Final = 2.0
_LEAST_MOVED: Final = 1e-3
_MOST_GAINS: Final = 0.2
_INTACT: Final = 0.6
_CODES: Final = 0.005
_GAUSSIAN: Final = 1.2533  # a Gaussian's spread, in its mean magnitudes
_PARTS: Final = 4


@dataclass(frozen=True, slots=True)
class Codes:
    """How many weights are at another step of a known grid than the checkpoint's own would be."""

    share: float
    size: float  # of what moved them there, in spreads of a tensor
    tensors: int
    looked: int


def moved(some: Sequence[Pair], dtype: str) -> list[tuple[Pair, float]]:
    """Return the vectors that differ by more than rounding, with their differences' size beside their own spread."""
    found: list[tuple[Pair, float]] = []
    for one in some:
        change = one.difference.astype(np.float64)
        expected = float(np.sqrt(rounding(one.aligned, dtype).mean(dtype=np.float64)))
        size = float(np.sqrt((change**2).mean()))
        if size > max(_MOVED * expected, _LEAST_MOVED * one.spread) and float((change != 0).mean()) > _MOST_GAINS:
            found.append((one, size / max(one.spread, 1e-9)))
    return found


def codes(rest: Sequence[Residual], grid: Grid) -> Codes | None:
    """Return how many weights moved to another step of the grid; None where alignment has broken up its blocks.

    What is much smaller than a step moves few weights, but those it moves by a whole step: on average as much as it is.
    """
    shares: list[float] = []
    sizes: list[float] = []
    for one in rest:
        if not on_grid(grid, one.pair.aligned):
            continue
        made, step = grid.as_stored(one.pair.source, one.pair.aligned)
        off: F32 = np.abs(one.pair.aligned - made)[~one.mask]
        same = off <= SAME * step[~one.mask]
        if same.size and float(same.mean()) > _INTACT:
            shares.append(1 - float(same.mean()))
            sizes.append(_GAUSSIAN * float(off[~same].sum()) / off.size / one.pair.spread)
    if not shares:
        return None
    return Codes(float(np.median(shares)), float(np.median(sizes)), sum(one > _CODES for one in shares), len(shares))


def differ(found: Codes | None) -> bool:
    """Tell whether so many weights moved to another step that something was done before the grid."""
    return found is not None and found.share > _CODES


def fine_tuned(
    some: Sequence[Residual], gains: Sequence[tuple[Pair, float]], *, looked: int, hidden: Codes | None
) -> Finding:
    """Return training in words: `some` matrices that it changed, norms' `gains` that moved, what a grid may hide."""
    sizes = {one.pair.name: float(np.sqrt(max(one.energy - one.expected, 0))) for one in some}
    size = float(np.median(list(sizes.values()))) if sizes else 0.0
    if hidden is not None and differ(hidden) and len(some) < looked / 2:
        size = hidden.size  # a coarse grid shows only the largest changes whole
    words = "continued training" if size > CONTINUED else "light fine-tuning"
    figures = {"size": round(size, 5), "matrices": float(len(some)), "gains": float(len(gains))}
    told: list[str] = []
    if some:
        white = [whiteness(one.difference, one.mask if one.mask.any() else None) for one in some[:_PARTS]]
        edge = float(np.median([one.edge for one in white]))
        changed = float(np.mean([(one.difference != 0)[~one.mask].mean() for one in some]))
        figures |= {"edge": round(edge, 2), "changed": round(changed, 4)}
        told.append(
            f"{len(some)} of {looked} matrices, {changed:.0%} of their weights: {_parts(some, sizes)}; the largest"
            f" eigenvalue is {edge:.1f} times white noise's edge"
        )
    if gains:
        told.append(
            f"{len(gains)} vectors (norms' gains) moved by {np.median([at for _, at in gains]):.1%} of their spread"
        )
    if hidden is not None and differ(hidden):
        told.append(f"{hidden.share:.1%} of the weights are at another step than the checkpoint's own would be")
    where = f"{size:.1%} of a tensor's spread" if size else "too little beside what storing hides to say how much"
    return Finding(kind="fine_tuned", detail=f"{words}: {where}", evidence="; ".join(told), figures=figures)


def _parts(some: Sequence[Residual], sizes: dict[str, float]) -> str:
    """Return the size of the change by part, the largest first."""
    by_part: dict[str, list[float]] = {}
    for one in some:
        by_part.setdefault(one.pair.part, []).append(sizes[one.pair.name])
    ordered = sorted(((float(np.median(at)), part) for part, at in by_part.items()), reverse=True)
    return ", ".join(f"{part} {size:.1%}" for size, part in ordered[:8])
