"""The mark goes into weights: whole after rounding, the same however it is cut, and nothing else is touched."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage.embed import Embedding, Streams
from strongroom.lineage.keys import checkpoint_keys
from strongroom.lineage.projections import Projections, find_projections
from tests.lineage.tensors import DTYPES, Held

STREAMS = Streams.of(checkpoint_keys(Secret(bytes(range(32))), "ckpt-1"))
UP, DOWN = "h.0.mlp.up_proj.weight", "h.0.mlp.down_proj.weight"


def embedding(up: npt.NDArray[np.generic], sigma: float, amplitude: float) -> Embedding:
    """Return a mark of one amplitude for a pair of projections, `up` and one of its transposed shape."""
    where = pair(up.shape[0], up.shape[1], up.dtype)
    roots = {name: np.full(up.shape[0], sigma, np.float32) for name in (UP, DOWN)}
    return Embedding(where, roots, units=np.full(up.shape[0], amplitude), streams=STREAMS)


def pair(hidden: int, width: int, dtype: np.dtype[np.generic]) -> Projections:
    held = Held({UP: np.zeros((hidden, width), dtype), DOWN: np.zeros((width, hidden), dtype)})
    return find_projections(held.infos())


def octets(some: npt.NDArray[np.generic]) -> memoryview:
    return memoryview(some.reshape(-1).view(np.uint8))


@given(dtype=st.sampled_from(["F16", "BF16", "F32"]), name=st.sampled_from([UP, DOWN]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_tensor_is_marked_the_same_however_it_is_cut(dtype: str, name: str, data: st.DataObject) -> None:
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    hidden, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    where = pair(hidden, width, DTYPES[dtype])
    roots = {one: generator.random(hidden).astype(np.float32) for one in (UP, DOWN)}
    mark = Embedding(where, roots, units=generator.normal(size=hidden), streams=STREAMS)
    host = generator.normal(size=hidden * width).astype(DTYPES[dtype])
    whole, pieces = host.copy(), host.copy()
    mark.apply(name, 0, octets(whole))
    cuts = sorted(data.draw(st.lists(st.integers(0, host.size), max_size=8)))
    for start, stop in zip([0, *cuts], [*cuts, host.size], strict=True):
        mark.apply(name, start, octets(pieces[start:stop]))
    assert whole.tobytes() == pieces.tobytes()
    assert whole.tobytes() != host.tobytes() or host.size < 8


def test_large_tensors_are_marked_the_same_however_they_are_cut() -> None:
    """Chunks of the work itself, not only of the call: 300 rows of 1,000 do not fit one."""
    host = np.random.default_rng(0).normal(size=(300, 1000)).astype(ml_dtypes.bfloat16)
    mark = embedding(host, 0.05, 0.3)
    whole, pieces = host.copy(), host.copy()
    mark.apply(UP, 0, octets(whole))
    for start in range(0, host.size, 77_777):
        mark.apply(UP, start, octets(pieces.reshape(-1)[start : start + 77_777]))
    assert whole.tobytes() == pieces.tobytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 3e-5])  # the last two reach float16's subnormal numbers
@pytest.mark.parametrize("alpha", [0.03, 0.003, 1e-4, 1e-6])
def test_rounding_takes_nothing_of_the_mark_on_average(dtype: str, scale: float, alpha: float) -> None:
    host = (np.random.default_rng(1).normal(size=(512, 2048)) * 0.05 * scale).astype(DTYPES[dtype])
    host[host == 0] = DTYPES[dtype].type(0.05 * scale)
    sigma = float(np.float32(0.05 * scale))
    marked = host.copy()
    embedding(host, sigma, alpha).apply(UP, 0, octets(marked))
    change = marked.astype(np.float64) - host.astype(np.float64)
    kept = change * STREAMS.chips.signs(UP, 0, host.size).reshape(host.shape) / (sigma * alpha)
    standard_error = kept.std() / host.size**0.5
    assert abs(kept.mean() - 1) < 5 * standard_error + 1e-3
    assert abs((change / (sigma * alpha)).mean()) < 5 * standard_error + 1e-3  # no drift either
    assert change.any()


def test_float32_is_marked_exactly() -> None:
    host = np.random.default_rng(2).normal(size=(64, 64)).astype(np.float32)
    marked = host.copy()
    embedding(host, 0.5, 0.25).apply(UP, 0, octets(marked))
    assert np.array_equal(marked, host + STREAMS.chips.signs(UP, 0, host.size).reshape(64, 64) * np.float32(0.125))


def words_of(dtype: str) -> npt.NDArray[np.generic]:
    """Return every 16-bit word, or some float32 of every exponent, as a matrix with 64 rows."""
    if dtype == "F32":
        return (np.arange(1 << 16, dtype=np.uint32) << 16 | 0x1234).view(np.float32).reshape(64, -1)
    return np.arange(1 << 16, dtype=np.uint16).view(DTYPES[dtype]).reshape(64, -1)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
@pytest.mark.parametrize("sigma", [1e-6, 0.05, 3e4, 1e38])
def test_zeros_and_what_is_not_finite_stay_and_nothing_overflows(dtype: str, sigma: float) -> None:
    host = words_of(dtype)
    marked = host.copy()
    embedding(host, sigma, 1.0).apply(UP, 0, octets(marked))
    as_f32 = host.astype(np.float32)
    stays = (as_f32 == 0) | ~np.isfinite(as_f32)
    assert stays.any()
    word = np.uint32 if dtype == "F32" else np.uint16
    assert np.array_equal(marked.view(word)[stays], host.view(word)[stays])
    assert np.isfinite(marked.astype(np.float32)[~stays]).all()
    assert (marked.view(word)[~stays] != host.view(word)[~stays]).any()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_word_is_rounded_to_one_of_its_two_neighbours(dtype: str) -> None:
    """What comes out is one of the two values of the dtype around w + delta, for every word, small and large."""
    host = words_of(dtype)
    marked = host.copy()
    sigma = float(np.float32(1e-5))
    embedding(host, sigma, 1.0).apply(UP, 0, octets(marked))
    signs = STREAMS.chips.signs(UP, 0, host.size).reshape(host.shape)
    with np.errstate(invalid="ignore"):  # NaNs that signal
        values = host.astype(np.float32)
        exact = values + signs * np.float32(sigma)
    sure = np.isfinite(exact) & (values != 0)
    grid = np.unique(values[np.isfinite(values)]).astype(np.float64)
    after = np.searchsorted(grid, exact[sure], side="left").clip(0, len(grid) - 1)
    got, lower = marked[sure].astype(np.float64), grid[np.maximum(after - 1, 0)]
    assert np.all((got == grid[after]) | (got == lower))
    on_grid = grid[after] == exact[sure]
    assert np.array_equal(got[on_grid], exact[sure][on_grid].astype(np.float64))


KEPT = [("F32", "BF16"), ("F32", "F16"), ("F16", "BF16")]


def kept(host: npt.NDArray[np.generic], sigma: float, amplitude: float, *, true: str) -> Embedding:
    """Return a mark for weights of the dtype `true`, kept in that of `host`."""
    where = pair(host.shape[0], host.shape[1], host.dtype)
    roots = {name: np.full(host.shape[0], sigma, np.float32) for name in (UP, DOWN)}
    units = np.full(host.shape[0], amplitude)
    return Embedding(where, roots, units=units, streams=STREAMS, dtypes={UP: true, DOWN: true})


@pytest.mark.parametrize(("container", "true"), KEPT)
@pytest.mark.parametrize("alpha", [0.3, 0.005, 1e-4])
def test_weights_kept_in_a_wider_dtype_are_marked_as_what_they_are(container: str, true: str, alpha: float) -> None:
    """Bit for bit what the mark makes of the narrower file: there is no finer grid to be snapped back from."""
    narrow = (np.random.default_rng(6).normal(size=(256, 512)) * 0.05).astype(DTYPES[true])
    narrow[np.abs(narrow.astype(np.float32)) < 1e-4] = 0.01  # what float16 can hold of bfloat16; see below
    wide = narrow.astype(DTYPES[container])
    assert np.array_equal(wide.astype(np.float64), narrow.astype(np.float64))
    embedding(narrow, 0.05, alpha).apply(UP, 0, octets(narrow))
    kept(wide, 0.05, alpha, true=true).apply(UP, 0, octets(wide))
    same = np.abs(narrow.astype(np.float64)) >= 2**-17
    assert same.mean() > 0.999
    assert np.array_equal(wide.astype(np.float64)[same], narrow.astype(np.float64)[same])


@pytest.mark.parametrize(("container", "true"), KEPT)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 3e-5])  # the last reaches where float16's steps are the larger
def test_rounding_as_what_they_are_takes_nothing_of_the_mark(container: str, true: str, scale: float) -> None:
    host = (np.random.default_rng(7).normal(size=(512, 2048)) * 0.05 * scale).astype(DTYPES[true])
    host = host.astype(DTYPES[container])
    host[host == 0] = DTYPES[container].type(2.0**-15)
    sigma, alpha = float(np.float32(0.05 * scale)), 0.003
    marked = host.copy()
    kept(host, sigma, alpha, true=true).apply(UP, 0, octets(marked))
    change = marked.astype(np.float64) - host.astype(np.float64)
    found = change * STREAMS.chips.signs(UP, 0, host.size).reshape(host.shape) / (sigma * alpha)
    assert abs(found.mean() - 1) < 5 * found.std() / host.size**0.5 + 1e-3
    fine = np.abs(marked.astype(np.float32)) >= 2**-14
    assert np.array_equal(marked[fine].astype(DTYPES[true]).astype(DTYPES[container]), marked[fine])


@pytest.mark.parametrize(("container", "true"), KEPT)
@pytest.mark.parametrize("sigma", [1e-6, 0.05, 3e4, 1e38])
def test_a_weight_that_is_not_of_the_tensors_true_dtype_is_rounded_as_it_is_kept(
    container: str, true: str, sigma: float
) -> None:
    """Every word: zeros and what is not finite stay, nothing overflows, and strangers get their own steps."""
    host = words_of(container)
    marked, plain = host.copy(), host.copy()
    kept(host, sigma, 1.0, true=true).apply(UP, 0, octets(marked))
    embedding(host, sigma, 1.0).apply(UP, 0, octets(plain))
    as_f32 = host.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        own = host.astype(DTYPES[true]).astype(np.float32) == as_f32
    stays = (as_f32 == 0) | ~np.isfinite(as_f32)
    word = np.uint32 if container == "F32" else np.uint16
    assert np.array_equal(marked.view(word)[stays], host.view(word)[stays])
    assert np.isfinite(marked.astype(np.float32)[~stays]).all()
    assert np.array_equal(marked.view(word)[~own], plain.view(word)[~own])
    assert (~own & ~stays).any()


def test_units_without_spread_or_amplitude_are_not_touched() -> None:
    host = np.random.default_rng(3).normal(size=(4, 64)).astype(ml_dtypes.bfloat16)
    where = pair(4, 64, host.dtype)
    roots = {name: np.array([0, 1, 1, 0.5], np.float32) for name in (UP, DOWN)}
    mark = Embedding(where, roots, units=np.array([1.0, 0.0, 0.5, 0.5]), streams=STREAMS)
    marked = host.copy()
    mark.apply(UP, 0, octets(marked))
    assert [np.array_equal(x, y) for x, y in zip(marked, host, strict=True)] == [True, True, False, False]
    across = np.ascontiguousarray(host.T)
    marked = across.copy()
    mark.apply(DOWN, 0, octets(marked))
    assert [np.array_equal(x, y) for x, y in zip(marked.T, across.T, strict=True)] == [True, True, False, False]


def test_what_is_no_part_of_a_marked_tensor_is_refused() -> None:
    host = np.zeros((4, 8), np.float16)
    mark = embedding(host, 1.0, 1.0)
    assert set(mark.names()) == {UP, DOWN}
    for name, first, size in (("h.0.attn.weight", 0, 2), (UP, 0, 3), (UP, 31, 4), (UP, -1, 2)):
        with pytest.raises(BadInput):
            mark.apply(name, first, memoryview(bytearray(size)))


def test_amplitudes_must_fit_the_units() -> None:
    host = np.zeros((4, 8), np.float16)
    where = pair(4, 8, host.dtype)
    roots = {name: np.ones(4, np.float32) for name in (UP, DOWN)}
    for units in (np.ones(3), np.full(4, np.nan)):
        with pytest.raises(BadInput):
            Embedding(where, roots, units=units, streams=STREAMS)
    with pytest.raises(BadInput, match="part of the checkpoint"):
        Embedding(where, {UP: roots[UP]}, units=np.ones(4), streams=STREAMS)
