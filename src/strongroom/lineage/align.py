"""Undo what hides a suspect's descent: which unit, row and layer of it is which of the checkpoint's, at what scale.

Nothing here looks at codes or chips, only at the checkpoint itself, so that what is decoded afterwards keeps its exact
p-value, however the alignment was found ("align before you decode").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import Layer, gains, matrix
from strongroom.lineage.basis import Basis, basis_of
from strongroom.lineage.compare import Comparison
from strongroom.lineage.model import Model
from strongroom.lineage.units import Units, nearest, together, unit_length

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

READERS: Final = ("gate", "up", "query", "key", "value")
"""What reads the residual stream: (lines, width)."""
WRITERS: Final = ("down", "output")
"""What writes to it: (width, lines)."""
_ROUNDS: Final = 3
_IN_PLACE: Final = 0.9  # share of lines that are where they were: the others were not moved, only changed much
_RESCALED: Final = 0.1  # the middle half of ln(scale) is wider: a symmetry was used


@dataclass(frozen=True, slots=True)
class Lines:
    """Where a tensor's lines (rows of what reads the stream, columns of what writes to it) are in the suspect.

    `moved` is None where all are in place and as many; -1 stands for a line that is not there. `scale` is what the
    suspect's line is of the checkpoint's, None where nothing was scaled.
    """

    moved: I64 | None = None
    scale: F32 | None = None

    @property
    def untouched(self) -> bool:
        """Whether the lines are as they were."""
        return self.moved is None and self.scale is None


@dataclass(frozen=True, slots=True)
class LayerAlignment:
    """One layer of the checkpoint: where it is in the suspect."""

    source: Layer
    suspect: Layer
    lines: Mapping[str, Lines]  # by part


@dataclass(frozen=True, slots=True)
class Alignment:
    """How to read a suspect as the checkpoint that it was made from."""

    basis: Basis
    layers: tuple[LayerAlignment, ...]  # each layer of the checkpoint at most once


def align(source: Model, suspect: Model, found: Comparison) -> Alignment:
    """Return how `suspect` lies to `source`, given their comparison.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    basis = basis_of(found)
    if basis.kind == "unknown":
        return Alignment(basis, ())
    ours = {one.number: one for one in source.body.layers}
    theirs = {one.number: one for one in suspect.body.layers}
    best: dict[int, tuple[float, int]] = {}
    for one in found.layers:
        best[one.source] = max(best.get(one.source, (0.0, 0)), (one.fraction, -one.suspect))
    pairs = [(ours[at], theirs[-which]) for at, (_, which) in sorted(best.items())]
    layers = [_layer(source, suspect, pair, basis=basis) for pair in pairs]
    return Alignment(basis, tuple(layers))


def in_place(suspect: Model, layer: Layer, part: str, *, basis: Basis, like: tuple[Model, Layer]) -> F32 | None:
    """Return a part of a suspect's layer in the checkpoint's basis, its lines in the file's order."""
    name = layer[part]
    if name is None:
        return None
    values = matrix(suspect.weights, name)
    if part in WRITERS:
        return basis.written(values)
    norm = "mlp_norm" if part in {"gate", "up"} else "attention_norm"
    gain = gains(suspect.weights, layer[norm], offsets=suspect.body.offsets)
    original = gains(like[0].weights, like[1][norm], offsets=like[0].body.offsets)
    if gain is None and basis.turn is None:  # a part of a file, without its norms
        return values
    return basis.read(values, gain, original)


def _layer(source: Model, suspect: Model, pair: tuple[Layer, Layer], *, basis: Basis) -> LayerAlignment:
    ours, theirs = pair
    old = {part: as_lines(_values(source, ours, part), part) for part in (*READERS, *WRITERS)}
    new = {
        part: as_lines(in_place(suspect, theirs, part, basis=basis, like=(source, ours)), part)
        for part in (*READERS, *WRITERS)
    }
    lines: dict[str, Lines] = {}
    gate, up, other_gate, other_up = old["gate"], old["up"], new["gate"], new["up"]
    if gate is not None and up is not None and other_gate is not None and other_up is not None:
        moved = _units(Units(unit_length(gate), unit_length(up)), Units(unit_length(other_gate), unit_length(other_up)))
        lines |= _scaled(old, new, ("up", "down"), moved=moved) | {"gate": Lines(moved)}
    for readers in (("query", "key"), ("value", "output")):
        lines |= _heads(old, new, readers)
    return LayerAlignment(ours, theirs, lines)


def _values(model: Model, layer: Layer, part: str) -> F32 | None:
    name = layer[part]
    return None if name is None else matrix(model.weights, name)


def as_lines(values: F32 | None, part: str) -> F32 | None:
    """Return a tensor with its lines as rows: the transpose of one that writes to the stream."""
    return values.T if values is not None and part in WRITERS else values


