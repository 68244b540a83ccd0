"""Limits over one and over four gateway processes: overshoot 0, whoever asks at once, and whoever is killed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom.serving.quotas import SCOPES, Limits, Prices, Scope
from strongroom.serving.roster import Roster, RosterOrg
from tests.gateway.fleet import Fleet, ask, fleet, made_ready, outcome
from tests.gateway.house import MODEL, account, key, until

WIDE = {"rpm": 1_000_000, "tokens_per_day": 10**9}
KEYS = ("sk-one", "sk-two")


def roster(scope: Scope, limits: Limits) -> Roster:
    """Two keys, of one account where the limit is the key's or the account's: it is asked for by both where it can."""
    own: dict[str, Any] = {"more": limits} if scope == "account" else {}
    if scope == "account":
        own |= {"rpm": limits.requests or WIDE["rpm"], "tokens_per_day": limits.tokens or WIDE["tokens_per_day"]}
        own["more"] = Limits(streams=limits.streams, money=limits.money)
    org = {"org": "globex"} if scope == "org" else {}
    second = "acme" if scope in {"key", "account"} else "beta"
    return Roster(
        version=1,
        accounts=(account("acme", **(WIDE | own | org)), account("beta", **(WIDE | org))),
        keys=(_limited(0, "acme", limits if scope == "key" else Limits()), _limited(1, second, Limits())),
        terms="",
        models=(MODEL,),
        orgs=(RosterOrg("globex", limits if scope == "org" else Limits()),),
        total=limits if scope == "total" else Limits(),
        prices=Prices(prompt=2, answer=3),
    )


def _limited(number: int, of: str, limits: Limits) -> Any:
    return msgspec.structs.replace(key(KEYS[number], of=of, name=f"k{number}"), limits=limits)


def asking(scope: Scope, text: str, **more: Any) -> Any:
    """Return what each client sends: by both keys, but where the limit is the first one's."""
    return lambda number: ask(KEYS[0 if scope == "key" else number % 2], text, **more)


def most_in_a_minute(lines: list[dict[str, Any]]) -> int:
    times = sorted(datetime.fromisoformat(line["at"]).timestamp() for line in lines)
    return max(sum(1 for at in times if start <= at < start + 60) for start in times)


@pytest.mark.parametrize("many", [1, 4])
@pytest.mark.parametrize("scope", SCOPES)
def test_requests_a_minute(tmp_path: Path, scope: Scope, many: int) -> None:
    with fleet(tmp_path, roster(scope, Limits(requests=24)), many) as made:
        came = made.crowd(asking(scope, "say 1"), clients=6, each=12)
        assert set(came) <= {"200", "rate_limit_exceeded"}
        assert whose(made, scope)
    assert len(made.admitted()) <= 24
    assert len(made.admitted()) >= 24 - (many - 1) * slice_of(24, many)


@pytest.mark.parametrize("many", [1, 4])
@pytest.mark.parametrize("scope", SCOPES)
def test_tokens_and_money_a_day(tmp_path: Path, scope: Scope, many: int) -> None:
    limits = Limits(tokens=1000, money=2600)
    with fleet(tmp_path, roster(scope, limits), many) as made:
        came = made.crowd(asking(scope, "say 40", max_tokens=40), clients=6, each=12)
        assert set(came) <= {"200", "tokens_per_day_exceeded", "money_per_day_exceeded"}
        until(lambda: len(made.settled()) == len(made.admitted()))
        assert whose(made, scope)
    used = [(line["prompt_tokens"], line["completion_tokens"]) for line in made.settled()]
    assert sum(prompt + answer for prompt, answer in used) <= 1000
    money = sum(2 * prompt + 3 * answer for prompt, answer in used)
    assert sum(line.get("money", 0) for line in made.settled()) == money <= 2600
    assert money >= 2600 - many * 3 * 450  # a request that may take so many tokens is held for, by every gateway


