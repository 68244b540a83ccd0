"""Which grid a suspect's weights lie on: by how the file stores them, or found in plain floats.

*A scale for each tensor* leaves few magnitudes in it, at whole multiples of the least. *A scale for each block or row*
is tried, quantiser by quantiser: weights are then whole steps of their own block's largest. Where several fit, it is
the one with the fewest steps (16 steps are 8 as well), and of these the one with the largest blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.how.quantisers import GRIDS, ROW, TENSOR, Grid
from strongroom.lineage.how.samples import chosen, matrices, rows_of
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]

# Weights of SmolLM2 on no grid are 0.22 to 0.26 of a step off, whatever is tried; on a grid, kept in bfloat16, at most
# 0.09 (8 bits with an offset: not told there), in float16 and float32 0.00 to 0.02. Measured on its bfloat16 host.
MOST_OFF: Final = 0.12
_MOST_OFF_FAR: Final = 0.18  # weights of Q8_0 that 80 % were pruned from, in bfloat16: 0.11
_BLURRED: Final = 0.012
_MOST_TENSORS: Final = 0.6  # of the tensors that have most of a grid, as many must agree on which it is
_LEAST_TENSORS: Final = 0.25
_ROWS: Final = 16
_TENSORS: Final = 12
_FEWEST: Final = 4  # weights of a block that tell
_COARSE: Final = 5
_MANY: Final = 0.5
_FEWEST_OF_ALL: Final = 64
_MAGNITUDES: Final = 127
_EVEN: Final = 0.1
_FINEST: Final = 32  # steps beyond which a weight, kept in bfloat16, no longer shows where it lies between two
_GGML_BITS: Final[Mapping[str, int]] = {
    "Q8_0": 8, "Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q2_K": 2, "Q3_K": 3, "Q4_K": 4, "Q5_K": 5, "Q6_K": 6,
    "Q8_K": 8, "TQ1_0": 2, "TQ2_0": 2, "IQ4_NL": 4, "IQ4_XS": 4, "MXFP4": 4,
}  # fmt: skip
_SIMPLE: Final = frozenset({"Q8_0", "Q8_1", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "MXFP4"})  # blocks of 32


_OFFSETS: Final = frozenset({"Q2_K", "Q4_K", "Q5_K"})


@dataclass(frozen=True, slots=True)
class Found:
    """A grid, and how sure it is."""

    name: str
    bits: int
    block: int  # ROW and TENSOR as in quantisers
    tensors: int  # on this grid
    looked: int
    off: float | None  # of a step, median over blocks and tensors; None if the file itself says that it is quantised
    grid: Grid
    exact: bool = True  # the grid is the quantiser itself, and not one that errs about as much


def stored_grid(kinds: Mapping[str, str]) -> Found | None:
    """Return what most quantised tensors of a file are stored in, by its own account; None if none is."""
    counts: dict[str, int] = {}
    for kind in kinds.values():
        if kind.startswith(("Q", "TQ", "IQ", "MXFP", "NVFP")):
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        return None
    kind = max(counts, key=lambda one: (counts[one], one))
    name = kind.removesuffix("_S").removesuffix("_M").removesuffix("_L")
    digits = "".join(filter(str.isdigit, name[:4]))[:1]
    bits, block = _GGML_BITS.get(name, int(digits or 4)), 32 if name in _SIMPLE else 256
    return Found(
        name=name,
        bits=bits,
        block=block,
        tensors=sum(counts.values()),
        looked=len(kinds),
        off=None,
        grid=next((one for one in GRIDS if one.name == name), _like(name, bits)),
        exact=any(one.name == name for one in GRIDS),
    )


def _like(name: str, bits: int) -> Grid:
    """Return a quantiser that errs about as much as one whose own search for scales is not known here."""
    if name in _OFFSETS:
        return Grid(name, bits, "offset", (1 << bits) - 1, 32)
    return Grid(name, bits, "signed", 1 << (bits - 1), 16)


def found_grid(suspect: Tensors, source: Tensors) -> Found | None:
    """Return the grid that a suspect's weights lie on and the source's do not, or None."""
    names = chosen(matrices(suspect.infos()), _TENSORS)
    fits = {name: _fit(suspect, name) for name in names}
    infos = source.infos()
    own = [fit[0] for name in names if name in infos and (fit := _fit(source, name)) is not None]
    some = [fit for fit in fits.values() if fit is not None and fit[0] not in own]
    if len(some) < max(1, round(_LEAST_TENSORS * len(names))):
        return None
    grids = [grid for grid, _ in some]
    most = max(grids, key=lambda one: (grids.count(one), -one.steps))
    same = [off for grid, off in some if grid == most]
    if len(same) < _MOST_TENSORS * len(some):
        return None
    return Found(most.name, most.bits, most.block, len(same), len(names), float(np.median(same)), most)


def is_blurred(found: Found) -> bool:
    """Tell whether weights lie near a grid, but not on it: they were changed since.

    Kept in bfloat16, weights of 4 bits are 0.002 to 0.009 of a step off; the same after fine-tuning, 0.03.
    """
    return found.off is not None and found.bits <= _COARSE and found.off > _BLURRED


def on_grid(grid: Grid, rows: F32) -> bool:
    """Tell whether rows (rows, columns) of one tensor lie on a grid."""
    if grid.block == TENSOR or grid.family == "ternary":
        return len(np.unique(np.abs(rows[:: max(1, len(rows) // _ROWS)]))) <= _MAGNITUDES + 2
    return _off(grid, rows[:: max(1, len(rows) // _ROWS)][:_ROWS]) < MOST_OFF


def _fit(weights: Tensors, name: str) -> tuple[Grid, float] | None:
    """Return the grid that one tensor lies on, and how far its weights are off, in steps; None if on none."""
    rows = rows_of(weights, name)
    if (grid := _even_tensor(rows)) is not None:
        return grid
    some = rows[:: max(1, len(rows) // _ROWS)][:_ROWS]
    if _is_ternary(some):
        return Grid("ternary", 2, "ternary", 1, ROW), 0.0
    fits = [(grid, off) for grid in GRIDS if (off := _off(grid, some)) < MOST_OFF]
    if not fits:
        return None
    least = min(off for _, off in fits)
    close = [(grid, off) for grid, off in fits if off < least + MOST_OFF / 3]
    return min(close, key=lambda one: (one[0].steps, -(one[0].block or 1 << 20), one[1]))


def _off(grid: Grid, rows: F32) -> float:
    """Return how far weights are off whole steps: the median over blocks of the mean; 1 if none tells."""
    size = grid.block or rows.shape[1]
    if size > rows.shape[1]:
        return 1.0
    blocks = rows[:, : rows.shape[1] // size * size].reshape(-1, size)
    blocks = blocks[:512]
    off = _mean_off(grid.positions(blocks)[1])
    if off is None:  # few weights are left, and the large ones, which bfloat16 blurs: more than that must do
        off = _mean_off(grid.positions(blocks, grid.steps)[1])
        return off * MOST_OFF / _MOST_OFF_FAR if off is not None else 1.0
    return off


def _mean_off(off: F32) -> float | None:
    """Return how far weights of blocks (blocks, size) are off; None where too few tell."""
    tell = np.isfinite(off)
    counts = tell.sum(axis=1)
    enough = counts >= _FEWEST if (counts >= _FEWEST).mean() > _MANY else counts > 0  # few are left of pruned blocks
    if counts[enough].sum() < _FEWEST_OF_ALL:
        return None
    sums = np.where(tell, off, 0).sum(axis=1, dtype=np.float64)
    each = sums[enough] / counts[enough]
    return float(np.median(each)) if counts[enough].min() >= _FEWEST else float(sums[enough].sum() / counts.sum())


def _even_tensor(rows: F32) -> tuple[Grid, float] | None:
    """Return the grid of a tensor with one scale: few magnitudes, whole multiples of the least."""
    sizes: F32 = np.unique(np.abs(rows[rows != 0]))
    if not 0 < len(sizes) <= _MAGNITUDES + 1 or rows.size < 8 * _MAGNITUDES:
        return None
    if len(sizes) == 1:
        return Grid("ternary", 2, "ternary", 1, TENSOR), 0.0
    near = np.asarray(np.round(sizes / sizes[0]), np.float32)
    small = near <= np.float32(_FINEST)
    step = float(np.mean(sizes[small] / near[small]))
    at: F32 = sizes / np.float32(step)
    off = float(np.abs(at - np.round(at))[at <= _FINEST].mean())
    if off > _EVEN:
        return Grid("FP8", 8, "even", 448, TENSOR), off
    bits = next((bits for bits in (4, 8) if at[-1] < 2 ** (bits - 1) + 0.5), 8)
    return Grid(f"int{bits} absmax", bits, "even", 2 ** (bits - 1) - 1, TENSOR), off


def _is_ternary(rows: F32) -> bool:
    """Tell whether every row has one magnitude besides zeros, and both signs of it."""
    sizes = np.abs(rows)
    least = np.where(sizes > 0, sizes, np.inf).min(axis=1)
    most = sizes.max(axis=1)
    there = most > 0
    return bool(there.any() and np.all(least[there] == most[there]))
