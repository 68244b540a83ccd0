"""Hidden units as vectors that can be compared across models, and which of two models' units are each other's nearest.

A unit of a gated MLP is a row of the gate and a row of the up projection, both times the norm's gains before them: that
product is what stays when a norm is folded into the weights. Rows are compared as they are, in the residual stream's
own coordinates, or by their products with the embeddings of shared tokens, which no rotation of the stream changes.
Gate rows have a sign of their own; up rows may have it flipped together with the down column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import Anatomy, Layer, gains, matrix, rows
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one layer: rows of gate and up, (units, dimensions), centred over the units, of length 1 or 0."""

    gate: F32
    up: F32

    def take(self, chosen: I64) -> Units:
        """Return some of them."""
        return Units(self.gate[chosen], self.up[chosen])


@dataclass(frozen=True, slots=True)
class Frame:
    """In what rows are compared: some of their columns, or their products with anchors, (width, dimensions)."""

    columns: I64 | None = None
    anchors: F32 | None = None


def read_units(weights: Tensors, body: Anatomy, layer: Layer, *, frame: Frame, chosen: I64 | None = None) -> Units:
    """Return the units of a layer, or those with the numbers `chosen`, in a frame.

    Raises:
        BadInput: its weights are no floats, or the file became shorter.

    """
    gain = gains(weights, layer["mlp_norm"], offsets=body.offsets)
    return Units(*(_rows(weights, layer.parts[part], gain, frame=frame, chosen=chosen) for part in ("gate", "up")))


def _rows(weights: Tensors, name: str, gain: F32 | None, *, frame: Frame, chosen: I64 | None) -> F32:
    values = matrix(weights, name) if chosen is None else rows(weights, name, chosen)
    if gain is not None and gain.shape == values.shape[1:]:
        values = values * gain
    if frame.anchors is not None:
        values = values @ frame.anchors
    elif frame.columns is not None:
        values = values[:, frame.columns]
    return unit_length(values)


def unit_length(values: F32) -> F32:
    """Return rows centred over the rows, each of length 1; one that is then 0 stays.

    Rows are brought to length 1 before the mean is taken as well: or one huge row, of no use to the model, would be all
    of the mean, and all others alike.
    """
    rows_of_one = even_rows(values)
    return even_rows(rows_of_one - rows_of_one.mean(axis=0, dtype=np.float32))


def even_rows(values: F32) -> F32:
    """Return rows of length 1, or 0; by their largest element first, so that no square overflows."""
    peak = np.abs(values).max(axis=1, initial=0.0)
    peak[peak == 0] = 1
    small = values / peak[:, None]
    length = np.sqrt(np.einsum("ij,ij->i", small, small))
    length[length == 0] = 1
    made: F32 = small / length[:, None]
    return made


def nearest(scores: F32) -> I64:
    """Return for each row of `scores`, (n, m), the column that is its largest, and it the column's; -1 for none.

    Only strict maxima count: ties would be settled by their place, which would see order where there is none.
    """
    if not scores.size:
        return np.full(len(scores), -1, dtype=np.int64)
    best = scores.argmax(axis=1)
    top = scores[np.arange(len(scores)), best]
    back = scores.argmax(axis=0)
    height = scores[back, np.arange(scores.shape[1])]
    mutual = back[best] == np.arange(len(scores))
    alone = ((scores == top[:, None]).sum(axis=1) == 1) & ((scores == height).sum(axis=0) == 1)[best]
    return np.where(mutual & alone, best, -1)


def agreeing(source: Units, suspect: Units) -> I64:
    """Return for each unit of `source` the one of `suspect` that is its mutual nearest by gate and by up, or -1."""
    by_gate = nearest(source.gate @ suspect.gate.T)
    by_up = nearest(np.abs(source.up @ suspect.up.T))
    return np.where(by_gate == by_up, by_gate, -1)


def together(source: Units, suspect: Units) -> I64:
    """Return for each unit of `source` its mutual nearest in `suspect` by gate and up together, or -1."""
    return nearest(source.gate @ suspect.gate.T + np.abs(source.up @ suspect.up.T))


def spread(count: int, most: int) -> I64:
    """Return the numbers of at most `most` of `count` things, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
