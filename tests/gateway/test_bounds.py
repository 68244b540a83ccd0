"""Every bound of the gateway bites when it is set (rule 11): one row each, and no bound without a row."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.ports.processes import Bounds
from strongroom.serving.roster import LeaseWanted
from tests.gateway.house import Control, Gateway, chat, code, head, house, post, read_all, until

Try = Callable[[Gateway, Control], object]
CLOSE = "Connection: close"


def _body(gateway: Gateway, _: Control) -> object:
    return code(gateway.talk(post(chat("say 1" + " " * 200), CLOSE)))


def _header(gateway: Gateway, _: Control) -> object:
    return code(gateway.talk(post(chat("say 1"), "X-Long: " + "a" * 200, CLOSE)))


def _read(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\n")
        return code(read_all(sock))


def _idle(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as sock:
        return read_all(sock)


def _stall(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as sock:
        sock.sendall(post(chat("slow 3000", stream=True, max_tokens=3000)))
        sock.recv(10)
        sock.sendall(post(chat("burst 20000", stream=True, max_tokens=20_000)))  # not answered before the first
    with gateway.connect() as sock:
        sock.sendall(post(chat("say 30000", stream=True, max_tokens=30_000)))
        return sorted({line["status"] for line in gateway.settled(2)})


def _stall_seconds(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as sock:
        sock.sendall(post(chat("burst 9000", stream=True, max_tokens=30_000)))
        gateway.settled()
        time.sleep(2.2)
        return read_all(sock).endswith(b"0\r\n\r\n")


def _connections(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as busy:
        busy.sendall(post(chat("hang")))
        until(gateway.lines)
        with gateway.connect() as sock:
            return code(read_all(sock))


def _open(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as busy:
        busy.sendall(post(chat("hang")))
        until(gateway.lines)
        return code(gateway.talk(post(chat("say 1"), CLOSE)))


def _chat_tokens(gateway: Gateway, _: Control) -> object:
    answer = gateway.talk(post(chat("say 100"), CLOSE))
    return json.loads(answer.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"]


def _context(gateway: Gateway, _: Control) -> object:
    gateway.talk(post(chat("say 1" + " " * 5000, max_tokens=10), CLOSE))
    return gateway.lines()[0]["reserved"]


def _slice(gateway: Gateway, control: Control) -> object:
    gateway.talk(post(chat("say 1"), CLOSE))
    return next(one.amount for one in control.messages if isinstance(one, LeaseWanted) and one.day)


def _roster(gateway: Gateway, control: Control) -> object:
    control.shut()
    time.sleep(0.7)
    return code(gateway.talk(head("GET", "/v1/models", CLOSE)))


def _stop(gateway: Gateway, _: Control) -> object:
    with gateway.connect() as sock:
        sock.sendall(post(chat("hang")))
        until(gateway.lines)
        gateway.process.terminate()
        return code(read_all(sock))


ROWS: dict[str, tuple[float, Try, object]] = {
    "body_bytes": (200, _body, "body_too_large"),
    "header_bytes": (300, _header, "headers_too_large"),
    "read_seconds": (0.5, _read, "request_timeout"),
    "idle_seconds": (0.5, _idle, b""),
    "stall_seconds": (0.5, _stall_seconds, False),
    "stall_bytes": (70_000, _stall, [499]),
    "connections": (1, _connections, "too_many_connections"),
    "open_requests": (1, _open, "too_many_open_requests"),
    "chat_tokens": (7, _chat_tokens, 7),
    "context_tokens": (300, _context, 310),
    "slice_tokens": (50_000, _slice, 50_000),
    "roster_seconds": (0.5, _roster, "control_unavailable"),
    "stop_seconds": (0.5, _stop, "stopping"),
}


def test_every_bound_has_a_row() -> None:
    assert set(ROWS) == set(Bounds.__struct_fields__)


@pytest.mark.parametrize("name", ROWS)
def test_a_bound_bites(tmp_path: Path, name: str) -> None:
    value, attempt, wanted = ROWS[name]
    with house(tmp_path, bounds={name: value}) as (gateway, control):
        assert attempt(gateway, control) == wanted
