"""A coarse grid is found, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from strongroom.core.copy_errors import CoarseGrid
from strongroom.lineage.grid import coarse_share, refuse_grid, steps_off
from strongroom.lineage.projections import find_projections
from strongroom.lineage.runs import LEAST_DISTINCT, distinct
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


def scaled(levels: int, size: int) -> Callable[[F32], F32]:
    """Return a quantiser to so many steps each way, a scale of 16 bits for each `size` weights of a row."""

    def to(some: F32) -> F32:
        blocks = some.reshape(-1, size)
        scale = (
            np.maximum(np.abs(blocks).max(axis=1, keepdims=True) / levels, 1e-6).astype(np.float16).astype(np.float32)
        )
        return (np.round(blocks / scale) * scale).reshape(some.shape)

    return to


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize(("levels", "bits"), [(127, 8), (31, 6)])
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_integers_with_a_scale_for_each_block_are_refused(
    dtype: npt.DTypeLike, levels: int, bits: int, *, size: int, share: float
) -> None:
    held = changed(pruned(share, scaled(levels, size)) if share else scaled(levels, size), dtype, width=256)
    with pytest.raises(CoarseGrid, match=f"looks like {bits}-bit integers with a scale for each block|4-bit"):
        refuse_grid(held, find_projections(held.infos()))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("name", NO_GRIDS)
def test_weights_on_no_grid_are_a_quarter_of_a_step_off_any(name: str, dtype: npt.DTypeLike) -> None:
    held = changed(NO_GRIDS[name], dtype)
    off, _, _ = steps_off(held, find_projections(held.infos()))
    assert 0.22 < off < 0.26


def fp8(some: F32, scale: F32) -> F32:
    return (some / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def int8(some: F32, scale: F32) -> F32:
    return np.round(some / scale) * scale


def most(some: F32, axis: int | None) -> F32:
    return np.abs(some).max(axis=axis, keepdims=True)


SCALED: dict[str, tuple[str, Callable[[F32], F32]]] = {
    "FP8, one scale": ("FP8", lambda some: fp8(some, most(some, None) / 448)),
    "FP8, a scale a row": ("FP8", lambda some: fp8(some, most(some, 1) / 448)),
    "FP8, a scale a column": ("FP8", lambda some: fp8(some, most(some, 0) / 448)),
    "int8, one scale": ("int8", lambda some: int8(some, most(some, None) / 127)),
    "int8, a scale a row": ("int8", lambda some: int8(some, most(some, 1) / 127)),
    "int8, a scale a column": ("int8", lambda some: int8(some, most(some, 0) / 127)),
}


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("width", [384, 700])
def test_eight_bits_times_a_scale_are_refused_and_named(name: str, dtype: npt.DTypeLike, width: int) -> None:
    looks_like, quantiser = SCALED[name]
    held = changed(quantiser, dtype, width=width)
    with pytest.raises(CoarseGrid, match=rf"differ in magnitude: it looks like {looks_like} times a scale"):
        refuse_grid(held, find_projections(held.infos()))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16])
def test_fp8_in_blocks_of_128_by_128_is_refused(dtype: npt.DTypeLike) -> None:
    def blocks(some: F32) -> F32:
        scale = np.abs(some).reshape(some.shape[0] // 128, 128, some.shape[1] // 128, 128).max(axis=(1, 3)) / 448
        return fp8(some, np.kron(scale, np.ones((128, 128), np.float32)))

    held = changed(blocks, dtype, width=640)
    with pytest.raises(CoarseGrid, match="looks like FP8"):
        refuse_grid(held, find_projections(held.infos()))


@pytest.mark.parametrize(
    ("dtype", "name", "least"),
    [
        (ml_dtypes.bfloat16, "as trained", 0.62),
        (ml_dtypes.bfloat16, "pruned by half", 0.55),
        (ml_dtypes.bfloat16, "pruned to a tenth", 0.65),
        (np.float16, "as trained", 0.9),
        (np.float32, "as trained", 0.999),
    ],
)
def test_weights_of_sixteen_bits_differ_more_than_it_takes(dtype: npt.DTypeLike, name: str, least: float) -> None:
    held = changed(NO_GRIDS[name], dtype, width=768)
    found = distinct(held, find_projections(held.infos()))
    assert found is not None
    assert (found.length, found.share) >= (256, least)
    assert found.share > least > LEAST_DISTINCT


def test_lines_that_are_too_short_or_empty_say_nothing() -> None:
    short = {name: one[:200, :200] for name, one in changed(lambda some: some, np.float32).arrays.items()}
    for held in (Held(short), changed(np.zeros_like, np.float16, width=512)):
        assert distinct(held, find_projections(held.infos())) is None


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
