"""Whether a difference is a step towards other checkpoints: least squares on what sets these apart from the source.

A merge takes the same step in every tensor, and that is what gives it away: siblings are alike in what training did to
them both, but by another share in each tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import matrix
from strongroom.lineage.findings import Finding
from strongroom.lineage.how.residuals import Residual
from strongroom.lineage.how.samples import Pair, rows_of
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
F64 = npt.NDArray[np.float64]

# SmolLM2's copy and the host's sibling: in merges, weights spread by 0.00 to 0.02 over tensors, 0.14 if the merge was
# fine-tuned and 0.22 if half was pruned, in bfloat16. The 300-step fine-tune of the copy has 0.1 of the sibling in it,
# which spreads by 0.5 and explains 1 %. With noise of twice the merge's size, it still explains 14 %.
LEAST_WEIGHT: Final = 0.02
LEAST_EXPLAINED: Final = 0.05
MOST_SPREAD: Final = 0.25
_BEND: Final = 0.003
_EXPLAINED_GAINS: Final = 0.6
_PLACES: Final = (16, 8, 4, 2)  # last places that a step is larger than
_ENOUGH: Final = 2000


@dataclass(frozen=True, slots=True)
class Merge:
    """How much of other checkpoints is in a suspect."""

    weights: Mapping[str, float]
    explained: float  # of the difference's energy
    spread: float  # of the weight over tensors, in weights
    bend: float  # of source and other together, how much more than one: 0 for straight lines
    angle: float  # between source and other, in radians


def merged(
    rest: Sequence[Residual], gains: Sequence[Pair], mixes: Mapping[str, Tensors]
) -> tuple[Merge | None, list[Residual]]:
    """Return what the suspect is a merge with, if it is, and what remains of the differences without it.

    Under a coarse grid or noise, a small step in the matrices is lost; norms' `gains` are mostly kept as they are.
    """
    if not mixes:
        return None, list(rest)
    steps = _steps(rest, mixes)
    found, left = _solved(rest, steps, LEAST_EXPLAINED)
    if found is None:
        lines = [Residual(one, one.difference, np.zeros(one.source.shape, np.bool_), one.source * 0) for one in gains]
        found, _ = _solved([one for one in lines if one.difference.any()], _steps(lines, mixes), _EXPLAINED_GAINS)
        left = [_without(one, steps, found.weights) for one in rest] if found else left
    return found, left


def _solved(
    rest: Sequence[Residual], steps: Mapping[str, Mapping[str, F32]], least: float
) -> tuple[Merge | None, list[Residual]]:
    """Return a merge that explains `least` of the differences' energy, and what remains of them."""
    names = sorted({name for some in steps.values() for name in some})
    used = [one for one in rest if names and all(name in steps[one.pair.name] for name in names)]
    weights, spreads = _weights(used, steps, names)
    kept = [name for name in names if abs(weights[name]) > LEAST_WEIGHT and spreads[name] < MOST_SPREAD]
    if not kept:
        return None, list(rest)
    if kept != names:
        weights, spreads = _weights(used, steps, kept)
    left = [_without(one, steps, weights) for one in rest]
    before, after = (sum(one.energy for one in some) for some in (rest, left))
    explained = 1 - after / before if before else 0.0
    if explained < least:
        return None, list(rest)
    first = max(weights, key=lambda name: abs(weights[name]))
    bend, angle = _bend(used, steps, first)
    return Merge(weights, explained, spreads[first], bend, angle), left


