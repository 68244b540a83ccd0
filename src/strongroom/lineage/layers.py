"""Which layer of a checkpoint each layer of a suspect comes from, by the hidden units that they share.

Every layer of one is compared with every layer of the other, on samples: by the units' numbers (which is exact, and
finds nothing once units were shuffled), or by matching them (which needs a null to be compared with).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.exact import fixed_points
from strongroom.lineage.model import Model
from strongroom.lineage.units import Frame, Units, agreeing, read_units, spread, together

F64 = npt.NDArray[np.float64]

SAMPLE: Final = 128  # units of a layer of the checkpoint
_COARSE: Final = 48  # units and
_COARSE_DIMENSIONS: Final = 192  # dimensions, to find which layer it is
COPIED: Final = 0.1  # share of units in order between two layers of one model: one was copied from the other
_NOTHING: Final = 0.05  # share of a layer's units: below it, the layer comes from nowhere


@dataclass(frozen=True, slots=True)
class LayerMatch:
    """A layer of the suspect, the layer of the checkpoint whose units it has most of, and what share of its sample."""

    suspect: int
    source: int
    fraction: float


@dataclass(frozen=True, slots=True)
class Order:
    """Units that bear the same number in both, over the layers that share most of them."""

    layers: tuple[LayerMatch, ...]
    hits: int
    sampled: int
    permutations: int  # numberings that are independent: the suspect's layers, copies of each other once
    choices: float  # log10 of how many maps of layers were tried


@dataclass(frozen=True, slots=True)
class Matching:
    """Units that are each other's nearest, wherever they stand."""

    layers: tuple[LayerMatch, ...]
    effect: float  # the mean of the layers' fractions


def in_order(source: Model, suspect: Model, frames: tuple[Frame, Frame]) -> Order:
    """Compare the units that bear the same numbers, in the frames of source and suspect.

    The best layer of the checkpoint is taken for each of the suspect's; the p-value is corrected for that choice.
    """
    ours = source.body.layers
    fewest = min((source.body.hidden(one, source.weights.infos()) for one in ours), default=0)
    suspect = _without_small(suspect, fewest)
    theirs = suspect.body.layers
    if not ours or not theirs:
        return Order((), 0, 0, 1, 0.0)
    chosen = spread(fewest, SAMPLE)
    mine = [read_units(source.weights, source.body, one, frame=frames[0], chosen=chosen) for one in ours]
    others = [read_units(suspect.weights, suspect.body, one, frame=frames[1], chosen=chosen) for one in theirs]
    hits = np.array([[fixed_points(together(one, other)) for one in mine] for other in others])
    drawn = _own_numberings(others)
    return Order(
        layers=_map(source, suspect, hits / len(chosen), best=hits.argmax(axis=1).tolist()),
        hits=int(hits.max(axis=1)[drawn].sum()),
        sampled=len(chosen) * len(drawn),
        permutations=len(drawn),
        choices=len(drawn) * math.log10(len(ours)),
    )


def _without_small(model: Model, fewest: int) -> Model:
    """Leave out layers of fewer hidden units than ours have: a layer of one unit must not be all that counts."""
    layers = tuple(one for one in model.body.layers if model.body.hidden(one, model.weights.infos()) >= fewest)
    return replace(model, body=replace(model.body, layers=layers))


def _own_numberings(layers: Sequence[Units]) -> list[int]:
    """Return the layers whose units are numbered by themselves: of layers that are copies of one, the first.

    A layer that stands in a model several times would let the same chance hits count as often.
    """
    kept: list[int] = []
    for at, one in enumerate(layers):
        if all(fixed_points(together(layers[other], one)) < COPIED * len(one.gate) for other in kept):
            kept.append(at)
    return kept


def by_matching(source: Model, suspect: Model, frames: tuple[Frame, Frame]) -> Matching:
    """Match a sample of the checkpoint's units with all of the suspect's, layer by layer."""
    if not source.body.layers or not suspect.body.layers:
        return Matching((), 0.0)
    mine = [_sampled(source, at, frames[0]) for at in range(len(source.body.layers))]
    best: list[int] = []
    fractions = np.zeros((len(suspect.body.layers), len(mine)))
    for at, layer in enumerate(suspect.body.layers):
        units = read_units(suspect.weights, suspect.body, layer, frame=frames[1])
        best.append(_likeliest(mine, units))
        found = agreeing(mine[best[-1]], units)
        fractions[at, best[-1]] = (found >= 0).mean()
    return Matching(_map(source, suspect, fractions, best=best), float(fractions.max(axis=1).mean()))


def _likeliest(mine: Sequence[Units], units: Units) -> int:
    """Return the layer of the checkpoint that shares most with `units`, by fewer units and dimensions."""
    small = _thin(units, np.arange(len(units.gate)))
    counts = [int((agreeing(_thin(one, spread(len(one.gate), _COARSE)), small) >= 0).sum()) for one in mine]
    return int(np.argmax(counts))


def _thin(units: Units, chosen: npt.NDArray[np.int64]) -> Units:
    columns = spread(units.gate.shape[1], _COARSE_DIMENSIONS)
    return Units(units.gate[np.ix_(chosen, columns)], units.up[np.ix_(chosen, columns)])


def _sampled(model: Model, at: int, frame: Frame) -> Units:
    layer = model.body.layers[at]
    chosen = spread(model.body.hidden(layer, model.weights.infos()), SAMPLE)
    return read_units(model.weights, model.body, layer, frame=frame, chosen=chosen)


def _map(source: Model, suspect: Model, fractions: F64, *, best: Sequence[int]) -> tuple[LayerMatch, ...]:
    """Return the layers that come from somewhere."""
    return tuple(
        LayerMatch(theirs.number, source.body.layers[which].number, float(fractions[at, which]))
        for at, (theirs, which) in enumerate(zip(suspect.body.layers, best, strict=True))
        if fractions[at, which] >= _NOTHING
    )
