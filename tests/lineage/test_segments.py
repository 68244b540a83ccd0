"""The deal of hidden units to segments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage.segments import deal

SECRET = Secret(bytes(32))


@given(units=st.integers(1, 3000), share=st.floats(0.0, 1.0))
@settings(max_examples=50, deadline=None)
def test_segments_differ_by_at_most_one_unit(units: int, share: float) -> None:
    segments = max(1, int(units * share))
    sizes = np.bincount(deal(SECRET, units, segments), minlength=segments)
    assert sizes.sum() == units
    assert sizes.max() - sizes.min() <= 1


def test_the_same_secret_deals_the_same_and_another_one_does_not() -> None:
    one, again, other = (deal(Secret(bytes([at]) * 32), 46080, 2810) for at in (1, 1, 2))
    assert np.array_equal(one, again)
    assert np.mean(one == other) < 5 / 2810
    assert one.dtype == np.int32


def test_neighbours_are_dealt_apart() -> None:
    """Every pair of neighbours lands in one segment as often as chance has it: the deal keeps no order."""
    dealt = deal(SECRET, 1 << 20, 256)
    together = int((dealt[1:] == dealt[:-1]).sum())
    assert abs(together - (1 << 12)) < 5 * 64


@pytest.mark.parametrize(("units", "segments"), [(10, 0), (10, 11), (0, 1), (10, -1)])
def test_what_can_not_be_dealt_is_refused(units: int, segments: int) -> None:
    with pytest.raises(BadInput):
        deal(SECRET, units, segments)
