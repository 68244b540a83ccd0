"""Is one model made from another: the tests, from the surest to the one that sees most.

1. Do coordinates of the residual stream bear the same numbers? 2. Do hidden units, in the stream's own coordinates;
3. or by what shared tokens do to them? These are exact (`lineage.exact`). 4. Can hidden units be matched, wherever they
stand, in the stream's own coordinates; 5. or by shared tokens? These find what was shuffled and rotated, and have only
the unrelated models of the null bank to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record
from strongroom.lineage.adapter_order import SHUFFLES, adapter_ranks, log10_p_of_ranks
from strongroom.lineage.adapters import adapter_pairs
from strongroom.lineage.exact import log10_p_of_order
from strongroom.lineage.layers import LayerMatch, Order, by_matching, in_order
from strongroom.lineage.model import Model, anchors, embeddings, shared_tokens
from strongroom.lineage.residual import TOKENS, Coordinates, Rotation, coordinates, rotation
from strongroom.lineage.units import Frame, spread

F32 = npt.NDArray[np.float32]

Method = Literal["coordinates", "units", "units-anchored", "adapter", "matching", "matching-anchored"]

EXACT: Final[tuple[Method, ...]] = ("coordinates", "units", "units-anchored", "adapter")
_DIMENSIONS: Final = 512
_ANCHORS: Final = 512
AHEAD: Final = 0.05  # of an adapter's layers: one that fits better than all but these
_SURE: Final = -6.0  # log10 of the p-value of that order
_CLEAR: Final = 0.5  # share of units in order: then they need not be matched as well


class Outcome(Record, frozen=True):
    """One test's outcome, with all that its p-value is made of."""

    method: Method
    effect: Annotated[float, msgspec.Meta(ge=0, le=1)]  # share of coordinates, or of sampled units, that fit
    hits: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0
    of: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0
    permutations: Annotated[int, msgspec.Meta(ge=1, le=1 << 12)] = 1
    choices: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0  # log10 of how many maps of layers were tried
    # of an adapter: among how many shuffles each layer fits less well than they do
    ranks: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=1 << 20)], ...], msgspec.Meta(max_length=1 << 12)] = ()

    @property
    def log10_p(self) -> float:
        """Return log10 of the exact p-value of this one test; 0 of a matching, which has none of its own."""
        if self.method not in EXACT:
            return 0.0
        if self.method == "adapter":
            return log10_p_of_ranks(self.ranks, self.of)
        return log10_p_of_order(self.hits, permutations=self.permutations, tries=self.choices)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tests of a suspect against one checkpoint, and where its layers come from."""

    tests: tuple[Outcome, ...]
    layers: tuple[LayerMatch, ...]
    coordinates: Coordinates
    turn: Rotation | None  # None where the widths differ or an embedding is missing
    sizes: tuple[int, int] = (0, 0)  # layers that could be compared, of the suspect and of the source

    @property
    def effect(self) -> float:
        """Return the largest share of units that fit."""
        return max((one.effect for one in self.tests if one.method != "coordinates"), default=0.0)


@dataclass(frozen=True, slots=True)
class _View:
    """In what units are compared, of source and suspect, and what the tests are called then."""

    ordered: Method
    matched: Method
    frames: tuple[Frame, Frame]


def compare(source: Model, suspect: Model) -> Comparison:
    """Run every test that the two models allow; where units are in order, they are matched in the same view alone.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    if not suspect.body.layers and adapter_pairs(suspect.weights.infos()):
        return _compare_adapter(source, suspect)
    ours, theirs = shared_tokens(source, suspect, most=TOKENS)
    mine, others = embeddings(source, ours), embeddings(suspect, theirs)
    basis = coordinates(mine, others)
    turn = rotation(mine, others) if len(mine) and mine.shape == others.shape else None
    width = len(basis.matched)
    tests = [Outcome(method="coordinates", effect=basis.hits / max(width, 1), hits=basis.hits, of=width)]
    layers: tuple[LayerMatch, ...] = ()
    sizes = len(suspect.body.layers), len(source.body.layers)
    views = _views(source, suspect, mine, others=others)
    for view in views:
        order = in_order(source, suspect, view.frames)
        tests.append(_ordered(view.ordered, order))
        if tests[-1].effect >= _CLEAR and tests[-1].log10_p <= _SURE:
            layers, views = order.layers, [view]
            break
    for view in views:
        found = by_matching(source, suspect, view.frames)
        tests.append(Outcome(method=view.matched, effect=found.effect))
        layers = max(layers, found.layers, key=_weight)
        if found.effect >= _CLEAR:
            break
    return Comparison(tuple(tests), layers, basis, turn, sizes)


def _weight(layers: tuple[LayerMatch, ...]) -> float:
    return sum(one.fraction for one in layers)


def _compare_adapter(source: Model, suspect: Model) -> Comparison:
    """Compare an adapter alone: there is one test for it."""
    ranks = adapter_ranks(source, suspect.weights)
    ahead = sum(1 for rank in ranks if rank < AHEAD * SHUFFLES) / max(len(ranks), 1)
    test = Outcome(method="adapter", effect=ahead, hits=len(ranks), of=SHUFFLES, ranks=ranks)
    return Comparison((test,), (), Coordinates(np.empty(0, np.int64), 0, 0.0), None)


def _ordered(method: Method, order: Order) -> Outcome:
    return Outcome(
        method=method,
        effect=order.hits / max(order.sampled, 1),
        hits=order.hits,
        of=order.sampled,
        permutations=order.permutations,
        choices=order.choices,
    )


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
