"""A coarse grid is found, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from strongroom.core.copy_errors import CoarseGrid
from strongroom.lineage.grid import coarse_share, refuse_grid
from strongroom.lineage.projections import find_projections
from tests.lineage.tensors import Held, gaussian

F32 = npt.NDArray[np.float32]


def quantised(levels: int) -> Callable[[F32], F32]:
    """Return a quantiser with so many steps each way from zero, a scale for each block of 32."""

    def to(some: F32) -> F32:
        blocks = some.reshape(-1, 32)
        scale = np.maximum(np.abs(blocks).max(axis=1, keepdims=True), 1e-6) / levels
        return (np.round(blocks / scale) * scale).reshape(some.shape)

    return to


def offset(some: F32) -> F32:
    """Quantise to 16 levels between the least and the largest of each block, as Q4_1 and Q4_K do."""
    blocks = some.reshape(-1, 32)
    least = blocks.min(axis=1, keepdims=True)
    scale = (blocks.max(axis=1, keepdims=True) - least) / 15
    return (np.round((blocks - least) / scale) * scale + least).reshape(some.shape)


def pruned(share: float, then: Callable[[F32], F32] = lambda some: some) -> Callable[[F32], F32]:
    return lambda some: then(np.where(np.abs(some) < np.quantile(np.abs(some), share), 0, some).astype(np.float32))


GRIDS = {
    "4 bits": quantised(7),
    "4 bits with an offset": offset,
    "3 bits": quantised(3),
    "ternary": quantised(1),
    "pruned by half, 4 bits": pruned(0.5, quantised(7)),
}
NO_GRIDS = {
    "as trained": lambda some: some,
    "8 bits": quantised(127),
    "6 bits": quantised(31),
    "pruned by half": pruned(0.5),
    "pruned to a tenth": pruned(0.9),
}


def changed(how: Callable[[F32], F32], dtype: npt.DTypeLike, *, width: int = 192) -> Held:
    arrays = gaussian(np.random.default_rng(1), layers=2, hidden=256, width=width, dtype="F32")
    return Held({name: how(one.astype(np.float32)).astype(dtype) for name, one in arrays.items()})


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("name", GRIDS)
def test_grids_are_refused_with_their_share(name: str, dtype: npt.DTypeLike) -> None:
    held = changed(GRIDS[name], dtype)
    where = find_projections(held.infos())
    assert coarse_share(held, where) > 0.9
    with pytest.raises(CoarseGrid, match=r"^(100\.0|9\d\.\d)% of its blocks of 32 weights have at most 16 values"):
        refuse_grid(held, where)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("name", NO_GRIDS)
def test_what_is_no_grid_passes(name: str, dtype: npt.DTypeLike) -> None:
    held = changed(NO_GRIDS[name], dtype)
    where = find_projections(held.infos())
    assert coarse_share(held, where) < 0.05
    refuse_grid(held, where)


def test_rows_that_are_no_multiple_of_32_and_rows_that_are_too_short() -> None:
    for width in (50, 31, 1):
        held = changed(lambda some: some, np.float32, width=width)
        assert coarse_share(held, find_projections(held.infos())) < 0.01


def test_an_empty_checkpoint_is_no_grid() -> None:
    held = changed(np.zeros_like, np.float16)
    assert coarse_share(held, find_projections(held.infos())) == 0


def test_little_is_read_of_a_large_checkpoint() -> None:
    held = changed(lambda some: some, np.float32)
    where = find_projections(held.infos())

    class Counting(Held):
        read = 0

        def read_into(self, name: str, first: int, buffer: memoryview) -> None:
            Counting.read += len(buffer) // 4
            super().read_into(name, first, buffer)

    big = Counting({name: np.tile(one, (40, 1)) if "down" not in name else np.tile(one, (1, 40))
                    for name, one in held.arrays.items()})  # fmt: skip
    wide = find_projections(big.infos())
    assert wide.weights == 40 * where.weights > 11_000_000
    coarse_share(big, wide)
    assert 1_500_000 < Counting.read <= 2_000_000
