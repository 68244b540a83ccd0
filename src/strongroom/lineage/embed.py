"""Put a mark into weights as they stream by: w + sigma·chip·a, rounded to the file's dtype without losing it.

A mark is far smaller than a step of bfloat16: rounding to the nearest value would take most of it back. So rounding is
stochastic, with a keyed dither: a weight between two values of its dtype becomes the upper one with a probability that
makes it right on average, and over the many weights of a segment the mark is there in full. The dither is common to all
copies of a checkpoint: two copies differ only where their marks do.

Exact zeros stay (they are padding, or pruned), as does what is not finite; nothing overflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.lineage.chips import Chips, Dither
from strongroom.lineage.correlate import Sigma
from strongroom.lineage.elements import CHUNK, dtype_of
from strongroom.lineage.keys import CheckpointKeys
from strongroom.lineage.projections import Projection, Projections

U16 = npt.NDArray[np.uint16]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_BF16_MOST: Final = np.array(0x7F7F_0000, np.uint32).view(np.float32)
_F16_MOST: Final = np.float32(65504)
_F32_MOST: Final = np.finfo(np.float32).max
_F16_NORMAL: Final = np.float32(2**-14)  # below, float16 has steps of 2^-24
_F16_STEPS: Final = np.float32(2**24)
_F16_EXPONENTS: Final = (127 - 15) << 10  # how far apart the zeros of the exponents are, in float16's steps


@dataclass(frozen=True, slots=True)
class Streams:
    """The chips and the dither of a checkpoint."""

    chips: Chips = field(repr=False)
    dither: Dither = field(repr=False)

    @classmethod
    def of(cls, keys: CheckpointKeys) -> Streams:
        """Make both from the checkpoint's secrets."""
        return cls(Chips(keys.chips), Dither(keys.dither))


class Embedding:
    """One mark, ready to be put into weights. Threads may share it."""

    __slots__ = ("_gains", "_streams", "_tensors")

    def __init__(self, where: Projections, sigma: Sigma, *, units: F64, streams: Streams) -> None:
        """Take the amplitude of each hidden unit, that of its segment (`units`, (units,)), as a share of `sigma`.

        `sigma` is what the survey of the same weights found.

        Raises:
            BadInput: there is not one finite amplitude for each hidden unit, or a tensor without its `sigma`.

        """
        if units.shape != (where.units,) or not np.isfinite(units).all():
            raise BadInput(f"a mark needs {where.units} finite amplitudes, one a hidden unit", where="amplitudes")
        if not sigma.keys() >= {one.name for one in where.tensors}:
            raise BadInput("the survey is of a part of the checkpoint: a mark needs all of it", where="sigma")
        self._streams = streams
        self._tensors = {one.name: one for one in where.tensors}
        self._gains: Mapping[str, F32] = {
            name: (sigma[name] * one.per_line(units)).astype(np.float32) for name, one in self._tensors.items()
        }

    def names(self) -> tuple[str, ...]:
        """Return the names of the tensors that it changes."""
        return tuple(self._tensors)

    def apply(self, name: str, first: int, raw: memoryview) -> None:
        """Mark, in place, the little-endian elements of `name` from element `first` on that are in `raw`.

        The result is the same however a tensor is cut into calls.

        Raises:
            BadInput: the tensor carries no mark, or these are no whole elements of it.

        """
        tensor = self._tensors.get(name)
        if tensor is None:
            raise BadInput("this tensor carries no mark", where=f"tensor {name!r}")
        size = dtype_of(tensor.dtype, where=name).itemsize
        count, odd = divmod(raw.nbytes, size)
        if odd or first < 0 or first + count > tensor.weights:
            raise BadInput(f"{raw.nbytes} bytes from element {first} on are no part of it", where=f"tensor {name!r}")
        octets = raw.cast("B")
        for at, rows, columns in _runs(first, count, tensor.shape[1]):
            start = (at - first) * size
            self._mark(tensor, at, octets[start : start + rows * columns * size], shape=(rows, columns))

    def _mark(self, tensor: Projection, at: int, raw: memoryview, *, shape: tuple[int, int]) -> None:
        """Mark a part of one row, or some whole rows."""
        row, column = divmod(at, tensor.shape[1])
        part = slice(row, row + shape[0]) if tensor.axis == 0 else slice(column, column + shape[1])
        count = shape[0] * shape[1]
        delta = self._streams.chips.signs(tensor.name, at, count).reshape(shape)
        delta *= tensor.along(self._gains[tensor.name][part])
        flat = delta.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):  # what was not finite, and is put back
            if tensor.dtype == "F32":
                _mark_f32(np.frombuffer(raw, "<f4"), flat)
            else:
                words = np.frombuffer(raw, "<u2")
                (_mark_bf16 if tensor.dtype == "BF16" else _mark_f16)(
                    words, flat, self._streams.dither.words(tensor.name, at, count)
                )


