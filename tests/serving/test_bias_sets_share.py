"""Several gateways behind one port allow no more sets of biases together than one does."""

from __future__ import annotations

import pytest

from strongroom.serving.disclosure.bias_sets import BiasSets
from strongroom.serving.disclosure.tiers import TIERS


@pytest.mark.parametrize("gateways", [1, 2, 4, 7])
def test_all_gateways_together_allow_what_the_tier_allows(gateways: int) -> None:
    tier = TIERS["standard"]
    processes = [BiasSets(gateways=gateways) for _ in range(gateways)]
    allowed = sum(
        one.admit("acme", "2026-11-23", prompt=b"p%d" % prompt, bias=b"b%d" % bias, tier=tier)
        for one in processes
        for prompt in range(40)
        for bias in range(10)
    )
    assert tier.bias_sets_a_day - gateways < allowed <= tier.bias_sets_a_day
