"""Whether a difference is of low rank, as merged adapters leave it; and the rank of an adapter that came alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.findings import Finding
from strongroom.lineage.how.residuals import Residual
from strongroom.lineage.how.samples import part_of
from strongroom.lineage.how.spectra import Spectrum, predicted, spectrum
from strongroom.ports.suspects import Suspect

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_ADAPTER: Final = re.compile(r"^(?P<module>.+?)\.lora_(?P<side>[AB])(?:\.[^.]+)?(?:\.weight)?$")
_LOW: Final = 0.34  # of a tensor's shorter side
_EDGE: Final = 1.6  # eigenvalues of bfloat16's rounding reach 1.3 times white noise's edge (columns of their own sizes)
_LEFT: Final = 2.0  # storing leaves 0.9 to 1.3 of what is expected, next to trained directions
_MOST_MASKED: Final = 0.9
_RANKS_APART: Final = 2
_SPREAD: Final = 0.3
_RANKS: Final = (8, 16, 32)
# Of weights held out, a low rank leaves 0.00 to 0.1 where half are pruned, next to 0.6 and more of training's.
_UNPREDICTED: Final = 0.2
_EXACTLY: Final = 0.03
_HOPELESS: Final = 0.8
_FAINT: Final = 0.01  # of the first eigenvalue


@dataclass(frozen=True, slots=True)
class LowRank:
    """A tensor whose difference is of low rank."""

    residual: Residual
    rank: int
    left: float  # of its mean square, in what storing explains
    explained: float  # of its energy, by its directions


def low_rank(one: Residual) -> LowRank | None:
    """Return the rank of a difference, None where it is not low or where something but storage is left beside it."""
    rows, columns = _profile(one)
    flat: F32 = (one.difference / np.sqrt(rows * columns)).astype(np.float32)
    if one.mask.any():
        return _masked(one)
    found = spectrum(flat)
    return _told(one, found, found.above(_EDGE))


def alike(low: Sequence[LowRank]) -> bool:
    """Tell whether the ranks are those of one adapter: the same in most tensors.

    Training of which a coarse grid leaves but the largest directions to see has as many as chance wills: 23 to 81.
    """
    ranks = np.array([one.rank for one in low])
    return bool(np.quantile(ranks, 0.75) - np.quantile(ranks, 0.25) <= max(_RANKS_APART, _SPREAD * np.median(ranks)))


def lora(low: Sequence[LowRank], changed: int, looked: int) -> Finding:
    """Return low-rank differences in words."""
    ranks = [one.rank for one in low]
    rank = max(set(ranks), key=lambda at: (ranks.count(at), at))
    top = int(np.quantile(ranks, 0.9))
    rank = top if ranks.count(rank) < len(ranks) / 2 else rank
    parts = sorted({one.residual.pair.part for one in low})
    size = float(np.median([np.sqrt(one.residual.energy) for one in low]))
    explained = float(np.median([one.explained for one in low]))
    return Finding(
        kind="lora",
        detail=f"rank {rank} on {', '.join(parts)}",
        evidence=(
            f"in {len(low)} of {changed} changed matrices ({looked} looked at), {min(ranks)} to {max(ranks)} directions"
            f" hold {explained:.2%} of the difference; what is left is as large as storing explains. It is {size:.2%}"
            " of a tensor's spread"
        ),
        figures={
            "rank": float(rank),
            "matrices": float(len(low)),
            "size": round(size, 5),
            "explained": round(explained, 5),
        },
    )


def adapter(suspect: Suspect) -> Finding | None:
    """Return that the suspect is an adapter alone: its rank and modules, by its tensors' shapes; None if it is none."""
    ranks: dict[str, int] = {}
    infos = suspect.infos()
    for name, info in infos.items():
        match = _ADAPTER.match(name)
        if match is not None and len(info.shape) == 2:  # noqa: PLR2004 - a matrix
            ranks[match["module"]] = min(info.shape[0] if match["side"] == "A" else info.shape[1], *info.shape)
    if not ranks:
        return None
    rank = max(set(ranks.values()), key=lambda at: (list(ranks.values()).count(at), at))
    parts = sorted({part_of(module) for module in ranks})
    scaling = suspect.storage().scaling
    return Finding(
        kind="lora",
        detail=f"an adapter alone, rank {rank} on {', '.join(parts)}, scaled by {scaling:g}",
        evidence=f"the shapes of {sum(1 for name in infos if _ADAPTER.match(name))} tensors for {len(ranks)} modules",
        figures={"rank": float(rank), "modules": float(len(ranks)), "scaling": scaling, "alpha": scaling * rank},
    )


def _profile(one: Residual) -> tuple[F64, F64]:
    """Return what storing adds to each row's and each column's variance (rows, 1) and (1, columns), as a product."""
    floor = one.floor.astype(np.float64)
    rows = floor.mean(axis=1, keepdims=True)
    columns = floor.mean(axis=0, keepdims=True)
    least = max(float(floor.mean()) * 1e-3, 1e-24)
    return np.maximum(rows, least), np.maximum(columns / max(float(floor.mean()), least), 1e-3)


def _told(one: Residual, found: Spectrum, rank: int) -> LowRank | None:
    if not 0 < rank <= _LOW * len(found.values):
        return None
    left = found.rest(rank)
    if left > _LEFT:
        return None
    return LowRank(one, rank, left, float(found.values[:rank].sum() / found.values.sum()))


def _masked(one: Residual) -> LowRank | None:
    """Return the rank of a difference of which only some weights are known: the least that predicts the others."""
    if one.kept < 1 - _MOST_MASKED:
        return None
    best: LowRank | None = None
    for rank in _RANKS:
        left, values = predicted(one.difference, one.mask, rank)
        left = max(left - one.expected / max(one.energy, 1e-30), 0.0)
        if left < min(_UNPREDICTED, 1 - best.explained if best else 1.0):
            best = LowRank(one, int((values > _FAINT * values[0]).sum()), 1.0, 1 - left)
        if left < _EXACTLY or (best is None and left > _HOPELESS):
            break
    return best
