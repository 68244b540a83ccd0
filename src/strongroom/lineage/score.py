"""How well a code explains what was found in a file: likelihood ratios whose chance of misleading is exact.

Let v be the value found in a segment and c = ±1 the bit that a copy has there, drawn with the segment's bias p. For any
positive functions q₊(v) and q₋(v), the ratio q_c(v) / (p q₊(v) + (1 - p) q₋(v)) has mean exactly 1 over the draw of c,
whatever v is. So the product over all segments, E, has mean 1 for every copy whose code had no part in the file, and by
Markov's inequality P(E ≥ e) ≤ 1/e: 1/E is a p-value, with no assumption about the file, about who made it or about how.
The q only decide how large E gets for the guilty. They are the densities of v that several ways of collusion would
give, by several numbers of colluders; the mean of E over all of them is such an E again (an e-value, Vovk and Wang,
2021). A share of 2 % for "says nothing" keeps any one segment from deciding.

What is learnt from the checkpoint's own code (how strong the mark still is, how large the noise) is learnt without the
copies' codes, so it takes nothing from the exactness. The same holds for the codes of others who were named before: an
innocent's code is drawn independently of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from strongroom.lineage.codes import I8

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

Way = Literal["average", "pick", "majority", "noise"]
WAYS: Final[tuple[Way, ...]] = ("average", "pick", "majority", "noise")
CROWDS: Final = (1, 2, 3, 5, 8)  # how many colluders
_SILENT: Final = 0.02
_LOUD: Final = 4.0  # where copies differ, an attacker may write noise of this many times the mark
_TINY: Final = 1e-300


@dataclass(frozen=True, slots=True)
class Channel:
    """What the checkpoint's own code tells of the file: the mark's mean value in a segment, and the noise about it."""

    signal: float
    noise: float


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in the segments of the copies' own codes."""

    values: F64  # (segments,), NaN where the file says nothing
    bias: F64  # (segments,), the probability of +1
    through: Channel


@dataclass(frozen=True, slots=True)
class _Crowd:
    """A way of collusion: how many took part, and how many of them besides the one in question are unknown."""

    way: Way
    size: int
    rest: int


def channel(values: F64, code: I8) -> Channel:
    """Return signal and noise, from the `values` of the checkpoint's own segments (NaN: not in the file)."""
    seen = np.isfinite(values)
    aligned = values[seen] * code[seen]
    if len(aligned) < 2:  # noqa: PLR2004 - a spread takes two
        return Channel(0.0, 1.0)
    return Channel(float(aligned.mean()), float(max(aligned.std(ddof=1), 1e-6)))


def log_common(values: F64, code: I8) -> float:
    """Return ln of the bound on the chance that a file without this ±1 `code` fits it so well.

    Hoeffding over the draw of the code: P ≤ exp(-(Σ c y)² / (2 Σ y²)), with y the values, cut at twice their size.
    """
    seen = np.isfinite(values)
    y = values[seen]
    scale = float(np.sqrt(np.mean(y * y))) if len(y) else 0.0
    if scale == 0.0:
        return 0.0
    y = np.clip(y / scale, -2.0, 2.0)
    score = float(y @ code[seen])
    return -0.5 * score * score / float(y @ y) if score > 0 else 0.0


def log_evidence(found: Found, codes: I8, *, named: I8) -> F64:
    """Return ln E of each of the `codes` (candidates, segments) of ±1, as (candidates,) float64.

    `named` (k, segments) are the codes of those who were named already and may have had a part. The mean of `exp` of
    the result over a random code is exactly 1.
    """
    if found.through.signal <= 0:
        return np.zeros(len(codes))
    seen = np.isfinite(found.values)
    here = Found(found.values[seen], found.bias[seen], found.through)
    plus, minus = (np.stack(side, axis=1) for side in zip(*_models(here, named[:, seen]), strict=True))
    return log_mean((codes[:, seen] > 0) @ (plus - minus) + minus.sum(axis=0))


def log_mean(logs: F64) -> F64:
    """Return ln of the mean of `exp(logs)` over the last axis."""
    top = logs.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(logs - top).mean(axis=-1))


def _models(found: Found, named: I8) -> Iterator[tuple[F64, F64]]:
    """Yield, for each way and number of colluders, what a bit of +1 and one of -1 add to ln E, per segment."""
    known = (named > 0).sum(axis=0)
    for size in CROWDS:
        rest = size - len(named) - 1
        if rest >= 0:
            for way in WAYS if size > 1 else WAYS[:1]:
                yield _ratios(found, _Crowd(way, size, rest), known)


def _ratios(found: Found, crowd: _Crowd, known: I64) -> tuple[F64, F64]:
    """Return ln of the two ratios of every segment, if a `crowd` did it of whom `known` had +1 there."""
    sides: list[F64] = []
    for bit in (1, 0):
        density = np.zeros(len(found.values))
        for others in range(crowd.rest + 1):
            chance = math.comb(crowd.rest, others) * found.bias**others * (1 - found.bias) ** (crowd.rest - others)
            density += chance * _density(found, crowd, known + bit + others)
        sides.append(density)
    either = found.bias * sides[0] + (1 - found.bias) * sides[1] + _TINY
    silent = _SILENT + (1 - _SILENT) * _TINY / either  # so that the mean is 1 where every density vanishes, too
    plus, minus = (np.log((1 - _SILENT) * side / either + silent) for side in sides)
    return plus, minus


def _density(found: Found, crowd: _Crowd, pluses: I64) -> F64:
    """Return the density of the values if so many of the crowd have +1 in the segment, up to a common factor."""
    v, x, s = found.values, found.through.signal, found.through.noise
    share = pluses / crowd.size
    if crowd.way == "average":
        return _normal(v, x * (2 * share - 1), s)
    if crowd.way == "pick":
        return share * _normal(v, x, s) + (1 - share) * _normal(v, -x, s)
    if crowd.way == "majority":
        return _normal(v, x * np.sign(2 * pluses - crowd.size), s)
    agree = (pluses == 0) | (pluses == crowd.size)
    loud = 0.5 * (_normal(v, 0.0, math.hypot(s, x)) + _normal(v, 0.0, math.hypot(s, _LOUD * x)))
    return np.where(agree, _normal(v, x * (2 * share - 1), s), loud)


def _normal(values: F64, mean: F64 | float, spread: float) -> F64:
    return np.exp(-0.5 * ((values - mean) / spread) ** 2) / spread
