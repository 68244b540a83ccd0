"""Quantisers, as arithmetic on rows: where the weights of a block lie between steps, and what rounding does to them.

Written from the formats' own descriptions: GGML's Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 (llama.cpp, ggml-quants.c), integers
times a scale (absmax, with or without an offset), the normal floats of QLoRA (Dettmers et al. 2023, appendix E), and
the ternary weights of BitNet b1.58 (Ma et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Family = Literal["even", "signed", "offset", "normal", "ternary"]

ROW: Final = 0  # a block that is a whole row
TENSOR: Final = -1

_NORMAL_FLOATS: Final = np.array(
    [
        -1.0,
        -0.6961928,
        -0.52507305,
        -0.3949175,
        -0.28444138,
        -0.18477343,
        -0.09105004,
        0.0,
        0.0795803,
        0.1609302,
        0.2461123,
        0.33791524,
        0.44070983,
        0.562617,
        0.72295684,
        1.0,
    ],
    np.float32,
)
_OUTLIERS: Final = 8  # a tensor's largest weight is at most as many times that of some rows
FAR: Final = 32  # steps from zero: beyond, bfloat16's own rounding hides where a weight lies between two steps


@dataclass(frozen=True, slots=True)
class Grid:
    """A quantiser: which values a block of weights can have."""

    name: str
    bits: int
    family: Family
    steps: int  # from zero to a block's largest; of a family with an offset, from its least to its largest
    block: int  # weights in a row that share a scale; ROW or TENSOR

    @property
    def described(self) -> str:
        """The quantiser and its blocks, in words."""
        return f"{self.name}, {blocks_in_words(self.block)}"

    def positions(self, blocks: F32, far: int = FAR) -> tuple[F32, F32]:
        """Return where weights (blocks, size) lie, in steps, and the distance of each from the next whole step.

        The distance is 0.25 on average for weights on no grid; not a number where a weight can't tell:
        it is zero, its block's largest, or further than `far` steps from zero.
        """
        low, scale = self._frame(blocks)
        at: F32 = (blocks - low) / scale
        if self.family == "normal":
            return at, _off_normal(at)
        off: F32 = np.abs(at - np.round(at))
        inner = (blocks != 0) & (np.abs(at) <= far if self.family != "offset" else at > 0)
        size = np.abs(at)
        off[~inner | (size >= size.max(axis=1, keepdims=True))] = np.nan
        return at, off

    def rounded(self, rows: F32) -> F32:
        """Return `rows` (rows, columns) as they come back from this quantiser; columns that fill no block as given."""
        size = self.block if self.block > 0 else rows.shape[1]
        whole = rows.shape[1] // size * size
        made = rows.copy()
        if whole:
            blocks = rows[:, :whole].reshape((1, -1) if self.block == TENSOR else (-1, size))
            made[:, :whole] = self._rounded(blocks).reshape(len(rows), whole)
        return made

    def step(self, rows: F32) -> F32:
        """Return the size of a step at every weight of `rows` (rows, columns), 0 where columns fill no block."""
        size = self.block if self.block > 0 else rows.shape[1]
        whole = rows.shape[1] // size * size
        made = np.zeros_like(rows)
        if whole:
            blocks = rows[:, :whole].reshape((1, -1) if self.block == TENSOR else (-1, size))
            scale = np.abs(self._frame(blocks)[1])
            scale = scale / 8 if self.family == "normal" else scale
            made[:, :whole] = np.broadcast_to(scale, blocks.shape).reshape(len(rows), whole)
        return made

    def as_stored(self, source: F32, aligned: F32) -> tuple[F32, F32]:
        """Return `source` rounded as the suspect `aligned` is (rows, columns), and the size of a step at every weight.

        A scale for a whole tensor is read from the suspect: some rows don't hold the largest weight, but its step.
        """
        if self.block != TENSOR:
            return self.rounded(source), self.step(source)
        sizes = np.abs(aligned)
        least = float(sizes[sizes > 0].min(initial=np.inf))
        low = float(np.abs(source).max()) / self.steps / _OUTLIERS
        if self.family == "ternary":
            low = float(np.abs(source).mean()) / 2
        size = np.float32(max(least if np.isfinite(least) else 0, low) or 1)
        for far in (4, 16, 64):  # the least is rounded itself: larger ones tell the step better
            at = np.round(sizes / size)
            some = (at > far / 4) & (at <= far) & (at < self.steps)
            size = np.float32((sizes[some] / at[some]).mean()) if some.any() else size
        made: F32 = np.clip(np.round(source / size), -self.steps, self.steps) * size
        return made, np.full_like(source, size)

    def _rounded(self, blocks: F32) -> F32:
        low, scale = self._frame(blocks)
        if self.family == "ternary":
            size: F32 = (np.abs(blocks).mean(axis=1, keepdims=True) + 1e-30).astype(np.float32)
            return (np.clip(np.round(blocks / size), -1, 1) * size).astype(np.float32)
        if self.name.startswith("Q"):
            return self._as_ggml(blocks, low, scale)
        at: F32 = (blocks - low) / scale
        if self.family == "normal":
            return _NORMAL_FLOATS[nearest_normal(at)] * scale
        if self.family == "signed":
            at = np.clip(np.floor(at + np.float32(0.5)), -self.steps, self.steps - 1)
        else:
            at = np.round(at)
        return at * scale + low

    def _as_ggml(self, blocks: F32, low: F32, scale: F32) -> F32:
        """Return blocks rounded with GGML's own arithmetic: ties fall as they do there, scales are kept in float16."""
        at: F32 = ((blocks - low) * (np.float32(1) / scale)).astype(np.float32)
        if self.family == "signed":
            at = np.clip(np.trunc(at + np.float32(self.steps + 0.5)), 0, 2 * self.steps - 1) - np.float32(self.steps)
        else:
            at = np.trunc(at + np.copysign(np.float32(0.5), at))
        return at * _half(scale) + _half(low)

    def _frame(self, blocks: F32) -> tuple[F32, F32]:
        """Return what is subtracted from each block, and the step that the rest is divided by (blocks, 1)."""
        if self.family == "offset":
            low: F32 = blocks.min(axis=1, keepdims=True)
            return low, _some((blocks.max(axis=1, keepdims=True) - low) / np.float32(self.steps))
        sizes = np.abs(blocks)
        none = np.zeros((len(blocks), 1), np.float32)
        if self.family == "signed":
            largest = np.take_along_axis(blocks, sizes.argmax(axis=1)[:, None], axis=1)
            return none, _some(largest / np.float32(-self.steps))
        steps = 1 if self.family == "normal" else self.steps
        return none, _some(sizes.max(axis=1, keepdims=True) / np.float32(steps))


