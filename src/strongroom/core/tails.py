"""Exact upper tails of null distributions, in log space: what a p-value is when it is far below what a float holds.

The tail of a sum of T independent Exp(1) is that of Gamma(T, 1), which is the chance of fewer than T Poisson(S) events:
Q(T, S) = e^-S Σ_{k<T} S^k / k!. Its largest term is taken by Loader's saddle-point form (Loader, 2000, "Fast and
accurate computation of binomial probabilities"), which loses no digits to cancellation; the rest is a series of
positive terms.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SMALL: Final = 16
# ln n! - Stirling, n = 0 … 15 (n = 0 is never used), exactly rounded
_STIRLING: Final = np.array(
    [
        0.0,
        0.08106146679532725822, 0.041340695955409294094, 0.027677925684998339149, 0.020790672103765093112,
        0.016644691189821192163, 0.013876128823070747999, 0.011896709945891770095, 0.010411265261972096497,
        0.0092554621827127329177, 0.0083305634333631285056, 0.0075736754879518407949, 0.0069428401072073598786,
        0.0064089941880042071049, 0.0059513701127588475358, 0.0055547335519628013710,
    ]
)  # fmt: skip
_NEAR: Final = 0.1  # closer than this, the deviance is summed as a series instead of subtracted
_EPSILON: Final = 2.0**-56


def log_gamma_tail(counts: npt.ArrayLike, sums: npt.ArrayLike) -> F64:
    """Return ln P(X >= `sums`) for X ~ Gamma(`counts`, 1), elementwise; 0 where a count is 0.

    Args:
        counts: whole numbers >= 0: how many Exp(1) were summed.
        sums: their sums, >= 0 and finite.

    Returns:
        natural logarithms, float64, relative error about 1e-14 (near 0 as well, where p is almost 1).

    Raises:
        BadInput: a count is negative, or a sum is negative, infinite or NaN.

    """
    shapes, values = np.broadcast_arrays(np.asarray(counts, np.int64), np.asarray(sums, np.float64))
    if (shapes < 0).any() or not (np.isfinite(values) & (values >= 0)).all():
        raise BadInput("counts and sums of a gamma tail are finite and not negative", where="log_gamma_tail")
    result = np.zeros(shapes.shape)
    upper = (shapes > 0) & (values >= shapes)
    lower = (shapes > 0) & (values < shapes) & (values > 0)
    t, s = shapes[upper].astype(np.float64), values[upper]
    result[upper] = _log_poisson(t - 1, s) + np.log(_series(s, t - 1, falling=True))
    t, s = shapes[lower].astype(np.float64), values[lower]
    below = np.exp(_log_poisson(t, s) + np.log(_series(s, t + 1, falling=False)))
    result[lower] = np.log1p(-below)
    return result


def log_binomial_tail(hits: int, trials: int, rate: float) -> float:
    """Return ln P(X >= `hits`) for X ~ Binomial(`trials`, `rate`), relative error of P about 1e-10; 0 < `rate` < 1.

    Raises:
        BadInput: the numbers are not of a binomial.

    """
    if not (0 <= hits <= trials and 0 < rate < 1):
        raise BadInput("a binomial tail has 0 <= hits <= trials and 0 < rate < 1", where="log_binomial_tail")
    odds, whole = math.log(rate) - math.log1p(-rate), math.lgamma(trials + 1) + trials * math.log1p(-rate)
    terms = [whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * odds for k in range(hits, trials + 1)]
    largest = max(terms)
    return min(0.0, largest + math.log(math.fsum(math.exp(one - largest) for one in terms)))


def _series(s: F64, start: F64, *, falling: bool) -> F64:
    """Return Σ of the Poisson terms relative to the first: 1 + t/s + t(t-1)/s² … or 1 + s/t + s²/(t(t+1)) and on."""
    total, term, at, step = np.ones_like(s), np.ones_like(s), start.copy(), -1.0 if falling else 1.0
    while term.size and float((term / total).max()) > _EPSILON:
        term = term * (at / s if falling else s / at)
        total += term
        at = np.maximum(at + step, 0.0)
    return total


def _log_poisson(k: F64, s: F64) -> F64:
    """Return ln of the Poisson probability of `k` at mean `s`."""
    positive = np.maximum(k, 1.0)
    full = -_stirling_error(positive) - _deviance(positive, s) - 0.5 * np.log(2 * math.pi * positive)
    return np.where(k > 0, full, -s)


def _stirling_error(n: F64) -> F64:
    """Return ln n! minus Stirling's formula, for whole n >= 1."""
    squared = n * n
    tail = 1 / 1260 - (1 / 1680 - (1 / 1188 - 691 / 360360 / squared) / squared) / squared
    far = (1 / 12 - (1 / 360 - tail / squared) / squared) / n
    return np.where(n < _SMALL, _STIRLING[np.minimum(n, _SMALL - 1).astype(np.int64)], far)


def _deviance(k: F64, s: F64) -> F64:
    """Return k ln(k/s) + s - k without cancellation near k = s."""
    gap = k - s
    v = gap / (k + s)
    near = np.abs(v) < _NEAR
    inner = np.where(near, v, 0.0)
    power, series = 2 * k * inner, gap * inner
    for j in range(1, 12):  # |v| < 0.1: the twelfth term is below 1e-24 of the first
        power = power * inner * inner
        series = series + power / (2 * j + 1)
    return np.where(near, series, k * np.log(k / s) - gap)
