"""A suspect against the signatures of a whole registry: which checkpoints are worth opening, before any is opened.

Each part of a signature sees what another misses: digests a copy, order (exact p-values) whatever was not reshaped,
the cosines between tokens a rotation, the spread of lengths a file without an embedding. The suspect's side of each is
read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import rows
from strongroom.lineage.exact import fixed_points, log10_p_of_order
from strongroom.lineage.model import Model
from strongroom.lineage.residual import coordinates
from strongroom.lineage.signature import LayerSketch, Signature, at_coordinates, cosines, large, sketch
from strongroom.lineage.units import Units, together, unit_length

F32 = npt.NDArray[np.float32]

_SURE: Final = -6.0  # log10 p of order, after correction for the registry
_SURELY: Final = 6  # checkpoints that are opened for what is sure: versions of one model, mostly
_ALIKE: Final = 2  # that are opened for their likeness alone, in each of the two ways


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a suspect fits a signature."""

    same_tensors: int  # by digest
    log10_p: float  # of coordinates and units in order, the smaller, times two
    cosines: float  # correlation of the cosines between tokens
    lengths: float  # mean difference of the quantiles of units' lengths; infinite where there are none


@dataclass(slots=True)
class Glimpse:
    """What of a suspect signatures are compared with; each part is read when it is first asked for."""

    model: Model
    digests: Mapping[str, str]  # of the suspect's tensors, by name; empty where they were not taken
    _embedding: dict[tuple[int, ...], F32] = field(default_factory=dict[tuple[int, ...], F32])
    _cosines: dict[tuple[int, ...], F32] = field(default_factory=dict[tuple[int, ...], F32])
    _layers: dict[int, LayerSketch] = field(default_factory=dict[int, LayerSketch])
    _places: dict[str, int] = field(default_factory=dict[str, int])

    def embedding(self, numbers: tuple[int, ...]) -> F32:
        """Return the embeddings of tokens, (tokens, width)."""
        if numbers not in self._embedding:
            name = self.model.body.embedding
            width = self.model.body.width
            some = rows(self.model.weights, name, np.array(numbers)) if name and numbers else np.zeros((0, width))
            self._embedding[numbers] = some.astype(np.float32)
        return self._embedding[numbers]

    def cosines(self, numbers: tuple[int, ...]) -> F32:
        """Return the cosines between tokens, (tokens, tokens)."""
        if numbers not in self._cosines:
            self._cosines[numbers] = cosines(self.embedding(numbers))
        return self._cosines[numbers]

    def layer(self, number: int) -> LayerSketch | None:
        """Return the sketch of the layer with a number, or None."""
        if number not in self._layers:
            found = next((one for one in self.model.body.layers if one.number == number), None)
            if found is None:
                return None
            self._layers[number] = sketch(self.model, found)
        return self._layers[number]

    def numbers(self, signature: Signature) -> tuple[list[int], tuple[int, ...]]:
        """Return which of a signature's tokens the suspect has, and their numbers there."""
        tokens = self.model.tokens
        if tokens is None or signature.words is None:
            kept = [at for at, number in enumerate(signature.tokens) if number < self.model.vocabulary]
            return kept, tuple(signature.tokens[at] for at in kept)
        if not self._places:
            self._places = {word: at for at, word in enumerate(tokens[: self.model.vocabulary])}
        places = [self._places.get(word, -1) for word in signature.words]
        return [at for at, place in enumerate(places) if place >= 0], tuple(place for place in places if place >= 0)


def likeness(signature: Signature, suspect: Glimpse) -> Likeness:
    """Compare a suspect with one signature.

    Raises:
        BadInput: the suspect's weights are no floats, or its file became shorter.

    """
    kept, numbers = suspect.numbers(signature)
    of_coordinates, correlation = 0.0, 0.0
    if numbers and suspect.model.body.embedding:
        theirs = suspect.embedding(numbers)
        if theirs.shape[1] == signature.width:
            of_coordinates = coordinates(large(signature.embedding)[kept], at_coordinates(theirs)).log10_p
        correlation = _correlation(large(signature.cosines)[np.ix_(kept, kept)], suspect.cosines(numbers))
    of_units, lengths = _units(signature, suspect)
    same = sum(1 for name, digest in suspect.digests.items() if signature.digests.get(name) == digest)
    return Likeness(same, min(0.0, min(of_coordinates, of_units) + float(np.log10(2))), correlation, lengths)


def worth_opening(found: Sequence[Likeness]) -> list[int]:
    """Return the numbers of the checkpoints to open: all that fit surely, and the few that are most alike."""
    tries = float(np.log10(max(len(found), 1)))
    order = sorted(range(len(found)), key=lambda at: (-found[at].same_tensors, found[at].log10_p, -found[at].cosines))
    sure = [at for at in order if found[at].same_tensors or found[at].log10_p + tries <= _SURE]
    alike = sorted(range(len(found)), key=lambda at: -found[at].cosines)
    even = sorted(range(len(found)), key=lambda at: found[at].lengths)
    return list(dict.fromkeys([*sure[:_SURELY], *alike[:_ALIKE], *even[:_ALIKE]]))


def _units(signature: Signature, suspect: Glimpse) -> tuple[float, float]:
    """Return log10 p of units in order, and how far the spreads of lengths are apart."""
    hits = compared = 0
    apart: list[float] = []
    for ours in signature.layers:
        theirs = suspect.layer(ours.number)
        if theirs is None:
            continue
        apart.append(float(np.abs(np.array(ours.lengths) - np.array(theirs.lengths)).mean()))
        if ours.hidden == theirs.hidden and signature.width == suspect.model.body.width:
            hits += fixed_points(together(_large(ours), _large(theirs)))
            compared += 1
    return log10_p_of_order(hits, permutations=max(compared, 1)), float(np.mean(apart)) if apart else float("inf")


def _large(kept: LayerSketch) -> Units:
    return Units(unit_length(large(kept.gate)), unit_length(large(kept.up)))


def _correlation(one: F32, other: F32) -> float:
    """Return the correlation of two symmetric matrices above their diagonals."""
    if one.shape != other.shape or len(one) < 3:  # noqa: PLR2004 - of two, there is one cosine
        return 0.0
    above = np.triu_indices(len(one), 1)
    left, right = one[above] - one[above].mean(), other[above] - other[above].mean()
    size = float(np.linalg.norm(left)) * float(np.linalg.norm(right))
    return float(left @ right) / size if size else 0.0
