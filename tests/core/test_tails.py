"""Tails in log space: against exact arithmetic, and against scipy where scipy doesn't underflow."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.core.tails import log_binomial_tail, log_gamma_tail


def _exact(count: int, total: float) -> Decimal:
    """Return ln Q(count, total) from the definition, to 330 digits: the terms cancel where the tail is near 1."""
    with localcontext() as context:
        context.prec = 330
        s, term, whole = Decimal(total), Decimal(1), Decimal(1)
        for k in range(1, count):
            term = term * s / k
            whole += term
        return whole.ln() - s


@pytest.mark.parametrize("count", [1, 2, 5, 15, 16, 17, 100, 196, 1000])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 0.999, 1.0, 1.0001, 1.1, 1.25, 2.0, 7.0, 1000.0])
def test_the_gamma_tail_is_exact_to_1e_12(count: int, ratio: float) -> None:
    exact = _exact(count, count * ratio)
    assert abs(Decimal(float(log_gamma_tail(count, count * ratio))) / exact - 1) < Decimal("1e-12")


@given(st.integers(1, 400), st.floats(0.01, 5000))
def test_the_gamma_tail_is_exact_anywhere(count: int, total: float) -> None:
    exact = _exact(count, total)
    if exact < Decimal("-1e-290"):
        assert abs(Decimal(float(log_gamma_tail(count, total))) / exact - 1) < Decimal("1e-12")


def test_the_gamma_tail_agrees_with_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    generator = np.random.default_rng(1)
    counts = generator.integers(1, 3000, 2000)
    sums = counts * generator.uniform(0, 3, 2000)
    theirs = special.gammaincc(counts, sums)
    ours = log_gamma_tail(counts, sums)
    usable = (theirs > 1e-290) & (theirs < 0.99)
    assert np.abs(ours[usable] / np.log(theirs[usable]) - 1).max() < 1e-12


def test_the_gamma_tail_s_edges() -> None:
    assert log_gamma_tail([0, 0, 3], [0.0, 5.0, 0.0]).tolist() == [0.0, 0.0, 0.0]
    assert log_gamma_tail(1, 1e6) == pytest.approx(-1e6, rel=1e-14)
    assert log_gamma_tail(2_000_000, 2_000_000.0) == pytest.approx(math.log(0.5), rel=1e-3)
    assert log_gamma_tail(np.zeros((2, 0), int), 1.0).shape == (2, 0)


@pytest.mark.parametrize(("count", "total"), [(-1, 1.0), (1, -1.0), (1, math.nan), (1, math.inf)])
def test_what_is_no_gamma_tail_is_refused(count: int, total: float) -> None:
    with pytest.raises(BadInput):
        log_gamma_tail(count, total)


def test_the_binomial_tail_is_right() -> None:
    for hits in range(13):
        exact = sum(math.comb(12, k) * 0.3**k * 0.7 ** (12 - k) for k in range(hits, 13))
        assert log_binomial_tail(hits, 12, 0.3) == pytest.approx(math.log(exact), abs=1e-9)


@pytest.mark.parametrize(("hits", "trials", "rate"), [(-1, 5, 0.5), (6, 5, 0.5), (1, 5, 0.0), (1, 5, 1.0)])
def test_what_is_no_binomial_is_refused(hits: int, trials: int, rate: float) -> None:
    with pytest.raises(BadInput):
        log_binomial_tail(hits, trials, rate)
