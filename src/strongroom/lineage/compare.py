"""Is one model made from another: the tests, from the surest to the one that sees most.

1. Do coordinates of the residual stream bear the same numbers? 2. Do hidden units, in the stream's own coordinates;
3. or by what shared tokens do to them? These are exact (`lineage.exact`). 4. Can hidden units be matched, wherever they
stand, in the stream's own coordinates; 5. or by shared tokens? These find what was shuffled and rotated, and have only
the unrelated models of the null bank to be compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from strongroom.lineage.layers import LayerMatch, by_matching, in_order
from strongroom.lineage.model import Model, anchors, embeddings, shared_tokens
from strongroom.lineage.residual import TOKENS, Coordinates, Rotation, coordinates, rotation
from strongroom.lineage.units import Frame, spread

F32 = npt.NDArray[np.float32]

Method = Literal["coordinates", "units", "units-anchored", "matching", "matching-anchored"]

EXACT: Final[tuple[Method, ...]] = ("coordinates", "units", "units-anchored")
_DIMENSIONS: Final = 512
_ANCHORS: Final = 512
_CLEAR: Final = 0.5  # share of units in order: then they need not be matched as well


@dataclass(frozen=True, slots=True)
class Test:
    """One test's outcome. `log10_p` is None for what has no p-value of its own; none is corrected for the others."""

    method: Method
    effect: float  # share of coordinates, or of sampled units, that fit
    log10_p: float | None
    hits: int
    of: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tests of a suspect against one checkpoint, and where its layers come from."""

    tests: tuple[Test, ...]
    layers: tuple[LayerMatch, ...]
    coordinates: Coordinates
    turn: Rotation | None  # None where the widths differ or an embedding is missing

    @property
    def effect(self) -> float:
        """Return the largest share of units that fit."""
        return max((one.effect for one in self.tests if one.method != "coordinates"), default=0.0)

    @property
    def log10_p(self) -> float:
        """Return the smallest exact p-value, corrected for the number of exact tests; at most 0."""
        exact = [one.log10_p for one in self.tests if one.log10_p is not None]
        return min(0.0, min(exact, default=0.0) + math.log10(len(EXACT)))


@dataclass(frozen=True, slots=True)
class _View:
    """In what units are compared, of source and suspect, and what the tests are called then."""

    ordered: Method
    matched: Method
    frames: tuple[Frame, Frame]


def compare(source: Model, suspect: Model) -> Comparison:
    """Run every test that the two models allow; what is found in order need not be matched as well.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    ours, theirs = shared_tokens(source, suspect, most=TOKENS)
    mine, others = embeddings(source, ours), embeddings(suspect, theirs)
    basis = coordinates(mine, others)
    turn = rotation(mine, others) if len(mine) and mine.shape == others.shape else None
    tests = [
        Test("coordinates", basis.hits / max(len(basis.matched), 1), basis.log10_p, basis.hits, len(basis.matched))
    ]
    layers: tuple[LayerMatch, ...] = ()
    views = _views(source, suspect, mine, others=others)
    for view in views:
        order = in_order(source, suspect, view.frames)
        tests.append(Test(view.ordered, order.hits / max(order.sampled, 1), order.log10_p, order.hits, order.sampled))
        if tests[-1].effect >= _CLEAR:
            return Comparison(tuple(tests), order.layers, basis, turn)
    for view in views:
        found = by_matching(source, suspect, view.frames)
        tests.append(Test(view.matched, found.effect, None, 0, 0))
        layers = max(layers, found.layers, key=lambda some: sum(one.fraction for one in some))
        if found.effect >= _CLEAR:
            break
    return Comparison(tuple(tests), layers, basis, turn)


def _views(source: Model, suspect: Model, mine: F32, *, others: F32) -> list[_View]:
    """Return in what the units of the two can be compared; `mine` and `others` embed the tokens that both have."""
    views: list[_View] = []
    if source.body.width == suspect.body.width > 0:
        raw = Frame(columns=spread(source.body.width, _DIMENSIONS))
        views.append(_View("units", "matching", (raw, raw)))
    if len(mine):
        pair = Frame(anchors=anchors(mine[:_ANCHORS])), Frame(anchors=anchors(others[:_ANCHORS]))
        views.append(_View("units-anchored", "matching-anchored", pair))
    return views
