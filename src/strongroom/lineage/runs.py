"""How many of the magnitudes in runs of 512 weights are distinct: few where FP8 or int8 was multiplied by a scale.

A run goes along a row, or along a column: a scale may belong to either, and only within it the magnitudes repeat. Of
512 weights, the median run of SmolLM2's bfloat16 host has 68 % distinct magnitudes, of its float16 host 95 %; drawn
from a Gaussian, in bfloat16, 67 %; uniformly, 57 %; from a Gaussian pruned by half, 60 %. FP8 (E4M3) times a scale has
12 %, in DeepSeek's blocks of 128 31 to 36 %, E5M2 7 %, int8 13 to 25 %, and with an offset 29 to 43 %. In runs of 256,
bfloat16 has 81 %, FP8 20 %, int8 30 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.elements import dtype_of
from strongroom.lineage.projections import Projection, Projections
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]

LEAST_DISTINCT: Final = 0.45
_RUN: Final = 512
_SHORTEST: Final = 256
_LINES: Final = 64  # of each direction, in a tensor that is looked at
_TENSORS: Final = 9
_GOLDEN: Final = (5**0.5 - 1) / 2
_AT_A_TIME: Final = 1 << 20
_FEWEST: Final = 32  # weights besides zeros that a run must have to tell anything
# FP8 is finer towards zero: half of its magnitudes and more are below an eighth of a run's largest. Of int8's evenly
# spaced ones, one in six to one in four are.
_FINE: Final = 0.38


@dataclass(frozen=True, slots=True)
class Distinct:
    """The median run of a tensor, in the direction in which magnitudes repeat more."""

    share: float  # of its weights besides zeros, how many distinct magnitudes they have
    low: float  # of these, how many are below an eighth of the largest
    length: int
    along: str  # "row" or "column"

    @property
    def looks_like(self) -> str:
        """What was scaled, as far as the magnitudes' spacing tells."""
        return "FP8" if self.low > _FINE else "int8"


def distinct(weights: Tensors, where: Projections) -> Distinct | None:
    """Return the median tensor of up to nine, each looked at along 64 rows and 64 columns; None if all are too small.

    Of a tensor, 512 rows in a row are read, in pieces of a few MB.
    """
    found = [one for tensor in _chosen(where) if (one := _tensor(weights, tensor)) is not None]
    found.sort(key=lambda one: one.share)
    return found[len(found) // 2] if found else None


def _chosen(where: Projections) -> list[Projection]:
    """Return up to nine tensors, in steps of the golden ratio: no pattern of layers and kinds falls in with these."""
    places = sorted({int(at * _GOLDEN % 1 * len(where.tensors)) for at in range(_TENSORS)})
    return [where.tensors[place] for place in places]


def _tensor(weights: Tensors, tensor: Projection) -> Distinct | None:
    """Return a tensor's median run along the rows or the columns, whichever has fewer magnitudes."""
    rows, columns = _lines(weights, tensor)
    found = [_median(rows, "row"), _median(columns, "column")]
    return min((one for one in found if one is not None), key=lambda one: one.share, default=None)


def _lines(weights: Tensors, tensor: Projection) -> tuple[F32, F32]:
    """Return runs (64 or fewer, 512 or fewer) along rows and along columns, from the tensor's middle."""
    height, width = tensor.shape
    count = min(_RUN, height)
    first = (height - count) // 2
    rows, columns = _spread(count), _spread(width)
    start = (width - min(_RUN, width)) // 2
    along = np.empty((len(rows), min(_RUN, width)), np.float32)
    down = np.empty((len(columns), count), np.float32)
    step = max(1, _AT_A_TIME // width)
    for at in range(0, count, step):
        some = _read(weights, tensor, first + at, rows=min(step, count - at))
        down[:, at : at + len(some)] = some[:, columns].T
        here = (rows >= at) & (rows < at + len(some))
        along[here] = some[rows[here] - at, start : start + along.shape[1]]
    return along, down


def _read(weights: Tensors, tensor: Projection, first: int, *, rows: int) -> F32:
    dtype, width = dtype_of(tensor.dtype, where=tensor.name), tensor.shape[1]
    buffer = bytearray(rows * width * dtype.itemsize)
    weights.read_into(tensor.name, first * width, memoryview(buffer))
    return np.frombuffer(buffer, dtype).reshape(rows, width).astype(np.float32)


def _spread(count: int) -> npt.NDArray[np.int64]:
    """Return up to 64 of `count` lines, evenly spread."""
    lines = min(_LINES, count)
    return ((np.arange(lines) + 0.5) * count / lines).astype(np.int64)


def _median(runs: F32, along: str) -> Distinct | None:
    """Return the median of `runs` (n, length); None if they are too short, or hold nothing but zeros."""
    length = runs.shape[1]
    found: list[Distinct] = []
    magnitudes: F32 = np.abs(runs) if length >= _SHORTEST else runs[:0]
    for run in magnitudes:
        sizes: F32 = run[(run > 0) & np.isfinite(run)]
        if len(sizes) >= _FEWEST:
            levels: F32 = np.unique(sizes)
            found.append(Distinct(len(levels) / len(sizes), float((levels < levels[-1] / 8).mean()), length, along))
    found.sort(key=lambda one: one.share)
    return found[len(found) // 2] if found else None
