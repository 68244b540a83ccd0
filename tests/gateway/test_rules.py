"""Keys, terms, limits and budgets: each must bite, at the real process (rule 11)."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from strongroom.serving.roster import LeaseReturned
from tests.gateway.house import (
    KEY,
    MODEL,
    Control,
    Gateway,
    account,
    chat,
    code,
    head,
    house,
    key,
    post,
    read_all,
    status,
    until,
)

CLOSE = "Connection: close"


def told(gateway: Gateway, raw: bytes) -> tuple[int, str]:
    answer = gateway.talk(raw)
    return status(answer), "" if status(answer) == 200 else code(answer)


def prepared(*accounts: Any) -> Callable[[Control], None]:
    def prepare(control: Control) -> None:
        control.accounts = list(accounts)

    return prepare


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
ROUTES = {
    "chat": post(chat("say 1"), CLOSE),
    "completions": post({"model": MODEL, "prompt": "say 1"}, CLOSE, target="/v1/completions"),
    "models": head("GET", "/v1/models", CLOSE),
    "model": head("GET", f"/v1/models/{MODEL}", CLOSE),
    "terms": head("GET", "/terms", CLOSE),
    "accept": post({"digest": "d1"}, CLOSE, target="/terms"),
}


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_wants_a_live_key_of_an_active_account(tmp_path: Path, route: str) -> None:
    raw = ROUTES[route]
    with house(tmp_path) as (gateway, control):
        control.terms = "d1"
        control.push()
        assert told(gateway, raw)[0] == 200
        assert told(gateway, raw.replace(KEY.encode(), b"other"))[1] == "invalid_api_key"
        control.keys = [key(accepted=False)]
        control.push()
        assert told(gateway, raw)[1] == ("" if "terms" in raw[:30].decode() else "terms_not_accepted")
        control.keys = [key()]
        control.accounts = [account(rpm=0)]
        control.push()
        assert told(gateway, raw)[1] == "rate_limit_exceeded"
        control.accounts = [account(active=False)]
        control.push()
        assert told(gateway, raw)[1] == "account_inactive"
        control.keys = []
        control.push()
        assert told(gateway, raw)[1] == "invalid_api_key"
        lines = [line for line in gateway.lines() if line["type"] == "Refused" and line.get("account")]
        assert {line["code"] for line in lines} >= {"rate_limit_exceeded", "account_inactive"}


def test_a_revoked_key_ends_its_streams_before_control_is_answered(shared: tuple[Gateway, Control]) -> None:
    gateway, control = shared
    control.accounts.append(account("other"))
    control.keys.append(key("second", of="other", name="key_2"))
    control.push()
    with gateway.connect() as mine, gateway.connect() as whole, gateway.connect() as others:
        mine.sendall(post(chat("slow 500", stream=True)))
        whole.sendall(post(chat("hang")))
        others.sendall(post(chat("slow 40", stream=True), CLOSE, key="second"))
        assert mine.recv(100)
        time.sleep(0.1)
        control.keys = [one for one in control.keys if one.id != "key_1"]
        control.push()
        mine.settimeout(1)
        rest = read_all(mine)
        assert b'"code":"invalid_api_key"' in rest
        assert b"[DONE]" not in rest
        whole.settimeout(1)
        answer = whole.recv(65536)
        assert (status(answer), code(answer)) == (401, "invalid_api_key")
        assert b"[DONE]" in read_all(others)
    control.keys.append(key())
    control.push()


def test_nobody_is_let_in_without_control(tmp_path: Path) -> None:
    control = Control(tmp_path / "control.sock")
    control.shut()
    with Gateway(tmp_path, control, bounds={"roster_seconds": 1.0}) as gateway:
        raw = post(chat("say 1"), CLOSE)
        assert told(gateway, raw) == (503, "control_unavailable")
        assert status(gateway.talk(head("GET", "/health", CLOSE))) == 503
        control.open()
        until(lambda: control.applied)
        assert told(gateway, raw)[0] == 200
        assert status(gateway.talk(head("GET", "/health", CLOSE))) == 200
        control.shut()
        assert told(gateway, raw)[0] == 200  # a restart of control is no outage, for a while
        time.sleep(1.2)
        assert told(gateway, raw) == (503, "control_unavailable")
        control.open()
        until(lambda: told(gateway, raw)[0] == 200)
    control.close()


def test_terms(shared: tuple[Gateway, Control]) -> None:
    gateway, control = shared
    control.terms = "sha256:1"
    control.push()
    answer = gateway.talk(head("GET", "/terms", CLOSE))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["text"] == "Be kind."
    assert told(gateway, post({"digest": "sha256:0"}, CLOSE, target="/terms")) == (409, "terms_changed")
    assert told(gateway, post({"digest": "sha256:1"}, CLOSE, target="/terms"))[0] == 200
    assert told(gateway, post({"digest": 1}, CLOSE, target="/terms"))[0] == 400


# ── how much ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_requests_a_minute_bite_and_a_new_limit_bites_at_once(tmp_path: Path) -> None:
    with house(tmp_path, prepare=prepared(account(rpm=5))) as (gateway, control):
        raw = post(chat("say 1"), CLOSE)
        assert [told(gateway, raw)[0] for _ in range(7)] == [200] * 5 + [429] * 2
        answer = gateway.talk(raw)
        assert b"x-ratelimit-limit-requests: 5\r\n" in answer
        assert b"x-ratelimit-remaining-requests: 0\r\n" in answer
        assert b"retry-after: 6" in answer or b"retry-after: 5" in answer
        control.accounts = [account(rpm=6)]
        control.push()
        assert [told(gateway, raw)[0] for _ in range(2)] == [200, 429]


def test_open_requests_of_an_account(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"open_requests": 2}) as (gateway, _):
        with gateway.connect() as one, gateway.connect() as two:
            for sock in (one, two):
                sock.sendall(post(chat("hang")))
            until(lambda: len(gateway.lines()) == 2)
            assert told(gateway, post(chat("say 1"), CLOSE)) == (429, "too_many_open_requests")
        gateway.settled(2)
        assert told(gateway, post(chat("say 1"), CLOSE))[0] == 200


def test_tokens_of_a_day(tmp_path: Path) -> None:
    with house(tmp_path, prepare=prepared(account(tokens_per_day=20))) as (gateway, control):
        first = gateway.talk(post(chat("say 100"), CLOSE))
        document = json.loads(first.partition(b"\r\n\r\n")[2])
        assert document["choices"][0]["finish_reason"] == "length"
        assert document["usage"] == {"prompt_tokens": 2, "completion_tokens": 18, "total_tokens": 20}
        answer = gateway.talk(post(chat("say 1"), CLOSE))
        assert (status(answer), code(answer)) == (429, "tokens_per_day_exceeded")
        assert b"x-should-retry: false" in answer
        assert 0 < int(answer.partition(b"retry-after: ")[2].split(b"\r")[0]) <= 86_400
        control.accounts = [account(tokens_per_day=30)]
        control.push()
        assert told(gateway, post(chat("say 1"), CLOSE))[0] == 200
        control.accounts = [account(tokens_per_day=20)]
        control.push()
        until(lambda: isinstance(control.messages[-2], LeaseReturned))
        assert told(gateway, post(chat("say 1"), CLOSE))[1] == "tokens_per_day_exceeded"


@pytest.mark.parametrize("verb", ["say", "wild"])
def test_a_stream_is_cut_at_its_budget_with_a_proper_end(tmp_path: Path, verb: str) -> None:
    with house(tmp_path, prepare=prepared(account(tokens_per_day=12))) as (gateway, control):
        options = {"stream": True, "stream_options": {"include_usage": True}}
        events = gateway.talk(post(chat(f"{verb} 100", **options), CLOSE)).decode()
        assert events.count('"content":"w') == 10
        assert '"finish_reason":"length"' in events
        assert '"usage":{"prompt_tokens":2,"completion_tokens":10,"total_tokens":12}' in events
        assert "data: [DONE]" in events
        assert gateway.settled()[0]["completion_tokens"] == 10
    assert control.tokens() == 12


def test_a_budget_too_small_for_the_prompt_is_the_budgets_fault(tmp_path: Path) -> None:
    with house(tmp_path, prepare=prepared(account(tokens_per_day=3))) as (gateway, control):
        assert told(gateway, post(chat("say 1 and more words"), CLOSE)) == (429, "tokens_per_day_exceeded")
        assert told(gateway, post(chat("wild 1 and more words"), CLOSE)) == (429, "tokens_per_day_exceeded")
    assert control.tokens() <= 3 + 2  # an engine that reads too long a prompt has read it


def test_fifty_streams_at_once_never_use_more_than_the_day(tmp_path: Path) -> None:
    limit = 2_000
    accounts = prepared(account(tokens_per_day=limit))
    with house(tmp_path, prepare=accounts, bounds={"open_requests": 64, "slice_tokens": 100}) as (gateway, control):
        found: list[bytes] = []

        def one() -> None:
            body = chat("slow 60", stream=True, stream_options={"include_usage": True}, max_tokens=90)
            found.append(gateway.talk(post(body, CLOSE)))

        for _ in range(3):
            threads = [threading.Thread(target=one) for _ in range(50)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        served = [answer for answer in found if status(answer) == 200]
        written = sum(answer.count(b'"content":"w') for answer in served) + 2 * len(served)
        assert 0.9 * limit < written <= limit
        assert all(b"[DONE]" in answer for answer in served)
        assert {code(answer) for answer in found if status(answer) != 200} == {"tokens_per_day_exceeded"}
    settled = [line for line in gateway.lines() if line["type"] == "Settled"]
    assert sum(line["prompt_tokens"] + line["completion_tokens"] for line in settled) == written
    assert control.tokens() == written  # what was leased and not used has come back


def test_a_lease_that_never_comes(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, control):
        control.silent = True
        begun = time.monotonic()
        assert told(gateway, post(chat("say 1"), CLOSE)) == (503, "control_unavailable")
        assert time.monotonic() - begun < 8
        with gateway.connect() as sock:
            sock.sendall(post(chat("say 1"), CLOSE))
            time.sleep(0.1)
            control.shut()
            assert status(read_all(sock)) == 503


def test_tokens_come_back_when_the_client_leaves(tmp_path: Path) -> None:
    with house(tmp_path, prepare=prepared(account(tokens_per_day=1000))) as (gateway, control):
        with gateway.connect() as sock:
            sock.sendall(post(chat("hang")))
            until(gateway.lines)
            assert gateway.lines()[0]["reserved"] == 1000
        gateway.settled()
        assert told(gateway, post(chat("say 500"), CLOSE))[0] == 200
    assert control.tokens() == 502


# ── fields ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_engine_is_asked_for_what_was_asked(gateway: Gateway) -> None:
    answer = gateway.talk(post(chat("say 1") | {"max_tokens": 3, "stop": "x", "user": "u"}, CLOSE))
    assert status(answer) == 200
    answer = gateway.talk(post(chat("say 9", max_tokens=3), CLOSE))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] == 3


# ── books ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_served_when_usage_cant_be_written(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, _):
        (tmp_path / "spool").rmdir()
        assert told(gateway, post(chat("say 1"), CLOSE)) == (503, "usage_unavailable")
        (tmp_path / "spool").mkdir()
        assert told(gateway, post(chat("say 1"), CLOSE))[0] == 200


def test_wrong_keys_are_counted_not_listed(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, _):
        for _ in range(200):
            assert told(gateway, head("GET", "/v1/models", CLOSE, key="wrong"))[0] == 401
    refused = [line for line in gateway.lines() if line["type"] == "Refused"]
    assert sum(line.get("count", 1) for line in refused) == 200
    assert len(refused) < 10


def test_no_word_of_key_prompt_or_answer_is_left_anywhere(tmp_path: Path) -> None:
    canary = "canary-9d1f-prompt"
    with house(tmp_path) as (gateway, control):
        for raw in (
            post(chat(f"echo {canary}"), CLOSE),
            post(chat(f"echo {canary}", stream=True), CLOSE),
            post(chat(f"fail failed {canary}"), CLOSE),
        ):
            gateway.talk(raw)
        answers = [
            gateway.talk(raw)
            for raw in (
                post(chat(canary, temperature=canary), CLOSE),
                post(chat("say 1", response_format={"type": canary}), CLOSE),
                post({"model": canary, "messages": [{"role": canary, "content": canary}]}, CLOSE),
                post({"model": canary, "prompt": "x"}, CLOSE, target="/v1/completions"),
                post(chat(canary), CLOSE, key=canary),
                post(json.dumps(chat(canary)).encode()[:-1], CLOSE),
                head("GET", f"/v1/models/{canary}", CLOSE),
                head("GET", f"/{canary}", CLOSE),
            )
        ]
        assert not any(canary.encode() in answer for answer in answers)
        control.keys = []
        control.push()
        time.sleep(1.1)
    written = gateway.errors.read_text() + "".join(path.read_text() for path in gateway.spool.iterdir())
    assert "acme" in written
    for secret in (canary, KEY, key().digest.hex(), "ab" * 32):
        assert secret not in written


# ── the process ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["stdin", "sigterm"])
def test_it_stops_gracefully(tmp_path: Path, how: str) -> None:
    with house(tmp_path) as (gateway, control):
        with gateway.connect() as sock:
            sock.sendall(post(chat("slow 20", stream=True)))
            assert sock.recv(100)
            if how == "sigterm":
                gateway.process.terminate()
            else:
                assert gateway.process.stdin is not None
                gateway.process.stdin.close()
            assert b"[DONE]" in read_all(sock)
        assert gateway.process.wait(10) == 0
    assert control.tokens() == 22
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.port), timeout=1)


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"stop_seconds": 0.3}) as (gateway, _):
        with gateway.connect() as sock:
            sock.sendall(post(chat("hang")))
            until(gateway.lines)
            gateway.process.terminate()
            answer = read_all(sock)
            assert (status(answer), code(answer)) == (503, "stopping")
        assert gateway.process.wait(10) == 0


@pytest.mark.parametrize("changes", [{"secret": "short"}, {"bounds": {"connections": 0}}, {"engine": "ftp://x"}])
def test_a_bad_setup_is_refused_and_not_quoted(tmp_path: Path, changes: dict[str, Any]) -> None:
    control = Control(tmp_path / "c.sock")
    with pytest.raises(AssertionError) as caught:
        Gateway(tmp_path, control, **changes)
    assert '"level": "error"' in str(caught.value)
    assert "ab" * 32 not in str(caught.value)
    control.close()


def test_memory_stays_flat_over_ten_thousand_requests(tmp_path: Path) -> None:
    _soak(tmp_path, 10_000)


@pytest.mark.slow
def test_memory_stays_flat_over_a_hundred_thousand_requests(tmp_path: Path) -> None:
    _soak(tmp_path, 100_000)


def _soak(folder: Path, many: int) -> None:
    with house(folder, log="warning", prepare=prepared(account(rpm=10_000_000, tokens_per_day=10**9))) as (gateway, _):
        raw = post(chat("say 3", stream=False)) * 5
        with gateway.connect() as sock:
            _pump(sock, raw, 4000 // 5)
            before = gateway.rss()
            _pump(sock, raw, many // 5)
            assert gateway.rss() - before < 3_000


def _pump(sock: socket.socket, raw: bytes, times: int) -> None:
    for _ in range(times):
        sock.sendall(raw)
        seen = 0
        while seen < 5:
            seen += sock.recv(65536).count(b"HTTP/1.1 200")


def test_setup_survives_a_round_trip() -> None:
    from strongroom.ports.processes import Bounds, GatewaySetup

    setup = GatewaySetup(control="/c", secret="ab" * 32, engine="unix:/e", spool="/s", bounds=Bounds(connections=5))
    assert msgspec.json.decode(msgspec.json.encode(setup), type=GatewaySetup) == setup
