"""Several gateways behind one port allow no more sets of biases together than one does."""

from __future__ import annotations

import pytest

from strongroom.serving.disclosure.bias_sets import BiasSets, bias_digest
from strongroom.serving.disclosure.tiers import TIERS


@pytest.mark.parametrize("gateways", [1, 2, 4, 7])
def test_all_gateways_together_allow_what_the_tier_allows(gateways: int) -> None:
    tier = TIERS["standard"]
    processes = [BiasSets(gateways=gateways) for _ in range(gateways)]
    let = [
        bias_digest([(at, 1.0)])
        for number, one in enumerate(processes)
        for at in range(number * 100, number * 100 + 100)
        if one.admit("acme", "2026-11-23", prompt=b"%d" % at, bias=bias_digest([(at, 1.0)]), tier=tier)
    ]
    assert tier.bias_sets_a_day - gateways < len(let) <= tier.bias_sets_a_day
