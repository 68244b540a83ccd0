"""From ours, or only from what ours came from: the differences from a public base that both descend from.

A suspect that was made from our checkpoint holds the whole of what we changed: regressed on our difference from the
base, its own has the slope 1, in every tensor, and most clearly where our changes are least systematic. Somebody else's
fine-tune of the same base may have moved the same way, for data teach alike: its slopes are anything, but they scatter.
Correlation alone tells nothing: two fine-tunes on one text, in different orders, reach a cosine of 0.97.

What a rule does to a base is nobody's: whoever prunes it zeroes the same weights, and whoever rounds it to 4 bits errs
by the same. So our zeros are left out, and tensors of ours on such a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import matrix
from strongroom.lineage.elements import FLOATS, dtype_of, finite
from strongroom.lineage.grid import is_coarse
from strongroom.lineage.units import spread
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]

_TENSORS: Final = 42
_BLOCK: Final = 384  # rows and columns of a tensor that are looked at
_SYSTEMATIC: Final = 0.4  # of the directions of our difference, the strongest: what data teach anybody
FEW: Final = 6  # tensors
_NEARLY_ALL: Final = 0.99  # of a difference's weights, and
_FAR: Final = 4.0  # so many times as far: ten standard deviations of a normal distribution
_QUARTILES: Final = 1.349  # between the quartiles of a normal distribution, in standard deviations


@dataclass(frozen=True, slots=True)
class Descent:
    """Slopes of a suspect's difference on ours, over tensors."""

    slope: float  # the median
    scatter: float  # between the quartiles
    cosine: float  # the median, of whole differences
    noise: float  # the scatter that noise alone would bring about
    tensors: int

    @property
    def strangeness(self) -> float:
        """How far this is from a derivative's slopes, which are all 1: 0 is a perfect fit."""
        return abs(self.slope - 1) + self.scatter / max(abs(self.slope), 0.1)


def descent(base: Tensors, ours: Tensors, suspect: Tensors) -> Descent | None:
    """Compare the suspect's difference from the base with ours, the suspect being aligned with ours.

    Returns:
        None where too few tensors of all three can be compared, or ours differs from the base in too few of them, or
        by pruning or rounding. Where it differs in none, there is nothing of ours that a suspect could hold: the slope
        is 0.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    looked = list(_slopes(base, ours, suspect))
    found = [one for one in looked if one is not None]
    if not found and len(looked) >= FEW:
        return Descent(slope=0.0, scatter=0.0, cosine=0.0, noise=0.0, tensors=len(looked))
    if len(found) < FEW:
        return None
    slopes, cosines, errors = np.array(found).T
    low, middle, high = np.quantile(slopes, [0.25, 0.5, 0.75])
    noise = _QUARTILES * float(np.median(errors))
    return Descent(float(middle), float(high - low), float(np.median(cosines)), noise, len(found))


def _slopes(base: Tensors, ours: Tensors, suspect: Tensors) -> Iterator[tuple[float, float, float] | None]:
    for name in _chosen(base, ours, suspect):
        mine = _block(ours, name)
        start = _as_stored(_block(base, name), ours.infos()[name].dtype)
        kept = mine != 0
        changes = (mine - start) * kept
        if (mine != start).any() and (is_coarse(mine) or not changes.any()):
            continue
        yield slope(changes, tamed((_block(suspect, name) - start) * kept, changes))


def tamed(theirs: F32, ours: F32) -> F32:
    """Return their difference, cut to size where it is far beyond nearly all of it, and all of ours.

    One huge weight, of no use to the model, would be all of the slope. What holds the whole of ours loses nothing.
    """
    most = max(float(np.abs(ours).max(initial=0.0)), _FAR * float(np.quantile(np.abs(theirs), _NEARLY_ALL)))
    return np.clip(theirs, -most, most)


def slope(ours: F32, theirs: F32) -> tuple[float, float, float] | None:
    """Return the slope of a difference on ours in our weaker directions, their cosine, and the slope's standard error.

    None if ours is 0. The error is that of white noise in theirs.
    """
    size = float(np.linalg.norm(ours)) * float(np.linalg.norm(theirs))
    if not size:
        return (0.0, 0.0, 0.0) if ours.any() else None
    left, strength, right = np.linalg.svd(ours, full_matrices=False)
    weak = slice(int(_SYSTEMATIC * len(strength)), None)
    energy = float((strength[weak] ** 2).sum())
    if not energy:
        return None
    along = np.einsum("ik,ik->k", left[:, weak], theirs @ right[weak].T)
    found = float((along * strength[weak]).sum()) / energy
    rest = float(np.linalg.norm(theirs - np.float32(found) * ours)) / float(np.sqrt(ours.size))
    return found, float((ours * theirs).sum()) / size, rest / float(np.sqrt(energy))


def _as_stored(values: F32, dtype: str) -> F32:
    """Return the base as it would be in our dtype: rounding to it is nobody's change."""
    return values if dtype not in FLOATS else finite(values.astype(dtype_of(dtype, where="base")))


def _chosen(base: Tensors, ours: Tensors, suspect: Tensors) -> Sequence[str]:
    """Return names of projections that all three have in one shape, spread over the layers."""
    infos = [one.infos() for one in (base, ours, suspect)]
    names = [
        name
        for name, info in infos[1].items()
        if name.endswith("_proj.weight") and all(name in one and one[name].shape == info.shape for one in infos)
    ]
    places: list[int] = spread(len(names), _TENSORS).tolist() if names else []
    return [names[at] for at in places]


def _block(weights: Tensors, name: str) -> F32:
    rows = weights.infos()[name].shape[0]
    return matrix(weights, name, slice(0, min(rows, _BLOCK)))[:, :_BLOCK]
