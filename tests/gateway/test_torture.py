"""Bytes that no well-meaning client sends."""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.house import KEY, MODEL, Gateway, chat, code, head, house, post, read_all, status, until

ONE = chat("say 1")
BODY = json.dumps(ONE).encode()
AUTH = f"Authorization: Bearer {KEY}\r\n".encode()
JSON = b"Content-Type: application/json\r\n"
START = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n" + AUTH + JSON
LENGTH = b"Content-Length: %d\r\n" % len(BODY)

REFUSED = {
    "two lengths": (START + LENGTH + b"Content-Length: 1\r\n\r\n" + BODY, 400),
    "the same length twice": (START + LENGTH + LENGTH + b"\r\n" + BODY, 400),
    "length list": (START + b"Content-Length: 5, 5\r\n\r\n" + BODY, 400),
    "signed length": (START + b"Content-Length: +5\r\n\r\n" + BODY, 400),
    "huge length": (START + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "large length": (START + b"Content-Length: 99999999\r\n\r\n", 413),
    "CL.TE": (START + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "TE.CL": (START + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n", 400),
    "chunked": (START + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 411),
    "odd coding": (START + b"Transfer-Encoding: xchunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 400),
    "no length": (START + b"\r\n", 411),
    "obs-fold": (START + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "bare LF": (START.replace(b"\r\n", b"\n") + LENGTH + b"\n" + BODY, 400),
    "bare CR": (START + b"X: a\rY: b\r\n\r\n", 400),
    "space before colon": (START + b"X : a\r\n\r\n", 400),
    "NUL": (START + b"X: a\x00b\r\n\r\n", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "two keys": (START + AUTH + LENGTH + b"\r\n" + BODY, 400),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 505),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "absolute form": (b"GET http://g/health HTTP/1.1\r\nHost: g\r\n\r\n", 400),
    "CONNECT": (b"CONNECT g:443 HTTP/1.1\r\nHost: g\r\n\r\n", 400),
    "upgrade": (b"GET /health HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", 400),
    "OPTIONS": (b"OPTIONS /v1/models HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", 405),
    "TRACE": (b"TRACE /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", 405),
    "DELETE": (head("DELETE", "/v1/models", "Connection: close"), 405),
    "unknown method": (b"BREW /health HTTP/1.1\r\nHost: g\r\n\r\n", 400),
    "unknown path": (head("GET", "/v1/edits", "Connection: close"), 404),
    "a query": (head("GET", "/v1/models?x=1", "Connection: close"), 404),
    "dots": (head("GET", "/v1/../health", "Connection: close"), 404),
    "a body with GET": (head("GET", "/v1/models", "Content-Length: 2") + b"{}", 400),
    "gzip": (START + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY, 415),
    "form": (START.replace(b"application/json", b"text/plain") + LENGTH + b"\r\n" + BODY, 415),
    "expect": (START + b"Expect: a pony\r\n" + LENGTH + b"\r\n" + BODY, 417),
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, 400),
    "long line": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: g\r\n\r\n", 431),
    "many fields": (START + b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(3000)) + b"\r\n", 431),
    "endless field": (START + b"X: " + b"a" * 100_000, 431),
    "basic": (b"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Basic eDp5\r\nConnection: close\r\n\r\n", 401),
    "no key": (b"GET /v1/models HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n", 401),
    "empty key": (b"GET /v1/models HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer \r\nConnection: close\r\n\r\n", 401),
    "long key": (head("GET", "/v1/models", "Connection: close", key="k" * 600), 401),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway: Gateway, name: str) -> None:
    raw, wanted = REFUSED[name]
    answer = gateway.talk(raw)
    assert status(answer) == wanted
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert b"x-request-id: req_" in first
    assert b"server:" not in first.lower()
    if not raw.startswith((b"HEAD", b"TRACE")):
        assert set(json.loads(rest)["error"]) == {"message", "type", "param", "code"}


def test_a_body_over_the_limit_that_comes_all_the_same(gateway: Gateway) -> None:
    with gateway.connect() as sock:
        sock.sendall(START + b"Content-Length: 3000000\r\n\r\n")
        time.sleep(0.05)
        sock.sendall(b"a" * 100_000)
        assert status(read_all(sock)) == 413


def test_a_wrong_key_is_refused_before_the_body(gateway: Gateway) -> None:
    with gateway.connect() as sock:
        sock.sendall(head("POST", "/v1/chat/completions", "Content-Type: application/json", "Content-Length: 500000",
                          "Expect: 100-continue", key="wrong"))  # fmt: skip
        assert status(read_all(sock)) == 401


def test_expect_continue(gateway: Gateway) -> None:
    with gateway.connect() as sock:
        sock.sendall(START + LENGTH + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert status(read_all(sock)) == 200


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    raw = (
        post(chat("slow 3")) + head("GET", "/health") + post(chat("say 2")) + head("GET", "/nope", "Connection: close")
    )
    answer = gateway.talk(raw)
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"200", b"404"]
    assert answer.index(b"w2") < answer.index(b"ready")


def test_more_than_eight_behind_a_slow_one_are_not_kept(gateway: Gateway) -> None:
    assert gateway.talk(post(chat("hang")) + head("GET", "/health") * 30) == b""


def test_one_byte_at_a_time(gateway: Gateway) -> None:
    with gateway.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(ONE, "Connection: close"):
            sock.sendall(bytes([byte]))
        assert status(read_all(sock)) == 200


def test_a_large_head_in_pieces_is_no_larger_for_that(gateway: Gateway) -> None:
    raw = post(ONE, "Connection: close", *[f"X-{n}: {'a' * 100}" for n in range(120)])
    assert len(raw) > 12_000
    with gateway.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(raw), 1500):
            sock.sendall(raw[start : start + 1500])
            time.sleep(0.005)
        assert status(read_all(sock)) == 200


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_requests_do_no_harm(gateway: Gateway, data: st.DataObject) -> None:
    raw = bytearray(post(ONE) + head("GET", "/v1/models") + post(chat("say 2", stream=True)))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        cut = data.draw(st.integers(0, 20))
        raw[at : at + cut] = data.draw(
            st.binary(max_size=20) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\n", b":", b"0"])
        )
    with gateway.connect() as sock:
        sock.sendall(bytes(raw))
        sock.shutdown(socket.SHUT_WR)
        answer = read_all(sock)
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert gateway.process.poll() is None


def test_slow_heads_and_bodies_end_in_time(gateway: Gateway) -> None:
    for start in (b"POST /v1/chat/completions HTTP/1.1\r\nX", START + LENGTH + b"\r\n{"):
        with gateway.connect() as sock:
            begun = time.monotonic()
            sock.sendall(start)
            answer = read_all(sock)
            assert (status(answer), code(answer)) == (408, "request_timeout")
            assert time.monotonic() - begun < 5


def test_head_gets_no_body(gateway: Gateway) -> None:
    answer = gateway.talk(b"HEAD /health HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
    assert status(answer) == 405
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_vanishes_frees_everything(gateway: Gateway) -> None:
    before = len(gateway.settled(0))
    for _ in range(20):  # more than may be open at once
        with gateway.connect() as sock:
            sock.sendall(post(chat("slow 1000", stream=True)))
            assert sock.recv(100)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    lines = gateway.settled(before + 20)[before:]
    assert {(line["status"], line["finish"]) for line in lines} == {(499, "client_left")}
    assert all(line["completion_tokens"] < 1000 for line in lines)


def test_a_client_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"stall_seconds": 1.0}) as (gateway, _):
        before = gateway.rss()
        socks = [gateway.connect() for _ in range(4)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(post(chat("say 30000", stream=True, max_tokens=1_000_000)))
        assert {line["status"] for line in gateway.settled(4)} == {499}
        assert gateway.rss() - before < 16_000
        for sock in socks:
            sock.close()


def test_a_slow_reader_over_time_is_dropped(tmp_path: Path) -> None:
    bounds = {"stall_seconds": 0.5, "stall_bytes": 1 << 24}
    with house(tmp_path, bounds=bounds) as (gateway, _), gateway.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(post(chat("burst 20000", stream=True, max_tokens=1_000_000)))
        assert gateway.settled()[0]["completion_tokens"] == 20000
        time.sleep(2.5)
        sock.settimeout(5)
        assert not read_all(sock).endswith(b"0\r\n\r\n")


def test_a_thousand_idle_connections(gateway: Gateway) -> None:
    socks = [gateway.connect() for _ in range(1000)]
    try:
        assert status(gateway.talk(post(ONE, "Connection: close"))) == 200
        more = [gateway.connect() for _ in range(100)]  # over the limit: idle ones make place
        assert status(gateway.talk(post(ONE, "Connection: close"))) == 200
        socks += more
    finally:
        for sock in socks:
            sock.close()
    until(lambda: status(gateway.talk(post(ONE, "Connection: close"))) == 200)


def test_no_room_for_a_connection(tmp_path: Path) -> None:
    with house(tmp_path, bounds={"connections": 2}) as (gateway, _):
        busy = [gateway.connect() for _ in range(2)]
        for sock in busy:
            sock.sendall(post(chat("hang")))
        until(lambda: len(gateway.lines()) == 2)
        with gateway.connect() as sock:
            answer = read_all(sock)
        assert (status(answer), code(answer)) == (503, "too_many_connections")
        assert b"retry-after: 1" in answer
        for sock in busy:
            sock.close()


def test_what_comes_in_one_turn_goes_out_at_once_but_in_chunks_of_its_own(gateway: Gateway) -> None:
    with gateway.connect() as sock:
        sock.sendall(post(chat("burst 40", stream=True), "Connection: close"))
        first = sock.recv(1 << 20)
        assert first.count(b'"content":"w') == 40
        assert first.count(b"\r\ndata: ") >= 41


def test_the_engine_gone_in_mid_stream_is_said(gateway: Gateway) -> None:
    answer = gateway.talk(post(chat("die 2", stream=True)))
    assert status(answer) == 200
    assert b"[DONE]" not in answer
    assert b'data: {"error":{' in answer
    assert answer.endswith(b"0\r\n\r\n")


def test_nothing_was_logged_above_debug_and_nothing_hangs(gateway: Gateway) -> None:
    assert "Traceback" not in gateway.errors.read_text()
    assert MODEL.encode() in gateway.talk(head("GET", "/v1/models", "Connection: close"))
