"""Clients and neighbours that mean harm, or stop in the middle: what a hostile reader of the gateway tried."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.gateway.house import MODEL, account, chat, head, house, post
from tests.gateway.test_rules import CLOSE, prepared, told


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


# ── budgets ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("verb", ["say", "wild"])
def test_a_prompt_that_may_pass_the_context_is_not_sent_to_a_server_of_another_make(tmp_path: Path, verb: str) -> None:
    changes = {"bounds": {"context_tokens": 1000}, "prepare": prepared(account(tokens_per_day=3000))}
    long = f"{verb} 1" + " x" * 1000
    with house(tmp_path, engine="http://scripted", **changes) as (gateway, control):
        assert told(gateway, post(chat(long, max_tokens=10), CLOSE)) == (400, "prompt_too_long")
        text = post({"model": MODEL, "prompt": long}, CLOSE, target="/v1/completions")
        assert told(gateway, text) == (400, "prompt_too_long")
        assert told(gateway, post(chat(f"{verb} 1", max_tokens=10), CLOSE))[0] == 200
    assert sum(control.spent.values()) == 3
    with house(tmp_path, **changes) as (gateway, _):  # ours counts for itself
        assert told(gateway, post(chat(f"say 1{' ' * 2000}", max_tokens=10), CLOSE))[0] == 200
