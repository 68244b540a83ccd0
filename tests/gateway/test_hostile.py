"""Clients and neighbours that mean harm, or stop in the middle: what a hostile reader of the gateway tried."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from strongroom.serving.quotas import Prices
from strongroom.serving.roster import LeaseWanted, TermsAccepted
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
    assert control.tokens() == 3
    with house(tmp_path, **changes) as (gateway, _):  # ours counts for itself
        assert told(gateway, post(chat(f"say 1{' ' * 2000}", max_tokens=10), CLOSE))[0] == 200


# ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────────
HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n"
HALF_BODY = head("POST", "/v1/chat/completions", "Content-Type: application/json", "Content-Length: 500")


def _open(stack: contextlib.ExitStack, gateway: Gateway, raw: bytes, *, of: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gateway.port), timeout=10, source_address=(of, 0))
    sock.sendall(raw)
    return stack.enter_context(sock)


def _descriptors(gateway: Gateway) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def test_half_sent_heads_keep_no_customer_out(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"connections": 20}) as (gateway, _), contextlib.ExitStack() as stack:
        customer = _open(stack, gateway, post(chat("slow 60", stream=True)))
        assert customer.recv(100)
        crowd = [_open(stack, gateway, HALF) for _ in range(60)]
        for _ in range(3):
            assert told(gateway, post(chat("say 1"), CLOSE))[0] == 200
        evicted = read_all(crowd[0])
        assert (status(evicted), code(evicted)) == (503, "too_many_connections")
        seen = b""
        while b"[DONE]" not in seen:
            more = customer.recv(65536)
            assert more
            seen += more


def test_a_crowd_from_one_address_crowds_out_itself(tmp_path: Path) -> None:
    raw = post(chat("say 1"), CLOSE)
    with house(tmp_path, bounds={"connections": 10}) as (gateway, _), contextlib.ExitStack() as stack:
        slow = _open(stack, gateway, raw[:30], of="127.0.0.2")
        for _ in range(40):
            _open(stack, gateway, HALF)
        time.sleep(0.1)
        slow.sendall(raw[30:])
        assert status(read_all(slow)) == 200


def test_a_body_that_comes_with_a_valid_key_is_work(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"connections": 4}) as (gateway, _), contextlib.ExitStack() as stack:
        for _ in range(4):
            _open(stack, gateway, HALF_BODY)
        time.sleep(0.1)
        assert told(gateway, b"") == (503, "too_many_connections")


def test_a_known_client_without_a_request_gives_place_when_no_stranger_is_left(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"connections": 2}) as (gateway, _), contextlib.ExitStack() as stack:
        for _ in range(2):
            known = _open(stack, gateway, head("GET", "/v1/models"))
            assert status(known.recv(65536)) == 200
            known.sendall(HALF)
        assert told(gateway, head("GET", "/v1/models", CLOSE))[0] == 200


def test_whoever_is_turned_away_holds_nothing(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"connections": 1}) as (gateway, _), contextlib.ExitStack() as stack:
        _open(stack, gateway, post(chat("hang")))
        until(gateway.lines)
        before = _descriptors(gateway)
        for _ in range(200):
            _open(stack, gateway, b"")
        until(lambda: _descriptors(gateway) <= before + 64)
        until(lambda: _descriptors(gateway) == before)


# ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nobody_fills_the_ledger_with_acceptances(tmp_path: Path) -> None:
    def prepare(control: Control) -> None:
        control.terms = "d1"
        control.keys.append(key("second", name="key_2"))

    raw = post({"digest": "d1"}, CLOSE, target="/terms")
    with house(tmp_path, prepare=prepare) as (gateway, control):
        assert [told(gateway, raw)[0] for _ in range(12)] == [200] * 10 + [429] * 2
        answer = gateway.talk(raw)
        assert code(answer) == "rate_limit_exceeded"
        assert 50 < int(answer.partition(b"retry-after: ")[2].split(b"\r")[0]) <= 61
        assert told(gateway, raw.replace(KEY.encode(), b"second"))[0] == 200
        assert told(gateway, head("GET", "/terms", CLOSE))[0] == 200
        assert len([one for one in control.messages if isinstance(one, TermsAccepted)]) == 11


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_who_waits_is_answered_though_others_ask_again_when_the_link_is_lost(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, control):
        control.silent = True
        with gateway.connect() as one, gateway.connect() as two:
            for sock in (one, two):
                sock.sendall(post(chat("say 1")) * 2 + post(chat("say 1"), CLOSE))
            until(lambda: any(isinstance(message, LeaseWanted) for message in control.messages))
            time.sleep(0.1)
            control.shut()
            for sock in (one, two):
                sock.settimeout(3)
                assert read_all(sock).count(b"HTTP/1.1 503") == 3


def test_an_engine_that_writes_on_is_cut_at_what_was_asked_for(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, _):
        events = gateway.talk(post(chat("wild 50", max_tokens=3, stream=True), CLOSE)).decode()
        assert events.count('"content":"w') == 3
        assert '"finish_reason":"length"' in events
        assert "data: [DONE]" in events
        assert gateway.settled()[0]["completion_tokens"] == 3  # more than that is held for it no longer


@pytest.mark.parametrize("engine", ["unix:/nowhere", "http://127.0.0.1:1"])
def test_who_leaves_while_a_server_of_another_make_reads_pays_the_prompt(tmp_path: Path, engine: str) -> None:
    with house(tmp_path, engine=engine) as (gateway, _):
        with gateway.connect() as sock:
            sock.sendall(post(chat("hang " + "word " * 1000)))
            until(gateway.lines)
        (line,) = gateway.settled()
        assert (line["status"], line["completion_tokens"]) == (499, 0)
        assert (line["prompt_tokens"] > 5000) is engine.startswith("http")  # our own says when it has read


def test_vectors_cost_what_was_held_for_them(tmp_path: Path) -> None:
    def prepare(control: Control) -> None:
        control.prices = Prices(prompt=2)

    with house(tmp_path, prepare=prepare) as (gateway, control):
        with gateway.connect() as sock:
            sock.sendall(post({"model": MODEL, "input": "hang"}, target="/v1/embeddings"))
            until(gateway.lines)
            control.prices = Prices(prompt=1000)
            control.push()
        (line,) = gateway.settled()
        assert line["money"] == 2 * line["prompt_tokens"] == gateway.lines()[0]["money"]
