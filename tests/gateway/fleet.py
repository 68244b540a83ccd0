"""Several gateway processes behind one port, with the real control's side, and many customers at once."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from strongroom.serving.roster import Roster
from tests.gateway.house import ROOT, SECRET, code, post, read_all, status

ENV = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}


@dataclass
class Fleet:
    """The processes, and what came back from them."""

    folder: Path
    port: int = 0
    control: Any = None
    gateways: list[Any] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)

    def start_control(self) -> None:
        command = [sys.executable, "-m", "tests.gateway.real_control", str(self.folder)]
        self.control = subprocess.Popen(command, stdout=subprocess.PIPE, env=ENV, cwd=ROOT)
        assert self.control.stdout.readline() == b"ready\n"

    def start_gateway(self) -> None:
        setup = {
            "control": str(self.folder / "control.sock"),
            "secret": SECRET,
            "engine": "unix:/nowhere",
            "spool": str(self.folder / "spool"),
            "port": self.port,
            "gateways": 4,
            "log": "error",
            "bounds": {"open_requests": 1000},
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.scripted_gateway"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENV,
            cwd=ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(setup).encode() + b"\n")
        process.stdin.flush()
        self.port = json.loads(process.stdout.readline())["port"]
        self.gateways.append(process)

    def kill(self, process: Any) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()

    def stop(self) -> None:
        for process in self.gateways:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
        for process in self.gateways:
            process.wait(20)
        self.control.kill()
        self.control.wait()
        self.control.stdout.close()

    # ── customers ──
    def ask(self, raw: bytes, *, patience: float = 10.0) -> bytes:
        """Send a request over a connection of its own: the kernel chooses the gateway."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=patience) as sock:
            sock.sendall(raw)
            return read_all(sock)
        return b""

    def crowd(self, raw: Callable[[int], bytes], *, clients: int, each: int, patience: float = 30.0) -> Counter[str]:
        """Have many clients ask at once; return how often which answer came."""
        found: list[bytes] = []

        def client(number: int) -> None:
            found.extend(self.ask(raw(number), patience=patience) for _ in range(each))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.answers = found
        return Counter(outcome(one) for one in found)

    def lines(self) -> list[dict[str, Any]]:
        texts = [path.read_text() for path in sorted((self.folder / "spool").glob("usage-*.jsonl"))]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    def admitted(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["type"] == "Admitted"]

    def settled(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["type"] == "Settled"]


def outcome(raw: bytes) -> str:
    if not raw:
        return "lost"
    return "200" if status(raw) == 200 else code(raw)


def ready(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
        sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return read_all(sock).startswith(b"HTTP/1.1 200")
    return False


@contextlib.contextmanager
def fleet(folder: Path, roster: Roster, many: int) -> Iterator[Fleet]:
    (folder / "spool").mkdir(exist_ok=True)
    (folder / "roster.json").write_bytes(msgspec.json.encode(roster))
    made = Fleet(folder)
    made.start_control()
    try:
        for _ in range(many):
            made.start_gateway()
        made_ready(made)
        yield made
    finally:
        made.stop()


def made_ready(fleet: Fleet) -> None:
    """Wait until whichever gateway the kernel chooses is ready."""
    end, good = time.monotonic() + 20, 0
    while good < 5 * len(fleet.gateways):
        assert time.monotonic() < end
        good = good + 1 if ready(fleet.port) else 0


def ask(key: str, text: str, **more: Any) -> bytes:
    return post(
        {"model": "chat:v1", "messages": [{"role": "user", "content": text}]} | more, "Connection: close", key=key
    )
