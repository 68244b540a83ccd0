"""Whether differences are Gaussian noise: white, of Gaussian moments, and as large beside every tensor's spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.findings import Finding
from strongroom.lineage.how.case import Histogram
from strongroom.lineage.how.residuals import Residual
from strongroom.lineage.how.spectra import Whiteness, whiteness

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Noise of 0.01 to 0.1 of the spread on SmolLM2's copy: edges 0.91 to 1.02, quantiles within 5 %, kurtosis 2.97 to 3.08,
# sizes within 4 % of each other. Its 300-step fine-tune: edges over 5, quantiles 22 % off and more. Under a grid, whose
# own error is flatter, kurtosis is 2.3 to 3.2.
MOST_EDGE: Final = 1.15
MOST_SHAPE: Final = 0.09
MOST_KURTOSIS_OFF: Final = 0.2
MOST_UNEVEN: Final = 0.1
_WITH_GRID: Final = 0.8
_BINS: Final = 61
_REACH: Final = 5.0
_FEWEST_FOR_SPREAD: Final = 3
_LEAST_TENSORS: Final = 0.25


@dataclass(frozen=True, slots=True)
class White:
    """A tensor whose difference is white, but for a few directions."""

    residual: Residual
    spectrum: Whiteness
    sigma: float  # of the difference beyond what storing explains, in spreads of the tensor
    absolute: float  # the same, as it is
    kurtosis: float


def white(one: Residual) -> White | None:
    """Return a difference as noise, None where its spectrum is not that of white noise."""
    found = whiteness(one.difference, one.mask if one.mask.any() else None)
    most = 2 + 0.04 * min(one.difference.shape)
    if found.shape > MOST_SHAPE or found.spikes > most:
        return None
    values = one.difference[~one.mask].astype(np.float64)
    square = float((values**2).mean())
    if square == 0:
        return None
    kurtosis = float((values**4).mean()) / square**2
    share = found.variance / max(float((one.difference.astype(np.float64) ** 2).mean()), 1e-30)
    beyond = max(one.energy * min(share, 1.0) - one.expected, 0.0)
    return White(one, found, math.sqrt(beyond), math.sqrt(beyond) * one.pair.spread, kurtosis)


def noised(some: Sequence[White], *, on_grid: bool, looked: int) -> Finding | None:
    """Return that it was noise, or None where its moments or its sizes are not those of noise."""
    if not some:
        return None
    sigmas = np.array([one.sigma for one in some])
    plain = [one for one in some if one.spectrum.spikes == 0] or list(some)
    kurtosis = float(np.median([one.kurtosis for one in plain]))
    off = MOST_KURTOSIS_OFF + (_WITH_GRID if on_grid else 0)
    if abs(kurtosis - 3) > off or len(some) < max(min(_FEWEST_FOR_SPREAD, looked), _LEAST_TENSORS * looked):
        return None
    ways = {"each tensor's spread": sigmas, "1 (the same for all tensors)": np.array([one.absolute for one in some])}
    beside = min(ways, key=lambda way: _uneven(ways[way]))
    if (uneven := _uneven(ways[beside])) > MOST_UNEVEN:
        return None
    sigma = float(np.median(ways[beside]))
    edge = float(np.median([one.spectrum.edge for one in plain]))
    weights = sum(int((~one.residual.mask).sum()) for one in some)
    return Finding(
        kind="noised",
        detail=f"the difference is Gaussian noise of sigma = {_short(sigma)} of {beside}",
        evidence=(
            f"{weights:,} weights of {len(some)} in {looked} matrices: kurtosis {kurtosis:.2f} (Gaussian 3), largest"
            f" eigenvalue {edge:.2f} of white noise's edge, sigma within {uneven:.1%} between tensors,"
            f" {_distance(plain)}"
        ),
        figures={
            "sigma": round(sigma, 6),
            "kurtosis": round(kurtosis, 3),
            "edge": round(edge, 3),
            "uneven": round(uneven, 4),
            "ks": round(_ks(_standard(plain)), 5),
        },
    )


def histogram(rest: Sequence[Residual]) -> Histogram | None:
    """Return how the differences of all tensors are spread, each in spreads of its tensor; None if nothing differs."""
    some = [one.difference[~one.mask] / np.float32(one.pair.spread) for one in rest if one.difference.any()]
    if not some:
        return None
    values = np.concatenate(some).astype(np.float64)
    sigma = float(np.sqrt((values**2).mean()))
    edges = np.linspace(-_REACH, _REACH, _BINS + 1)
    counts = np.histogram(values / sigma, edges)[0]
    mass = np.diff([0.5 * (1 + math.erf(edge / math.sqrt(2))) for edge in edges.tolist()]) * len(values)
    return Histogram(sigma, tuple(edges.tolist()), tuple(counts.tolist()), tuple(mass.tolist()))


def _short(sigma: float) -> str:
    return f"{sigma:.2f}" if sigma >= 0.05 else f"{sigma:.2g}"  # noqa: PLR2004 - two figures either way


def _uneven(sizes: F64) -> float:
    """Return by which share sizes differ from their median, in the median."""
    middle = float(np.median(sizes))
    return float(np.quantile(np.abs(sizes - middle), 0.75)) / middle if middle > 0 else math.inf


def _standard(some: Sequence[White]) -> F64:
    """Return the differences of all tensors (n,), each in its own sigma, sorted; up to 200,000 of them."""
    values = [one.residual.difference[~one.residual.mask].astype(np.float64) for one in some]
    every = np.concatenate([one / np.sqrt((one**2).mean()) for one in values])
    return np.sort(every[:: max(1, len(every) // 200_000)])


def _ks(values: F64) -> float:
    """Return the largest distance between the distribution of sorted `values` and the Gaussian (Kolmogorov-Smirnov)."""
    places = np.linspace(0, len(values) - 1, min(len(values), 2001)).astype(np.int64)
    normal = np.array([0.5 * (1 + math.erf(one / math.sqrt(2))) for one in values[places].tolist()])
    return float(np.abs(normal - (places + 0.5) / len(values)).max())


def _distance(some: Sequence[White]) -> str:
    return f"no further than {_ks(_standard(some)):.4f} from a Gaussian's distribution (Kolmogorov-Smirnov)"
