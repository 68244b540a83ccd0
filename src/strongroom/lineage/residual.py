"""The residual stream's basis: whether two models share it, and the rotation between them if they don't.

Embeddings of the tokens that both models have are looked at column by column (is coordinate j of one the coordinate j
of the other?), and as a whole: the orthogonal matrix that turns one's embeddings into the other's (Schönemann 1966).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.exact import fixed_points, log10_p_of_order
from strongroom.lineage.units import even_rows, nearest, unit_length

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

TOKENS: Final = 4096
_FEW: Final = 64  # tokens: of fewer, columns say nothing
_EVEN: Final = 0.9  # share of coordinates that are matched alike: then the basis is the same, or a renumbered one


@dataclass(frozen=True, slots=True)
class Coordinates:
    """How the coordinates of two models' residual streams match, by the embeddings of shared tokens."""

    matched: I64  # (width,) of the source: the suspect's coordinate, or -1
    hits: int  # coordinates with the same number
    log10_p: float  # of so many, if the suspect was trained from an initialisation of its own

    @property
    def same(self) -> bool:
        """Whether nearly all coordinates are the same."""
        return len(self.matched) > 0 and self.hits >= _EVEN * len(self.matched)

    @property
    def renumbered(self) -> bool:
        """Whether nearly all coordinates have partners, under other numbers."""
        return not self.same and len(self.matched) > 0 and int((self.matched >= 0).sum()) >= _EVEN * len(self.matched)


def coordinates(source: F32, suspect: F32) -> Coordinates:
    """Compare embeddings of the same tokens, (tokens, width) each.

    Models of different widths, or with too few tokens in common, have no coordinates in common.
    """
    if source.shape != suspect.shape or len(source) < _FEW:
        return Coordinates(np.empty(0, np.int64), 0, 0.0)
    matched = nearest(np.abs(unit_length(even_rows(source).T) @ unit_length(even_rows(suspect).T).T))
    hits = fixed_points(matched)
    return Coordinates(matched, hits, log10_p_of_order(hits))


@dataclass(frozen=True, slots=True)
class Rotation:
    """The turn of the residual stream: suspect rows = source rows @ `turn` times `scale`."""

    turn: F32  # (width, width), orthogonal
    scale: float
    fit: float  # the share of the suspect's embeddings, in energy, that the turned source explains


def rotation(source: F32, suspect: F32) -> Rotation:
    """Return the rotation of the source's embeddings (tokens, width) that comes nearest to the suspect's.

    Every token counts the same, whatever its length: an unused one can be made as long as one likes.
    """
    ours, theirs = even_rows(source), even_rows(suspect)
    left, _, right = np.linalg.svd(ours.T @ theirs)
    turn = (left @ right).astype(np.float32)
    fit = float(((ours @ turn) * theirs).sum(dtype=np.float64)) / max(len(ours), 1)
    return Rotation(turn, _stretch(source, suspect), max(fit, 0.0) ** 2)


def _stretch(source: F32, suspect: F32) -> float:
    """Return by how much longer the suspect's embeddings are: the median over tokens."""
    ours, theirs = (np.linalg.norm(one.astype(np.float64), axis=1) for one in (source, suspect))
    both = (ours > 0) & (theirs > 0)
    return float(np.median(theirs[both] / ours[both])) if both.any() else 1.0
