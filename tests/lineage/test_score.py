"""The evidence is what it says it is: its mean over innocent codes is 1, whatever the file."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.lineage.codes import COMMON
from strongroom.lineage.score import Channel, Found, channel, log_common, log_evidence, log_mean
from tests.lineage.simulated import book, leaked, unmarked

WAYS = ("average", "pick", "majority", "noise")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-50, 50), st.integers(1311, 64225)), min_size=1, max_size=7),
    st.floats(0.01, 3),
    st.floats(0.01, 3),
    st.integers(0, 4),
    st.integers(0, 2**32),
)
def test_the_mean_over_all_codes_is_exactly_one(
    segments: list[tuple[float, int]], signal: float, noise: float, others: int, seed: int
) -> None:
    values, bias = np.array([one[0] for one in segments]), np.array([one[1] for one in segments]) / 65536
    codes = np.array(list(itertools.product((1, -1), repeat=len(segments))), np.int8)
    named = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (others, len(segments)))
    logs = log_evidence(Found(values, bias, Channel(signal, noise)), codes, named=named)
    chances = np.where(codes > 0, bias, 1 - bias).prod(axis=1)
    assert math.isclose(float((chances * np.exp(logs)).sum()), 1.0, rel_tol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=10), st.floats(-3, 3))
def test_the_checkpoints_bound_holds_for_every_file(values: list[float], level: float) -> None:
    codes = np.array(list(itertools.product((1, -1), repeat=len(values))), np.int8)
    logs = np.array([log_common(np.array(values), code) for code in codes])
    bar = -(10**level)
    assert (logs <= bar).mean() <= math.exp(bar) + 1e-12


def test_what_the_file_does_not_hold_says_nothing() -> None:
    found = Found(np.array([1.0, math.nan, math.inf]), np.array([0.5, 0.1, 0.9]), Channel(1.0, 0.5))
    codes = np.array([[1, 1, 1], [1, -1, 1], [1, 1, -1], [-1, 1, 1]], np.int8)
    logs = log_evidence(found, codes, named=np.zeros((0, 3), np.int8))
    assert logs[0] == logs[1] == logs[2] > 0 > logs[3]
    assert log_common(np.full(256, math.nan), np.ones(256, np.int8)) == 0
    assert channel(np.full(256, math.nan), np.ones(256, np.int8)) == Channel(0.0, 1.0)


def test_no_single_segment_decides() -> None:
    found = Found(np.array([1e6]), np.array([0.02]), Channel(1e6, 1.0))
    logs = log_evidence(found, np.array([[1], [-1]], np.int8), named=np.zeros((0, 1), np.int8))
    assert logs[0] <= math.log(50) + 1e-9
    assert logs[1] >= math.log(0.02) - 1e-9


def test_the_log_of_the_mean_is_right_where_numbers_are_not() -> None:
    assert math.isclose(float(log_mean(np.array([1000.0, 1000.0 + math.log(3)]))), 1000 + math.log(2))


def innocents(files: int, codes: int, seed: int) -> np.ndarray:
    """Return 1/E of innocent codes: half of the files were made by others together, half bear no mark."""
    rng = np.random.default_rng(seed)
    chances: list[np.ndarray] = []
    for at in range(files):
        made = book(seed * 1000 + at, recipients=5)
        codebook = np.where(rng.random((codes, 2555)) < made.scheme.bias / 65536, 1, -1).astype(np.int8)
        whole = made.codes(range(1 + at % 5))
        both = leaked(rng, whole, WAYS[at % 4]) if at % 2 else unmarked(rng, whole.shape[1])
        logs = []
        for one in both:
            through = channel(one.values[:COMMON], made.scheme.common)
            found = Found(one.values[COMMON:], made.scheme.bias / 65536, through)
            logs.append(log_evidence(found, codebook, named=np.zeros((0, 2555), np.int8)))
        chances.append(np.exp(-log_mean(np.stack(logs, axis=1))))
    return np.concatenate(chances)


@pytest.mark.parametrize(
    ("files", "codes"), [(10, 2000), pytest.param(100, 10_000, marks=pytest.mark.slow)], ids=["20 thousand", "million"]
)
def test_innocent_codes_are_super_uniform(files: int, codes: int) -> None:
    found = innocents(files, codes, seed=3)
    total = files * codes
    for level in (0.1, 0.01, 0.001, 1e-4, 1e-6):
        hits = int((found <= level).sum())
        assert hits <= total * level + 4 * math.sqrt(total * level) + (3 if level == 1e-4 else 0), level
    assert (found * 1000 * 8 <= 1e-6).sum() == 0  # nobody of a million would be named among a thousand
