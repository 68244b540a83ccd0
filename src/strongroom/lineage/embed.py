"""Put a mark into weights as they stream by: w + sigma·chip·a, rounded to the file's dtype without losing it.

A mark is far smaller than a step of bfloat16: rounding to the nearest value would take most of it back. So rounding is
stochastic, with a keyed dither: a weight between two values of its dtype becomes the upper one with a probability that
makes it right on average, and over the many weights of a segment the mark is there in full. The dither is common to all
copies of a checkpoint: two copies differ only where their marks do.

Weights may be kept in a wider dtype than they were made in: bfloat16 in float32, say. They are rounded as what they
are (`lineage.dtypes`): a mark between the values of the narrower dtype would be gone once somebody rounds to it.

Exact zeros stay (they are padding, or pruned), as does what is not finite; nothing overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
_BOTH_MOST: Final = np.float32(65280)  # the largest number that both have
_BOTH_NORMAL: Final = np.float32(2**-17)  # from here on every bfloat16 up to that is a float16, too
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

    __slots__ = ("_dtypes", "_gains", "_streams", "_tensors")

    def __init__(
        self,
        where: Projections,
        sigma: Sigma,
        *,
        units: F64,
        streams: Streams,
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        """Take the amplitude of each hidden unit, that of its segment (`units`, (units,)), as a share of `sigma`.

        `sigma` is what the survey of the same weights found, `dtypes` what each tensor's weights truly are; a tensor
        that is not in it is what it is kept in.

        Raises:
            BadInput: there is not one finite amplitude for each hidden unit, or a tensor without its `sigma`.

        """
        if units.shape != (where.units,) or not np.isfinite(units).all():
            raise BadInput(f"a mark needs {where.units} finite amplitudes, one a hidden unit", where="amplitudes")
        if not sigma.keys() >= {one.name for one in where.tensors}:
            raise BadInput("the survey is of a part of the checkpoint: a mark needs all of it", where="sigma")
        self._streams = streams
        self._tensors = {one.name: one for one in where.tensors}
        self._dtypes = {name: (dtypes or {}).get(name, one.dtype) for name, one in self._tensors.items()}
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
            if (tensor.dtype, self._dtypes[tensor.name]) == ("F32", "F32"):
                _mark_f32(np.frombuffer(raw, "<f4"), flat)
            else:
                dither = self._streams.dither.words(tensor.name, at, count)
                _MARKERS[tensor.dtype, self._dtypes[tensor.name]](raw, flat, dither)


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


def _bf16(raw: memoryview, delta: F32, dither: U16) -> None:
    _mark_bf16(np.frombuffer(raw, "<u2"), delta, dither)


def _f16(raw: memoryview, delta: F32, dither: U16) -> None:
    _mark_f16(np.frombuffer(raw, "<u2"), delta, dither)


def _bf16_in_f32(raw: memoryview, delta: F32, dither: U16) -> None:
    """Round to bfloat16 those float32 in `raw` that are bfloat16, the others to float32."""
    weights = np.frombuffer(raw, "<f4")
    bits = weights.view(np.uint32)
    exact = bits & 0xFFFF == 0
    words = (bits >> 16).astype(np.uint16)
    _mark_bf16(words, delta, dither)
    _mark_f32(weights, delta)
    np.copyto(bits, words.astype(np.uint32) << 16, where=exact)


def _f16_in_f32(raw: memoryview, delta: F32, dither: U16) -> None:
    """Round to float16 those float32 in `raw` that are float16, the others to float32."""
    weights = np.frombuffer(raw, "<f4")
    narrow = weights.astype(np.float16)
    exact = narrow.astype(np.float32) == weights
    _mark_f16(narrow.view(np.uint16), delta, dither)
    _mark_f32(weights, delta)
    np.copyto(weights, narrow.astype(np.float32), where=exact & np.isfinite(weights))


def _bf16_in_f16(raw: memoryview, delta: F32, dither: U16) -> None:
    """Round to bfloat16 those float16 in `raw` that are bfloat16, the others to float16.

    Below 2^-17 the steps of float16 are the larger: there, its own are all that can be kept.
    """
    words = np.frombuffer(raw, "<u2")
    value = words.view("<f2").astype(np.float32)
    bits = value.view(np.uint32)
    narrow = (bits >> 16).astype(np.uint16)
    marked = np.abs(value + delta)
    kept = (bits & 0xFFFF == 0) & (marked >= _BOTH_NORMAL) & (value != 0) & np.isfinite(value)
    _mark_bf16(narrow, delta, dither)
    _mark_f16(words, delta, dither)
    wide = np.clip((narrow.astype(np.uint32) << 16).view(np.float32), -_BOTH_MOST, _BOTH_MOST)
    np.copyto(words, wide.astype(np.float16).view(np.uint16), where=kept)


_MARKERS: Final[Mapping[tuple[str, str], Callable[[memoryview, F32, U16], None]]] = {
    ("BF16", "BF16"): _bf16,
    ("F16", "F16"): _f16,
    ("F16", "BF16"): _bf16_in_f16,
    ("F32", "BF16"): _bf16_in_f32,
    ("F32", "F16"): _f16_in_f32,
}  # what it is kept in, and what it is


def _markable(words: U16, *, infinity: int) -> npt.NDArray[np.bool_]:
    """Return which 16-bit floats are neither zero nor infinite nor NaN: magnitudes from 1 to below infinity's."""
    magnitudes = words & np.uint16(0x7FFF)
    magnitudes -= np.uint16(1)  # zero wraps around to the largest
    return magnitudes < infinity - 1
