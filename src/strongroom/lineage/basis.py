"""How a suspect's residual stream lies to the checkpoint's: alike, renumbered, turned or stretched, and the way back.

A model's function stays when its residual stream is turned by an orthogonal Q: what reads from the stream is multiplied
by Q, what writes to it by its transpose, norms' gains having been folded into the readers (SliceGPT, Ashkboos 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from strongroom.lineage.compare import Comparison
from strongroom.lineage.residual import Coordinates, Rotation

F32 = npt.NDArray[np.float32]

_FITS: Final = 0.3  # share of the embeddings' energy that a turn explains; 0.05 between unrelated models
_STRETCHED: Final = 0.1  # of the embeddings' size: less is what training and rounding do
_FOLDED: Final = 0.25  # median relative change of gains: more is no training, they went elsewhere


@dataclass(frozen=True, slots=True)
class Basis:
    """Suspect's stream = checkpoint's stream @ turn * scale; no turn if they lie alike."""

    kind: Literal["same", "renumbered", "turned", "unknown"]
    turn: F32 | None = None
    scale: float = 1.0

    def back(self, rows: F32) -> F32:
        """Return vectors of the suspect's stream, (any, width), as the checkpoint's."""
        return rows if self.turn is None else rows @ self.turn.T

    def written(self, matrix: F32) -> F32:
        """Return a matrix that writes to the suspect's stream, (width, any), as the checkpoint's."""
        turned = matrix if self.turn is None else self.turn @ matrix
        return turned if self.scale == 1.0 else turned / np.float32(self.scale)

    def read(self, rows: F32, gain: F32 | None, original: F32 | None) -> F32:
        """Return a matrix that reads the suspect's stream through its norm's `gain`, (any, width), as the checkpoint's.

        Where neither turn nor gains differ much, the rows stay as they are, to the bit.
        """
        if self.turn is None and not folded(gain, original):
            return rows
        back = self.back(rows if gain is None else rows * gain)
        if original is None:
            return back
        return np.divide(back, original, out=np.zeros_like(back), where=original != 0)


def folded(gain: F32 | None, original: F32 | None) -> bool:
    """Whether a norm's gains are not what they were, by more than training does."""
    if gain is None or original is None or gain.shape != original.shape:
        return original is not None or gain is not None
    size = np.abs(original)
    return float(np.median(np.abs(gain - original) / np.where(size > 0, size, 1))) > _FOLDED


def basis_of(found: Comparison) -> Basis:
    """Return how the suspect's residual stream lies to the checkpoint's, as far as embeddings tell."""
    turn = found.turn
    stretch = turn.scale if turn is not None and abs(turn.scale - 1) > _STRETCHED and turn.fit > _FITS else 1.0
    if found.coordinates.same:
        return Basis("same", scale=stretch)
    if turn is not None and turn.fit > _FITS:
        if found.coordinates.renumbered:
            return Basis("renumbered", _renumbering(found.coordinates, turn), turn.scale if stretch != 1.0 else 1.0)
        return Basis("turned", turn.turn, stretch)
    plain = any(one.effect >= _FITS for one in found.tests if one.method in {"units", "matching"})
    return Basis("same") if plain else Basis("unknown")


def _renumbering(found: Coordinates, turn: Rotation) -> F32:
    """Return the turn as what it is: coordinates exchanged, some with their signs; the others as they turned out."""
    exact = turn.turn.copy()
    for ours, theirs in enumerate(found.matched.tolist()):
        if theirs >= 0:
            sign = np.sign(turn.turn[ours, theirs]) or 1.0
            exact[ours, :] = 0
            exact[:, theirs] = 0
            exact[ours, theirs] = sign
    return exact