def _runs(first: int, count: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Cut elements into parts of one row and blocks of whole rows: yield (first element, rows, columns)."""
    at, stop = first, first + count
    while at < stop:
        column = at % width
        rows = 0 if column else min((stop - at) // width, max(1, CHUNK // width))
        columns = width if rows else min(width - column, stop - at)
        yield at, max(rows, 1), columns
        at += max(rows, 1) * columns


def _mark_f32(weights: F32, delta: F32) -> None:
    """Add `delta` to `weights` (n,), rounded to the nearest float32."""
    marked = np.clip(weights + delta, -_F32_MOST, _F32_MOST)
    np.copyto(weights, marked, where=np.isfinite(weights) & (weights != 0))


def _mark_bf16(words: U16, delta: F32, dither: U16) -> None:
    """Add `delta` to the bfloat16 weights whose bits are `words` (n,), rounded by `dither`.

    A bfloat16 is the upper half of a float32: the dither is added to the lower half, and its carry rounds.
    """
    bits = words.astype(np.uint32)
    bits <<= 16
    value = bits.view(np.float32)
    value += delta
    np.clip(value, -_BF16_MOST, _BF16_MOST, out=value)
    bits += dither
    bits >>= 16
    np.copyto(words, bits, where=_markable(words, infinity=0x7F80), casting="unsafe")


def _mark_f16(words: U16, delta: F32, dither: U16) -> None:
    """Add `delta` to the float16 weights whose bits are `words` (n,), rounded by `dither`.

    A float16 keeps 10 of a float32's 23 bits of fraction: the upper 13 bits of the dither are added to the 13 bits that
    go, and the carry rounds. Below float16's least normal number the step is 2^-24, and the dither a share of a step.
    """
    value = words.view("<f2").astype(np.float32)
    value += delta
    np.clip(value, -_F16_MOST, _F16_MOST, out=value)
    small = np.flatnonzero(np.abs(value) < _F16_NORMAL)
    steps = np.abs(value[small]) * _F16_STEPS
    below = np.floor(steps)
    below += steps - below + dither[small].astype(np.float32) * np.float32(2**-16) >= 1
    bits = value.view(np.uint32)
    bits += dither >> 3
    signs = bits >> 16
    signs &= 0x8000
    bits &= 0x7FFF_FFFF
    bits >>= 13
    bits -= _F16_EXPONENTS  # now float16's own bits, without the sign
    bits[small] = below  # as are these: that many steps
    bits |= signs
    np.copyto(words, bits, where=_markable(words, infinity=0x7C00), casting="unsafe")


def _markable(words: U16, *, infinity: int) -> npt.NDArray[np.bool_]:
    """Return which 16-bit floats are neither zero nor infinite nor NaN: magnitudes from 1 to below infinity's."""
    magnitudes = words & np.uint16(0x7FFF)
    magnitudes -= np.uint16(1)  # zero wraps around to the largest
    return magnitudes < infinity - 1
