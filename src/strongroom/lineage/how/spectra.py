"""The spectrum of a difference: how many directions stand out of it, and whether the rest is white noise.

The eigenvalues of white noise (rows, columns) follow the law of Marchenko and Pastur (1967): none lies much above its
edge, and their quantiles are known. A low-rank difference has a few above and nothing but storage's rounding below;
training has many above, and no sharp edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_POINTS: Final = 2000
_QUANTILES: Final = (0.1, 0.25, 0.75, 0.9)
_ROUNDS: Final = 4
_FILL: Final = 25
_TINY: Final = 1e-30
_SIDE: Final = 256


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The eigenvalues of a difference's Gram matrix, in the order from the largest."""

    values: F64  # (the shorter side,)
    long: int  # the longer side

    @property
    def energy(self) -> float:
        """The mean square of the weights."""
        return float(self.values.sum()) / (len(self.values) * self.long)

    def above(self, variance: float) -> int:
        """Return how many eigenvalues lie above the edge of white noise of `variance`."""
        edge = variance * self.long * (1 + np.sqrt(len(self.values) / self.long)) ** 2
        return int((self.values > max(edge, 1e-9 * float(self.values[0]))).sum())

    def rest(self, rank: int) -> float:
        """Return the mean square that is left without the first `rank` directions, made up for those taken."""
        short = len(self.values)
        left = max(short - rank, 1) * max(self.long - rank, 1)
        return float(self.values[rank:].sum()) / left


@dataclass(frozen=True, slots=True)
class Whiteness:
    """How a difference's spectrum compares with that of white noise of the same middle eigenvalue."""

    edge: float  # its largest eigenvalue, over the edge of white noise
    shape: float  # by how much its quantiles are off those of white noise, at the worst
    spikes: int  # how many eigenvalues stand out
    variance: float  # of the white part


def spectrum(difference: F32) -> Spectrum:
    """Return the spectrum of a difference (rows, columns), of at most 256 of the shorter side."""
    wide = difference if difference.shape[0] <= difference.shape[1] else difference.T
    wide = wide[:_SIDE].astype(np.float64)
    return Spectrum(np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0), wide.shape[1])


def whiteness(difference: F32, mask: Bools | None = None) -> Whiteness:
    """Compare a difference (rows, columns) with white noise whose rows and columns may have spreads of their own."""
    flat = flattened(difference, mask)
    found = spectrum(flat)
    ratio = len(found.values) / found.long
    middle = float(np.median(found.values)) / found.long
    variance = middle / quantile(ratio, 0.5)
    edge = found.long * variance * (1 + np.sqrt(ratio)) ** 2
    spikes = int((found.values > edge * _STANDS_OUT).sum())
    bulk = found.values[spikes:] / found.long / max(variance, _TINY)
    shape = max(abs(float(np.quantile(bulk, at)) / quantile(ratio, at) - 1) for at in _QUANTILES)
    scale = float((difference.astype(np.float64) ** 2).mean())
    return Whiteness(float(found.values[0]) / max(edge, _TINY), shape, spikes, variance * scale)


_STANDS_OUT: Final = 1.15


def flattened(difference: F32, mask: Bools | None = None) -> F32:
    """Return a difference (rows, columns) whose rows and columns all have the mean square 1."""
    square = difference.astype(np.float64) ** 2
    if mask is not None:
        square[mask] = 0
    rows = np.ones((square.shape[0], 1))
    columns = np.ones((1, square.shape[1]))
    for _ in range(_ROUNDS):
        rows = (square / columns).mean(axis=1, keepdims=True) + _TINY
        columns = (square / rows).mean(axis=0, keepdims=True) + _TINY
    made: F32 = (difference / np.sqrt(rows * columns)).astype(np.float32)
    if mask is not None:
        made[mask] = 0
    return made


def filled(difference: F32, mask: Bools, rank: int) -> F32:
    """Return a difference (rows, columns) whose weights under `mask` are what a low rank makes of the others."""
    made = np.where(mask, 0, difference).astype(np.float64)
    for _ in range(_FILL):
        _, vectors = np.linalg.eigh(made @ made.T if made.shape[0] <= made.shape[1] else made.T @ made)
        kept = vectors[:, -rank:]
        low = kept @ (kept.T @ made) if made.shape[0] <= made.shape[1] else (made @ kept) @ kept.T
        made = np.where(mask, low, difference)
    return made.astype(np.float32)


@lru_cache(maxsize=256)
def quantile(ratio: float, at: float) -> float:
    """Return a quantile of the eigenvalues of white noise of variance 1, whose sides have the ratio `ratio` (<= 1)."""
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    angle = (np.arange(_POINTS) + 0.5) / _POINTS * np.pi  # the edges' square roots vanish in these coordinates
    places = (low + high) / 2 - (high - low) / 2 * np.cos(angle)
    density = np.sin(angle) ** 2 / np.maximum(places, _TINY)
    mass = np.cumsum(density)
    return float(np.interp(at, mass / mass[-1], places))
