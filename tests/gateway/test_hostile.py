"""Clients and neighbours that mean harm, or stop in the middle: what a hostile reader of the gateway tried."""

from __future__ import annotations

import time
from pathlib import Path

from tests.gateway.house import head, house
from tests.gateway.test_rules import CLOSE, told


# ── control ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_control_that_froze_lets_nobody_in_though_its_link_is_up(tmp_path: Path) -> None:
    raw = head("GET", "/v1/models", CLOSE)
    with house(tmp_path, bounds={"roster_seconds": 0.6}) as (gateway, control):
        time.sleep(1.0)
        assert told(gateway, raw)[0] == 200  # its signs of life alone are enough
        control.frozen = True
        assert told(gateway, raw)[0] == 200
        time.sleep(1.0)
        assert control.link is not None
        assert told(gateway, raw) == (503, "control_unavailable")
        control.push()  # any message is a sign of life
        assert told(gateway, raw)[0] == 200
