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

# SmolLM2's host against its sibling: merges by 0.1 to 0.9, in bfloat16, have weights that spread by 0.00 to 0.03 over
# tensors; the 300-step fine-tune of a copy has 0.15 +- 0.2 of the sibling in it and is explained by less than 3 %.
LEAST_WEIGHT: Final = 0.02
LEAST_EXPLAINED: Final = 0.3
MOST_SPREAD: Final = 0.25
_BEND: Final = 0.003
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


def merged(rest: Sequence[Residual], mixes: Mapping[str, Tensors]) -> tuple[Merge | None, list[Residual]]:
    """Return what the suspect is a merge with, if it is, and what remains of the differences without it."""
    steps = _steps(rest, mixes)
    names = [name for name in mixes if any(name in some for some in steps.values())]
    if not names or not rest:
        return None, list(rest)
    used = [one for one in rest if all(name in steps[one.pair.name] for name in names)]
    each = [_solve([one], steps, names) for one in used]
    total = _solve(used, steps, names)
    kept = [name for at, name in enumerate(names) if _is_step(total[at], np.array([one[at] for one in each]))]
    if not kept:
        return None, list(rest)
    weights = _solve(used, steps, kept)
    left = [_without(one, steps, dict(zip(kept, weights.tolist(), strict=True))) for one in rest]
    before, after = (sum(one.energy for one in some) for some in (rest, left))
    explained = 1 - after / before if before else 0.0
    if explained < LEAST_EXPLAINED:
        return None, list(rest)
    places = np.array([one[names.index(kept[0])] for one in each])
    spread = float(np.median(np.abs(places - weights[0]))) / abs(float(weights[0]))
    bend, angle = _bend(used, steps, kept[0])
    found = Merge(dict(zip(kept, weights.tolist(), strict=True)), explained, spread, bend, angle)
    return found, left


def without(some: Sequence[Pair], merge: Merge | None, mixes: Mapping[str, Tensors]) -> list[Pair]:
    """Return vectors as they would be without the merge."""
    if merge is None:
        return list(some)
    made: list[Pair] = []
    for one in some:
        left = one.aligned
        for name, weight in merge.weights.items():
            if one.name in mixes[name].infos():
                left = left - np.float32(weight) * (matrix(mixes[name], one.name)[None] - one.source)
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
            values = rows_of(other, one.pair.name)[:, : one.pair.source.shape[1]]
            if values.shape == one.pair.source.shape and (values != one.pair.source).any():
                step = values - one.pair.source
                found[one.pair.name][name] = np.where(one.mask, np.float32(0), step)
    return found


def _solve(rest: Sequence[Residual], steps: Mapping[str, Mapping[str, F32]], names: Sequence[str]) -> F64:
    """Return the weights of `names` that explain the differences best, each tensor's in spreads of it."""
    normal, target = np.zeros((len(names), len(names))), np.zeros(len(names))
    for one in rest:
        scale = 1 / one.pair.spread**2
        told = _telling(one, [steps[one.pair.name][name] for name in names])
        some = [steps[one.pair.name][name][told].astype(np.float64) for name in names]
        change = one.difference[told].astype(np.float64)
        for at, step in enumerate(some):
            target[at] += scale * float(step @ change)
            for by, other in enumerate(some):
                normal[at, by] += scale * float(step @ other)
    return np.linalg.lstsq(normal, target, rcond=1e-9)[0]


def _telling(one: Residual, steps: Sequence[F32]) -> Bools:
    """Return the weights (rows, columns) that tell: those whose steps are not lost in rounding, if there are enough.

    Weights of a 16-bit checkpoint that move by less than half their last place stay where they are.
    """
    size = np.sqrt(sum((step.astype(np.float64) ** 2 for step in steps), np.zeros(one.mask.shape)))
    places = np.sqrt(12 * one.floor.astype(np.float64))
    for least in _PLACES:
        told: Bools = (size > least * places) & ~one.mask
        if int(told.sum()) >= _ENOUGH:
            return told
    return ~one.mask


def _is_step(weight: float, each: F64) -> bool:
    """Tell whether a weight is one that a merge has: of some size, and the same in every tensor."""
    return abs(weight) > LEAST_WEIGHT and float(np.median(np.abs(each - weight))) < MOST_SPREAD * abs(weight)


def _without(one: Residual, steps: Mapping[str, Mapping[str, F32]], weights: Mapping[str, float]) -> Residual:
    left = one.difference
    for name, weight in weights.items():
        if name in steps[one.pair.name]:
            left = left - np.float32(weight) * steps[one.pair.name][name]
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