def _weights(
    used: Sequence[Residual], steps: Mapping[str, Mapping[str, F32]], names: Sequence[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the weight of each of `names`, its median over tensors, and by which share it spreads (median)."""
    if not used or not names:
        return dict.fromkeys(names, 0.0), dict.fromkeys(names, 1.0)
    each = np.array([_solve(one, steps[one.pair.name], names) for one in used])
    middle: F64 = np.median(each, axis=0)
    spread: F64 = np.median(np.abs(each - middle), axis=0) / np.maximum(np.abs(middle), 1e-9)
    return dict(zip(names, middle.tolist(), strict=True)), dict(zip(names, spread.tolist(), strict=True))


def without(some: Sequence[Pair], merge: Merge | None, mixes: Mapping[str, Tensors]) -> list[Pair]:
    """Return vectors as they would be without the merge."""
    if merge is None:
        return list(some)
    made: list[Pair] = []
    for one in some:
        left: F32 = one.aligned
        for name, weight in merge.weights.items():
            if one.name in mixes[name].infos():
                left = (left - weight * (matrix(mixes[name], one.name)[None] - one.source)).astype(np.float32)
        made.append(replace(one, aligned=left))
    return made


def finding(merge: Merge, tensors: int) -> Finding:
    """Return a merge in words."""
    said = ", ".join(f"{weight:.2f} of {name}" for name, weight in merge.weights.items())
    way = " (linear or spherical: too close to tell)"
    if merge.angle > _BEND**0.5 * 2 and len(merge.weights) == 1:
        weight = next(iter(merge.weights.values()))
        curved = _curve(weight, merge.angle)
        way = " (spherical)" if merge.bend > curved / 2 > _BEND / 2 else " (linear)" if curved > _BEND else way
    figures = {f"weight:{name}": round(weight, 4) for name, weight in merge.weights.items()}
    return Finding(
        kind="merged",
        detail=f"{said}, {1 - sum(merge.weights.values()):.2f} of the checkpoint{way}",
        evidence=(
            f"least squares on {tensors} matrices: it explains {merge.explained:.1%} of the difference, and the weight"
            f" differs by {merge.spread:.1%} between tensors"
        ),
        figures={
            "weight": round(max(merge.weights.values(), key=abs), 4),
            "explained": round(merge.explained, 4),
            "spread": round(merge.spread, 4),
        }
        | figures,
    )


def _steps(rest: Sequence[Residual], mixes: Mapping[str, Tensors]) -> dict[str, dict[str, F32]]:
    """Return, of each tensor, what sets each other checkpoint apart from the source (rows, columns)."""
    found: dict[str, dict[str, F32]] = {}
    for one in rest:
        found[one.pair.name] = {}
        for name, other in mixes.items():
            info = other.infos().get(one.pair.name)
            if info is None:
                continue
            if len(info.shape) == 1:
                values = matrix(other, one.pair.name)[None]
            else:
                values = rows_of(other, one.pair.name)[:, : one.pair.source.shape[1]]
            if values.shape == one.pair.source.shape and (values != one.pair.source).any():
                step = values - one.pair.source
                found[one.pair.name][name] = np.where(one.mask, np.float32(0), step)
    return found


def _solve(one: Residual, steps: Mapping[str, F32], names: Sequence[str]) -> F64:
    """Return the weights of `names` that explain a difference best."""
    told = _telling(one, [steps[name] for name in names])
    some = np.stack([steps[name][told].astype(np.float64) for name in names])
    found = np.linalg.lstsq(some @ some.T, some @ one.difference[told].astype(np.float64), rcond=1e-9)[0]
    return found.astype(np.float64)


def _telling(one: Residual, steps: Sequence[F32]) -> Bools:
    """Return the weights (rows, columns) that tell: those whose steps are not lost in rounding, if there are enough.

    Weights of a 16-bit checkpoint that move by less than half their last place stay where they are.
    """
    size: F64 = np.sqrt((np.stack(steps).astype(np.float64) ** 2).sum(axis=0))
    places = np.sqrt(12 * one.floor.astype(np.float64))
    for least in _PLACES:
        told: Bools = (size > least * places) & ~one.mask
        if int(told.sum()) >= _ENOUGH:
            return told
    return ~one.mask


def _without(one: Residual, steps: Mapping[str, Mapping[str, F32]], weights: Mapping[str, float]) -> Residual:
    left: F32 = one.difference
    for name, weight in weights.items():
        if name in steps[one.pair.name]:
            left = (left - weight * steps[one.pair.name][name]).astype(np.float32)
    return one.with_difference(left)


def _bend(rest: Sequence[Residual], steps: Mapping[str, Mapping[str, F32]], name: str) -> tuple[float, float]:
    """Return by how much both weights exceed one together, and the angle between source and other (medians)."""
    bends: list[float] = []
    angles: list[float] = []
    for one in rest:
        own, step = one.pair.source[~one.mask], steps[one.pair.name][name][~one.mask]
        other = own + step
        both = np.stack([own, other]).astype(np.float64)
        gram = both @ both.T
        weights = np.linalg.lstsq(gram, both @ one.pair.aligned[~one.mask].astype(np.float64), rcond=1e-12)[0]
        bends.append(float(weights.sum()) - 1)
        angles.append(float(np.arccos(np.clip(gram[0, 1] / np.sqrt(gram[0, 0] * gram[1, 1]), -1, 1))))
    return float(np.median(bends)), float(np.median(angles))


def _curve(weight: float, angle: float) -> float:
    """Return by how much the weights of a spherical merge exceed one together."""
    return float((np.sin((1 - weight) * angle) + np.sin(weight * angle)) / np.sin(angle)) - 1 if angle else 0.0
