"""The parts of telling a derivation: quantisers' arithmetic, spectra of noise, what is sampled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.engines.gguf_weights import round_trip
from strongroom.lineage.how.casts import rounded, rounding
from strongroom.lineage.how.grids import found_grid
from strongroom.lineage.how.quantisers import GRIDS
from strongroom.lineage.how.samples import chosen, strips
from strongroom.lineage.how.spectra import predicted, quantile, spectrum, whiteness
from tests.lineage.tensors import DTYPES, Held


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1"])
def test_ggml_quantisers_give_the_gguf_packages_own_values(name: str) -> None:
    rng = np.random.default_rng(1)
    rows = (rng.normal(size=(64, 256)) * 0.1).astype(DTYPES["BF16"]).astype(np.float32)
    grid = next(one for one in GRIDS if one.name == name)
    assert np.array_equal(grid.rounded(rows), round_trip(rows, name))


@pytest.mark.parametrize("grid", GRIDS, ids=lambda one: one.described)
def test_what_a_quantiser_rounds_lies_on_its_steps_and_within_one_of_what_it_was(grid: object) -> None:
    one = next(some for some in GRIDS if some == grid)
    rows = np.random.default_rng(2).normal(size=(16, 512)).astype(np.float32)
    made = one.rounded(rows)
    apart = np.abs(made - rows) / one.step(rows)
    assert apart.max() <= (2 if one.family == "normal" else 1.01)
    size = one.block or 512
    off = one.positions(made.reshape(-1, size), 512)[1]
    plain = one.positions(rows.reshape(-1, size), 512)[1]
    assert np.nanmedian(off) < 0.05
    assert np.nanmedian(plain) > 0.15


@given(st.integers(16, 256), st.integers(16, 256), st.integers(0, 2**32 - 1))
def test_strips_lie_within_a_tensor_and_do_not_overlap(height: int, rows: int, seed: int) -> None:
    found = strips(height + seed % 5000, rows // 4 * 4)
    places = [at for one in found for at in range(one.start, one.stop)]
    assert len(places) == len(set(places)) <= max(rows, 16)
    assert max(places) < height + seed % 5000


def test_chosen_tensors_are_of_every_part_and_of_several_depths() -> None:
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(30) for part in ("a", "b", "c", "d")]
    found = chosen(names)
    assert len(found) == len(set(found)) == 24
    assert {name.split(".")[3] for name in found} == {"a", "b", "c", "d"}
    assert len({name.split(".")[2] for name in found}) > 10


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_eigenvalues_of_noise_follow_marchenko_and_pastur(ratio: float) -> None:
    rng = np.random.default_rng(3)
    short, long = 200, round(200 / ratio)
    values = spectrum(rng.normal(size=(short, long)).astype(np.float32)).values / long
    for at in (0.25, 0.5, 0.75, 0.9):
        assert np.quantile(values, at) == pytest.approx(quantile(ratio, at), rel=0.05)


def test_directions_in_noise_are_counted() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(size=(200, 400))
    low = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 400))
    assert whiteness(noise.astype(np.float32)).spikes == 0
    assert whiteness((noise + 0.5 * low).astype(np.float32)).spikes == 5


def test_a_low_rank_predicts_what_is_hidden_and_noise_is_not_predicted() -> None:
    rng = np.random.default_rng(5)
    low = (rng.normal(size=(192, 6)) @ rng.normal(size=(6, 400))).astype(np.float32)
    mask = rng.random(low.shape) < 0.5
    assert predicted(np.where(mask, 0, low), mask, 8)[0] < 0.01
    noise = rng.normal(size=low.shape).astype(np.float32)
    assert predicted(np.where(mask, 0, noise), mask, 8)[0] > 0.9


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_roundings_variance_is_what_rounding_does(dtype: str) -> None:
    values = np.random.default_rng(6).normal(size=100_000).astype(np.float32)
    square = ((rounded(values, dtype) - values).astype(np.float64) ** 2).mean()
    assert square == pytest.approx(float(rounding(values, dtype).mean()), rel=0.03)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_weights_of_no_grid_are_on_none(dtype: str) -> None:
    rng = np.random.default_rng(7)
    held = Held({f"layers.{at}.x.weight": rng.normal(size=(256, 256)).astype(DTYPES[dtype]) for at in range(4)})
    assert found_grid(held, Held({})) is None
