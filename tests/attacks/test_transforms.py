"""What thieves do to weights: each does what its name says, from its seed, and leaves what it was given alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from strongroom.attacks import transforms
from strongroom.attacks.transforms import (
    COLLUSIONS,
    add_noise,
    changed,
    colluded,
    jam,
    majority,
    merge,
    pick_units,
    prune,
)
from strongroom.core.errors import BadInput

UP, DOWN = "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.down_proj.weight"


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def marked(copies: int, shape: tuple[int, int] = (40, 24)) -> list[np.ndarray]:
    """Copies of one tensor, each marked with its own signs."""
    base = chance(9).normal(size=shape).astype(np.float32)
    return [base + np.float32(0.01) * chance(20 + at).choice([-1, 1], shape).astype(np.float32) for at in range(copies)]


floats = arrays(np.float32, (6, 8), elements=st.floats(-4, 4, width=32))


@given(values=floats, share=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_pruning_takes_the_smallest_share(values: np.ndarray, share: float) -> None:
    result = prune(values, share)
    kept = result != 0
    assert np.array_equal(result[kept], values[kept])
    assert (result == 0).sum() >= round(share * values.size)
    gone = np.abs(values[~kept & (values != 0)])
    assert (~kept & (values != 0)).sum() <= round(share * values.size)
    if gone.size and kept.any():
        assert gone.max() <= np.abs(values[kept]).min()


def test_noise_is_of_the_share_that_was_asked() -> None:
    values = chance().normal(2, 3, (400, 300)).astype(np.float32)
    off = add_noise(values, 0.1, chance()) - values
    assert off.std() == pytest.approx(0.1 * values.std(), rel=0.02)
    assert abs(np.corrcoef(off.ravel(), values.ravel())[0, 1]) < 0.02
    assert np.array_equal(add_noise(values, 0.0, chance()), values)


@given(values=floats, other=floats)
def test_a_merge_lies_between(values: np.ndarray, other: np.ndarray) -> None:
    assert np.array_equal(merge(values, other, 0.0), values)
    assert np.array_equal(merge(values, other, 1.0), other)
    assert np.allclose(merge(values, other), (values + other) / 2)


@pytest.mark.parametrize("copies", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("name", list(COLLUSIONS))
def test_every_collusion(name: str, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "_PIECE", 101)  # which the tensors are no whole number of
    held = marked(copies)
    before = [one.copy() for one in held]
    result = COLLUSIONS[name](UP, held, chance())
    assert result.dtype == np.float32
    assert result.shape == held[0].shape
    assert all(np.array_equal(one, other) for one, other in zip(held, before, strict=True))
    assert not any(np.shares_memory(result, one) for one in held)
    assert np.array_equal(result, COLLUSIONS[name](UP, held, chance()))
    stack = np.stack(held)
    same = (stack == stack[0]).all(axis=0)
    assert np.allclose(result[same], stack[0][same], rtol=1e-6)  # nothing to gain where all agree
    if copies == 1:
        assert np.allclose(result, held[0], rtol=1e-6)
    if name.startswith("pick") or name == "majority":
        assert (stack == result).any(axis=0).all()
    if name == "average":
        assert np.allclose(result, stack.mean(axis=0))


@pytest.mark.parametrize("name", ["pick-weights", "pick-units", "pick-tensors"])
def test_picks_take_of_each_its_part(name: str) -> None:
    held = [np.full((600, 400), at, np.float32) for at in range(4)]
    drawn = np.array([COLLUSIONS[name](UP, held, chance(at)).mean() for at in range(200 if "tensors" in name else 2)])
    assert drawn.mean() == pytest.approx(1.5, abs=0.25)


def test_units_are_rows_and_in_the_down_projection_columns() -> None:
    held = [np.full((30, 50), at, np.float32) for at in range(3)]
    rows, columns = pick_units(UP, held, chance()), pick_units(DOWN, held, chance())
    assert (rows == rows[:, :1]).all()
    assert (columns == columns[:1]).all()
    assert len(np.unique(rows)) == len(np.unique(columns)) == 3


def test_a_majority_of_two_values_is_the_one_that_more_hold() -> None:
    signs = chance().choice([-1, 1], (5, 64, 32)).astype(np.float32)
    assert np.array_equal(majority(UP, list(signs), chance()), np.sign(signs.sum(axis=0)))
    even = majority(UP, list(signs[:4]), chance())
    total = signs[:4].sum(axis=0)
    assert np.array_equal(even[total != 0], np.sign(total[total != 0]))
    assert abs(even[total == 0].mean()) < 0.15  # a tie goes either way


def test_jamming_is_where_the_copies_differ_and_as_strong_as_it_says() -> None:
    held = marked(2)
    stack = np.stack(held)
    off = jam(UP, held, chance()) - stack.mean(axis=0)
    differ = held[0] != held[1]
    assert np.abs(off[~differ]).max() < 1e-6
    assert np.allclose(np.abs(off[differ]), 4 * 0.01, rtol=1e-3)
    assert abs(np.sign(off[differ]).mean()) < 0.15


def test_whole_models_pass_tensor_by_tensor() -> None:
    asked: list[tuple[int, str]] = []

    def copy_tensor(place: int, name: str) -> np.ndarray:
        asked.append((place, name))
        return np.full((4, 4), place, np.float32)

    stream = colluded([UP, DOWN], copy_tensor, COLLUSIONS["average"], copies=3, chance=chance())
    name, values = next(stream)
    assert name == UP
    assert (values == 1).all()
    assert asked == [(0, UP), (1, UP), (2, UP)]  # the second tensor is not read before it is wanted
    assert [name for name, _ in stream] == [DOWN]


def test_a_change_passes_over_every_tensor() -> None:
    def pruned(_name: str, values: np.ndarray, _chance: np.random.Generator) -> np.ndarray:
        return prune(values, 0.5)

    held = {UP: marked(1)[0], DOWN: marked(1)[0]}
    results = dict(changed(held, held.__getitem__, pruned, chance=chance()))
    assert list(results) == [UP, DOWN]
    assert all((values == 0).sum() == values.size // 2 for values in results.values())


@pytest.mark.parametrize("shapes", [[], [(2, 2), (2, 3)]])
def test_no_colluders_or_ones_of_other_models_are_refused(shapes: Sequence[tuple[int, int]]) -> None:
    def copy_tensor(place: int, _name: str) -> np.ndarray:
        return np.zeros(shapes[place], np.float32)

    with pytest.raises(BadInput):
        list(colluded([UP], copy_tensor, COLLUSIONS["average"], copies=len(shapes), chance=chance()))
