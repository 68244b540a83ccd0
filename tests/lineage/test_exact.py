"""p-values of order: exact under any matching, and never too small."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strongroom.lineage.exact import fixed_points, log10_p_of_order
from strongroom.lineage.units import Units, nearest, spread, together, unit_length


@pytest.mark.parametrize(("hits", "permutations"), [(1, 1), (3, 1), (7, 1), (5, 4), (9, 4), (40, 30), (60, 30)])
def test_the_bound_is_that_of_the_factorial_moment(hits: int, permutations: int) -> None:
    expected = hits * math.log10(permutations) - math.log10(math.factorial(hits))
    assert log10_p_of_order(hits, permutations=permutations) == pytest.approx(min(0.0, expected))


def test_no_hits_say_nothing_and_choices_cost() -> None:
    assert log10_p_of_order(0) == 0.0
    assert log10_p_of_order(20, tries=5.0) == pytest.approx(log10_p_of_order(20) + 5.0)
    assert log10_p_of_order(2, tries=5.0) == 0.0


@pytest.mark.parametrize("layers", [1, 3, 12])
def test_random_numberings_are_super_uniform(layers: int) -> None:
    """The bound holds for whole permutations, where fixed points are most frequent."""
    chance = np.random.default_rng(5)
    draws = 40_000
    hits = np.zeros(draws, dtype=np.int64)
    for _ in range(layers):
        orders = chance.permuted(np.tile(np.arange(24), (draws, 1)), axis=1)
        hits += (orders == np.arange(24)).sum(axis=1)
    p = np.array([10 ** log10_p_of_order(int(one), permutations=layers) for one in range(int(hits.max()) + 1)])[hits]
    for level in (0.1, 0.01, 0.001):
        seen = (p <= level).sum()
        assert seen <= level * draws + 4 * math.sqrt(level * draws)


def test_unrelated_units_in_random_order_are_super_uniform() -> None:
    """With the matching that is really used, on units that are alike: strangers who learnt the same features."""
    chance = np.random.default_rng(6)
    features = chance.standard_normal((60, 32)).astype(np.float32)
    found: list[float] = []
    for _ in range(600):
        one, other = (
            Units(
                *(unit_length(features + 0.3 * chance.standard_normal(features.shape).astype(np.float32)) for _ in "gu")
            )
            for _ in range(2)
        )
        moved = other.take(chance.permutation(60))
        assert (together(one, other) >= 0).sum() > 40  # they can be matched, all the same
        found.append(10 ** log10_p_of_order(fixed_points(together(one, moved))))
    for level in (0.1, 0.01):
        assert (np.array(found) <= level).sum() <= level * 600 + 4 * math.sqrt(level * 600)


def test_ties_are_no_matches() -> None:
    """Rows that are all alike would be matched by their places, and places are what the test looks at."""
    assert (nearest(np.zeros((6, 6), np.float32)) == -1).all()
    same = np.ones((6, 8), np.float32)
    assert (
        together(Units(unit_length(same), unit_length(same)), Units(unit_length(same), unit_length(same))) == -1
    ).all()
    scores = np.array([[0.9, 0.9, 0.1], [0.2, 0.3, 0.8], [0.1, 0.2, 0.3]], np.float32)
    assert nearest(scores).tolist() == [-1, 2, -1]


@pytest.mark.parametrize(("count", "most"), [(1, 5), (5, 5), (1536, 128), (3, 200)])
def test_samples_are_spread_and_distinct(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == min(count, most)
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] == 0
    assert chosen[-1] == (count - 1 if min(count, most) > 1 else 0)
