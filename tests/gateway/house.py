"""A gateway process, and a control that speaks the real link and grants what it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec

from strongroom.backends.link_unix import listen
from strongroom.core.secrets import Secret
from strongroom.ports.links import Link
from strongroom.serving.admit import Book
from strongroom.serving.quotas import Limits, Prices
from strongroom.serving.roster import (
    Alive,
    Applied,
    Leased,
    LeaseReturned,
    LeaseWanted,
    Roster,
    RosterAccount,
    RosterKey,
    RosterOrg,
    RosterRecall,
    TermsAccepted,
    TermsText,
    TermsWanted,
    ToControl,
)

ROOT = Path(__file__).resolve().parents[2]
SECRET = "ab" * 32
MODEL = "chat:v1"
KEY = "sk-strongroom-canary-key-5f0c1d"
BEAT = 0.1  # seconds between two signs of life, shorter than control's own for the sake of short bounds


def account(name: str = "acme", **changes: Any) -> RosterAccount:
    return RosterAccount(**({"name": name, "active": True, "rpm": 100_000, "tokens_per_day": 10_000_000} | changes))


def key(text: str = KEY, *, of: str = "acme", name: str = "key_1", accepted: bool = True) -> RosterKey:
    return RosterKey(name, hashlib.sha256(text.encode()).digest(), of, accepted)


class Control:
    """Control, in a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.accounts: list[RosterAccount] = [account()]
        self.keys: list[RosterKey] = [key()]
        self.orgs: list[RosterOrg] = []
        self.total = Limits()
        self.prices = Prices()
        self.terms = ""
        self.veil = bytes(range(32))
        self.recall: RosterRecall | None = None
        self.version = 0
        self.spent: dict[tuple[str, str], int] = {}
        self.applied: list[int] = []
        self.messages: list[Any] = []
        self.link: Link | None = None
        self.silent = False  # grants no leases
        self.owed: list[LeaseWanted] = []  # asked for meanwhile
        self.frozen = False  # keeps the link, and says nothing by itself
        self.loop = asyncio.new_event_loop()
        self._listening: Any = None
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        self.open()

    # ── the test's side ──
    def open(self) -> None:
        asyncio.run_coroutine_threadsafe(self._open(), self.loop).result(10)

    def shut(self) -> None:
        self._call(self._listening.close)

    def close(self) -> None:
        self.shut()
        time.sleep(0.02)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def push(self, *, wait: bool = True) -> None:
        self.version += 1
        self._call(self._push)
        if wait:
            until(lambda: self.version in self.applied)

    def grant(self) -> None:
        """Grant what was asked for while it was silent."""
        owed, self.owed = self.owed, []
        self._call(lambda: [self._grant(one) for one in owed])

    def left(self, name: str = "acme") -> int:
        """Return the tokens of an account's days that are neither used nor leased."""
        return self._left(f"tokens/account/{name}")

    def tokens(self) -> int:
        """Return the tokens that were used or leased, of all accounts."""
        return sum(amount for (budget, _), amount in self.spent.items() if budget.startswith("tokens/account/"))

    def _left(self, budget: str) -> int:
        found = Book(self._roster()).budgets().get(budget)
        used = sum(amount for (name, _), amount in self.spent.items() if name == budget)
        return (found.limit if found else 0) - used

    # ── Receiver ──
    def on_open(self, link: Link) -> None:
        self.link = link
        for budget, day in list(self.spent):
            if not day:
                del self.spent[budget, day]
        self._push()

    def on_message(self, message: Any) -> None:
        self.messages.append(message)
        if isinstance(message, Applied):
            self.applied.append(message.version)
        elif isinstance(message, LeaseWanted) and self.silent:
            self.owed.append(message)
        elif isinstance(message, LeaseWanted):
            self._grant(message)
        elif isinstance(message, LeaseReturned):
            self._spend(message.budget, message.day, -message.amount)
        elif isinstance(message, TermsWanted | TermsAccepted):
            self._send(TermsText(request=message.request, digest=self.terms, version=1, text="Be kind."))

    def on_lost(self) -> None:
        self.link = None

    def _grant(self, message: LeaseWanted) -> None:
        amount = max(0, min(message.amount, self._left(message.budget)))
        self._spend(message.budget, message.day, amount)
        self._send(Leased(budget=message.budget, day=message.day, amount=amount))

    def _spend(self, name: str, day: str, tokens: int) -> None:
        self.spent[name, day] = self.spent.get((name, day), 0) + tokens

    def _send(self, message: msgspec.Struct) -> None:
        if self.link is not None:
            self.link.send(message)

    def _push(self) -> None:
        self._send(self._roster())

    def _roster(self) -> Roster:
        return Roster(
            version=self.version,
            accounts=tuple(self.accounts),
            keys=tuple(self.keys),
            terms=self.terms,
            models=(MODEL,),
            orgs=tuple(self.orgs),
            total=self.total,
            prices=self.prices,
            veil=self.veil,
            recall=self.recall,
        )

    async def _open(self) -> None:
        def accept(role: str) -> Any:
            return (ToControl, self) if role == "gateway" else None

        self._listening = await listen(self.path, Secret(bytes.fromhex(SECRET)), accept)

    def _call(self, function: Callable[[], Any]) -> None:
        done = threading.Event()
        self.loop.call_soon_threadsafe(lambda: (function(), done.set()))
        assert done.wait(10)

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._beat)
        self.loop.run_forever()

    def _beat(self) -> None:
        if not self.frozen:
            self._send(Alive())
        self.loop.call_later(BEAT, self._beat)