@pytest.mark.parametrize("many", [1, 4])
@pytest.mark.parametrize("scope", SCOPES)
def test_requests_that_are_open_at_once(tmp_path: Path, scope: Scope, many: int) -> None:
    with fleet(tmp_path, roster(scope, Limits(streams=8)), many) as made:
        came = made.crowd(asking(scope, "hang"), clients=24, each=1, patience=3.0)
        assert set(came) <= {"lost", "too_many_open_requests"}
        assert 8 - (many - 1) * slice_of(8, many) <= len(made.admitted()) <= 8
        assert whose(made, scope)
        until(lambda: len(made.settled()) == len(made.admitted()))
        # all have left: there is room again, wherever it was
        until(lambda: outcome(made.ask(ask(KEYS[0], "say 1"))) == "200")


def slice_of(limit: int, many: int) -> int:
    return max(1, limit // (4 * many))


def whose(made: Fleet, scope: Scope) -> bool:
    word = {
        "key": b"of the key",
        "account": b"of the account",
        "org": b"of the organisation",
        "total": b"whole service",
    }
    refused = [one for one in made.answers if b" 429 " in one[:14]]
    return bool(refused) and all(word[scope] in one for one in refused)


def test_a_stream_is_cut_where_the_money_ends(tmp_path: Path) -> None:
    with fleet(tmp_path, roster("org", Limits(money=100)), 1) as made:
        answer = made.ask(ask(KEYS[0], "wild 100", stream=True, stream_options={"include_usage": True})).decode()
        assert answer.count('"content":"w') == 32  # 2 tokens of prompt at 2, then 32 of answer at 3
        assert '"finish_reason":"length"' in answer
        assert answer.rstrip().endswith("data: [DONE]\n\n\r\n0")
        assert outcome(made.ask(ask(KEYS[1], "say 1"))) == "money_per_day_exceeded"
    assert [line["money"] for line in made.settled()] == [100]


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("many", [1, 4])
def test_who_is_killed_makes_nobody_overshoot(tmp_path: Path, many: int) -> None:
    limits = Limits(requests=60, tokens=6000, streams=12)
    with fleet(tmp_path, roster("total", limits), many) as made:
        stop = threading.Event()
        came: Counter[str] = Counter()

        def client(number: int) -> None:
            while not stop.is_set():
                came[outcome(made.ask(asking("total", "slow 5", max_tokens=100)(number)))] += 1
                time.sleep(0.02)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        for _ in range(2):
            made.kill(made.gateways.pop(0))
            made.start_gateway()
            time.sleep(0.3)
            made.kill(made.control)
            made.start_control()
            time.sleep(0.5)
        time.sleep(1)
        made_ready(made)
        stop.set()
        for thread in threads:
            thread.join()
    assert came["200"] > 10
    assert came["rate_limit_exceeded"] + came["tokens_per_day_exceeded"] > 0
    assert most_in_a_minute(made.admitted()) <= 60
    settled = {line["id"]: line["prompt_tokens"] + line["completion_tokens"] for line in made.settled()}
    used = sum(settled.get(line["id"], line["reserved"]) for line in made.admitted())
    assert used <= 6000


def test_places_of_a_killed_gateway_are_free_again_and_no_others(tmp_path: Path) -> None:
    with fleet(tmp_path, roster("account", Limits(streams=4)), 2) as made:
        end = time.monotonic() + 20
        while len(made.admitted()) < 4:  # a place that one gateway holds idle is given up when the other asks again
            assert time.monotonic() < end
            threading.Thread(target=made.ask, args=(ask(KEYS[0], "hang"),), daemon=True).start()
            time.sleep(0.3)
        made.kill(made.control)
        made.start_control()
        said = [outcome(made.ask(ask(KEYS[0], "say 1")))]
        while said[-1] == "control_unavailable":  # until both gateways have found the new control
            assert time.monotonic() < end + 20
            said.append(outcome(made.ask(ask(KEYS[0], "say 1"))))
        assert said[-1] == "too_many_open_requests"
        busy = next(one for one in made.gateways if any((tmp_path / "spool").glob(f"usage-*-{one.pid}-*")))
        made.gateways.remove(busy)
        made.kill(busy)
        until(lambda: outcome(made.ask(ask(KEYS[0], "say 1"))) == "200", 20)