def _units(ours: Units, theirs: Units) -> I64 | None:
    """Return where each unit is: None if in place; what finds no partner at first is tried again among the rest."""
    if ours.gate.shape == theirs.gate.shape:
        here = np.einsum("ij,ij->i", ours.gate, theirs.gate) + np.abs(np.einsum("ij,ij->i", ours.up, theirs.up))
        sample = np.arange(0, len(here), max(1, len(here) // 64))
        scores = ours.gate[sample] @ theirs.gate.T + np.abs(ours.up[sample] @ theirs.up.T)
        if float((scores.argmax(axis=1) == sample).mean()) >= _IN_PLACE and float(np.median(here)) > 0:
            return None
    moved = np.full(len(ours.gate), -1, dtype=np.int64)
    left, rest = np.arange(len(ours.gate)), np.arange(len(theirs.gate))
    for _ in range(_ROUNDS):
        found = together(ours.take(left), theirs.take(rest))
        moved[left[found >= 0]] = rest[found[found >= 0]]
        left, rest = left[found < 0], np.delete(rest, found[found >= 0])
        if not len(left) or not len(rest) or not (found >= 0).any():
            break
    return moved


def _heads(old: Mapping[str, F32 | None], new: Mapping[str, F32 | None], parts: tuple[str, str]) -> dict[str, Lines]:
    """Return where the rows of attention's projections are: as heads move whole, rows are matched singly."""
    lines: dict[str, Lines] = {}
    for part in parts:
        ours, theirs = old[part], new[part]
        if ours is None or theirs is None:
            continue
        moved = _rows_moved(ours, theirs)
        lines[part] = Lines(moved, _scales(ours, _taken(theirs, moved)))
    return lines


def _rows_moved(ours: F32, theirs: F32) -> I64 | None:
    moved = nearest(np.abs(unit_length(ours) @ unit_length(theirs).T))
    found = int((moved >= 0).sum())
    stayed = int((moved == np.arange(len(moved))).sum())
    return None if ours.shape == theirs.shape and stayed >= _IN_PLACE * found else moved


def _scaled(
    old: Mapping[str, F32 | None], new: Mapping[str, F32 | None], parts: tuple[str, str], *, moved: I64 | None
) -> dict[str, Lines]:
    """Return the lines of up and down, which may be scaled against each other: one by s, the other by 1 / s."""
    slopes: dict[str, F32] = {}
    for part in parts:
        ours, theirs = old[part], new[part]
        if ours is not None and theirs is not None:
            slopes[part] = _slopes(ours, _taken(theirs, moved))
    if len(slopes) < len(parts):
        return {part: Lines(moved) for part in slopes}
    up, down = (slopes[part] for part in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.abs(up / down)) * np.sign(up)
    scale = np.where(np.isfinite(ratio) & (ratio != 0), ratio, 1).astype(np.float32)
    if not is_scaled(scale):
        return {part: Lines(moved) for part in parts}
    return {parts[0]: Lines(moved, scale), parts[1]: Lines(moved, (1 / scale).astype(np.float32))}


def _scales(ours: F32, theirs: F32) -> F32 | None:
    """Return by how much each line was scaled, or None if training, pruning or rounding could have done that.

    A line that lost weights has a smaller slope on ours; ours has slope 1 on it all the same. A scaled one has neither.
    """
    forth, back = _slopes(ours, theirs), _slopes(theirs, ours)
    there = (forth != 0) & (back != 0)
    scale = np.where(there, 1 / np.where(there, back, 1), 1).astype(np.float32)
    lost = 1 - float(np.median(np.where(there, forth * back, 0)))  # forth times back is the square of the cosine
    return scale if is_scaled(scale, lost) and is_scaled(np.where(there, forth, 1), lost) else None


def is_scaled(scale: F32, lost: float = 0.0) -> bool:
    """Whether scales, by their signs or their spread, are a symmetry's and not what training or pruning does.

    Lines of which the share `lost` is no longer there differ in their sizes by up to twice as much.
    """
    low, high = np.quantile(np.log(np.abs(scale)), [0.25, 0.75])
    return bool((scale < 0).mean() > _RESCALED or high - low > _RESCALED + 2 * max(lost, 0.0))


def _slopes(ours: F32, theirs: F32) -> F32:
    """Return for each line what multiple of ours comes nearest to theirs; 0 where there is none."""
    inner = np.einsum("ij,ij->i", ours, theirs)
    energy = np.einsum("ij,ij->i", ours, ours)
    return np.divide(inner, energy, out=np.zeros_like(inner), where=energy > 0)


def _taken(theirs: F32, moved: I64 | None) -> F32:
    """Return the suspect's lines in the checkpoint's order; a line that is not there is zero."""
    if moved is None:
        return theirs
    return np.where((moved >= 0)[:, None], theirs[moved], np.float32(0))