def blocks_in_words(block: int) -> str:
    """Return what shares a scale: ``blocks of 32``."""
    return {ROW: "a scale for each row", TENSOR: "a scale for each tensor"}.get(block, f"blocks of {block}")


def nearest_normal(at: F32) -> npt.NDArray[np.int64]:
    """Return which of the sixteen normal floats is nearest to each position."""
    return np.searchsorted((_NORMAL_FLOATS[1:] + _NORMAL_FLOATS[:-1]) / 2, at)


def _off_normal(at: F32) -> F32:
    """Return how far positions are off the normal floats, in gaps between these."""
    near = nearest_normal(at)
    off: F32 = (at - _NORMAL_FLOATS[near]).astype(np.float32)
    gaps = np.diff(_NORMAL_FLOATS)
    beside = np.clip(np.where(off < 0, near - 1, near), 0, len(gaps) - 1)
    off = (np.abs(off) / gaps[beside]).astype(np.float32)
    off[(at == 0) | (np.abs(at) >= 1)] = np.nan
    return off


def _half(some: F32) -> F32:
    with np.errstate(over="ignore"):
        return some.astype(np.float16).astype(np.float32)


def _some(scale: F32) -> F32:
    """Return the scale with ones in place of zeros: a block of zeros lies on any grid."""
    return np.where(scale == 0, np.float32(1), scale)


def _family() -> tuple[Grid, ...]:
    gguf = (
        Grid("Q8_0", 8, "even", 127, 32),
        Grid("Q4_0", 4, "signed", 8, 32),
        Grid("Q4_1", 4, "offset", 15, 32),
        Grid("Q5_0", 5, "signed", 16, 32),
        Grid("Q5_1", 5, "offset", 31, 32),
    )
    normal = tuple(Grid("NF4", 4, "normal", 8, block) for block in (64, 128))
    even = tuple(
        Grid(f"int{bits} absmax", bits, "even", steps, block)
        for block in (32, 64, 128, 256, ROW)
        for bits, steps in ((3, 3), (4, 7), (5, 15), (6, 31), (8, 127))
        if (steps, block) != (127, 32)
    )
    signed = tuple(Grid(f"int{bits}, largest at its end", bits, "signed", steps, block)
                   for block in (64, 128, 256, ROW) for bits, steps in ((4, 8), (8, 128)))  # fmt: skip
    offset = tuple(
        Grid(f"int{bits} with an offset", bits, "offset", steps, block)
        for block in (32, 64, 128, 256, ROW)
        for bits, steps in ((2, 3), (3, 7), (4, 15), (8, 255))
        if (steps, block) != (15, 32)
    )
    return gguf + normal + even + signed + offset


GRIDS: Final = _family()
"""What is tried, besides a scale for a whole tensor, which the values themselves give away."""
