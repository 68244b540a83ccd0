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
_STANDS_OUT: Final = 1.15
_FEW: Final = 0.09  # of the directions may stand out of what is white otherwise
_OFF: Final = 0.05
_MASKED: Final = (192, 640)
_HELD_OUT: Final = 0.1


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
    found = _compared(difference, mask)
    if 0 < found.spikes <= _FEW * min(*difference.shape, _SIDE) and found.shape > _OFF:
        rest, left = _deflated(difference, found.spikes)
        calm = _compared(rest, mask, gone=found.spikes)
        return Whiteness(found.edge, calm.shape, found.spikes, calm.variance * left)
    return found


def _deflated(difference: F32, rank: int) -> tuple[F32, float]:
    """Return a difference without its first directions, and the variance's make-up for those taken."""
    wide = difference if difference.shape[0] <= difference.shape[1] else difference.T
    wide = wide[:_SIDE].astype(np.float64)
    kept = np.linalg.eigh(wide @ wide.T)[1][:, -rank:]
    rest = (wide - kept @ (kept.T @ wide)).astype(np.float32)
    return rest if difference.shape[0] <= difference.shape[1] else rest.T, len(wide) / (len(wide) - rank)


def _compared(difference: F32, mask: Bools | None, *, gone: int = 0) -> Whiteness:
    """Compare a difference (rows, columns), which `gone` directions were taken from, with white noise."""
    if mask is not None and mask.shape != difference.shape:
        mask = mask[: difference.shape[0], : difference.shape[1]]
    found = spectrum(flattened(difference, mask))
    found = Spectrum(found.values[: len(found.values) - gone], found.long - gone)
    ratio = len(found.values) / found.long
    middle = float(np.median(found.values)) / found.long
    variance = middle / quantile(ratio, 0.5)
    edge = found.long * variance * (1 + np.sqrt(ratio)) ** 2
    spikes = int((found.values > edge * _STANDS_OUT).sum())
    bulk = found.values[spikes:] / found.long / max(variance, _TINY)
    shape = max(abs(float(np.quantile(bulk, at)) / quantile(ratio, at) - 1) for at in _QUANTILES)
    scale = float((difference.astype(np.float64) ** 2).mean())
    return Whiteness(float(found.values[0]) / max(edge, _TINY), shape, spikes, variance * scale)


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


def predicted(difference: F32, mask: Bools, rank: int) -> tuple[float, F64]:
    """Return how well a low rank predicts weights (rows, columns) that it was not fitted to, and its eigenvalues.

    What is under `mask` is unknown, and a tenth of the rest is held out. What is not known is filled in by the low rank
    itself, until it stays (hard imputation, Mazumder et al. 2010). The first figure is the share of the mean square of
    the weights held out that is left: 0 if they are predicted exactly, 1 and more if not at all.
    """
    wide = difference if difference.shape[0] <= difference.shape[1] else difference.T
    hidden = mask if difference.shape[0] <= difference.shape[1] else mask.T
    wide = wide[: _MASKED[0], : _MASKED[1]].astype(np.float64)
    hidden = hidden[: _MASKED[0], : _MASKED[1]]
    held = ~hidden & (np.random.default_rng(wide.size).random(wide.shape) < _HELD_OUT)  # the same at every look
    unknown = hidden | held
    low = np.zeros_like(wide)
    values = np.zeros(rank)
    for _ in range(_FILL):
        made = np.where(unknown, low, wide)
        found, vectors = np.linalg.eigh(made @ made.T)
        values, kept = found[-rank:][::-1], vectors[:, -rank:]
        low = kept @ (kept.T @ made)
    square = float((wide[held] ** 2).mean()) if held.any() else 0.0
    return (float(((wide - low)[held] ** 2).mean()) / square if square else 1.0), values


@lru_cache(maxsize=256)
def quantile(ratio: float, at: float) -> float:
    """Return a quantile of the eigenvalues of white noise of variance 1, whose sides have the ratio `ratio` (<= 1)."""
    low, high = (1 - np.sqrt(ratio)) ** 2, (1 + np.sqrt(ratio)) ** 2
    angle = (np.arange(_POINTS) + 0.5) / _POINTS * np.pi  # the edges' square roots vanish in these coordinates
    places: F64 = np.asarray((low + high) / 2 - (high - low) / 2 * np.cos(angle), np.float64)
    density = np.asarray(np.sin(angle) ** 2 / np.maximum(places, _TINY), np.float64)
    mass = np.asarray(np.cumsum(density), np.float64)
    return float(places[int(np.searchsorted(mass, at * float(mass.max())))])