class Gateway:
    """The process."""

    def __init__(self, folder: Path, control: Control, **changes: Any) -> None:
        self.spool = folder / "spool"
        self.spool.mkdir(exist_ok=True)
        self.errors = folder / "stderr"
        module = changes.pop("module", "tests.gateway.scripted_gateway")
        setup = {
            "control": str(control.path),
            "secret": SECRET,
            "engine_secret": SECRET,
            "engine": "unix:/nowhere",
            "spool": str(self.spool),
            "log": "debug",
        } | changes
        env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=env,
                cwd=ROOT,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(setup).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        said = json.loads(line or b"{}")
        if "port" not in said:
            self.stop()
        assert "port" in said, f"{said} {self.errors.read_text()}"
        self.port: int = said["port"]
        self.base = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(20)

    def rss(self) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

    def lines(self) -> list[dict[str, Any]]:
        texts = [path.read_text() for path in sorted(self.spool.glob("usage-*.jsonl"))]
        return [json.loads(line) for text in texts for line in text.splitlines()]

    def settled(self, many: int = 1) -> list[dict[str, Any]]:
        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines() if line["type"] == "Settled"]

        until(lambda: len(found()) >= many)
        return found()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def talk(self, raw: bytes) -> bytes:
        """Send bytes, return all that comes until the gateway closes."""
        with self.connect() as sock:
            sock.sendall(raw)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    found = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while data := sock.recv(65536):
            found += data
    return bytes(found)


def head(method: str = "POST", target: str = "/v1/chat/completions", *lines: str, key: str = KEY) -> bytes:
    kept = [f"{method} {target} HTTP/1.1", "Host: gate", f"Authorization: Bearer {key}", *lines]
    return "\r\n".join([*kept, "", ""]).encode()


def post(document: Any, *lines: str, target: str = "/v1/chat/completions", key: str = KEY) -> bytes:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    more = ("Content-Type: application/json", f"Content-Length: {len(body)}", *lines)
    return head("POST", target, *more, key=key) + body


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]} | more


def status(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


def code(raw: bytes) -> str:
    return json.loads(raw[raw.index(b"\r\n\r\n") + 4 :])["error"]["code"]


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


@contextlib.contextmanager
def house(folder: Path, **changes: Any) -> Iterator[tuple[Gateway, Control]]:
    prepare = changes.pop("prepare", None)
    control = Control(folder / "control.sock")
    if prepare is not None:
        prepare(control)
    try:
        with Gateway(folder, control, **changes) as gateway:
            if changes.get("wait", True):
                until(lambda: control.applied)
            yield gateway, control
    finally:
        control.close()
