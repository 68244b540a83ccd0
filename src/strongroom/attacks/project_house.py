"""A gateway of our own before a server of our own: what attacks on serving run against, on loopback.

The gateway is the real program. Control is the least that it needs: it says who may come in, and grants every lease, so
that nothing but the guard that is measured stands in the thief's way.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from strongroom.attacks import stock_server
from strongroom.attacks.project_policy import VEIL
from strongroom.backends.link_unix import listen
from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.links import Link, Listening
from strongroom.ports.processes import Bounds, GatewaySetup
from strongroom.serving.disclosure.tiers import FIRST
from strongroom.serving.roster import Leased, LeaseWanted, Roster, RosterAccount, RosterKey, ToControl

KEY: Final = "sk-thief-on-loopback-only-0123456789abcdef"
_SECRET: Final = "ab" * 32  # of a link in a private folder that lasts as long as the attack
_BOUNDS: Final = Bounds(open_requests=4096, slice_tokens=1 << 22, roster_seconds=3600.0, body_bytes=1 << 20)
_LOOKS: Final = 200  # at whether the gateway is there
_PAUSE: Final = 0.05  # seconds between two


def roster(keys: Mapping[str, str], *, model: str, tier: str = FIRST) -> Roster:
    """Return a roster of accounts without limits, by their API keys."""
    return Roster(
        version=1,
        accounts=tuple([RosterAccount(one, active=True, rpm=10**9, tokens_per_day=10**12, tier=tier) for one in keys]),
        keys=tuple(
            [
                RosterKey(f"key_{name}", hashlib.sha256(key.encode()).digest(), name, accepted=True)
                for name, key in keys.items()
            ]
        ),
        terms="",
        models=(model,),
        veil=VEIL,
    )


class _Control:
    """Lets a roster's accounts in, and grants whatever they ask for."""

    def __init__(self, told: Roster) -> None:
        self._told = told
        self._link: Link | None = None

    def on_open(self, link: Link) -> None:
        self._link = link
        link.send(self._told)

    def on_message(self, message: ToControl) -> None:
        if isinstance(message, LeaseWanted) and self._link is not None:
            self._link.send(Leased(budget=message.budget, day=message.day, amount=message.amount))

    def on_lost(self) -> None:
        self._link = None


@contextmanager
def _control(path: Path, told: Roster) -> Generator[None]:
    """Listen at `path` in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opening = listen(path, Secret(bytes.fromhex(_SECRET)), lambda _: (ToControl, _Control(told)))
    listening = asyncio.run_coroutine_threadsafe(opening, loop).result(10)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(_shut(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _shut(listening: Listening) -> None:
    """Close, and let the loop see to what the gateway has left open."""
    listening.close()
    await asyncio.sleep(_PAUSE)


def guarded(stock_port: int, tier: str) -> AbstractContextManager[tuple[int, int]]:
    """Run a gateway before the stock server at `stock_port`, whose only account has `tier`; give port and process id.

    Raises:
        StoreUnavailable: it does not come up.

    """
    told = roster({"thief": KEY}, model=stock_server.MODEL, tier=tier)
    return house(stock_port, told, engine_key=stock_server.KEY)


@contextmanager
def house(engine_port: int, told: Roster, *, engine_key: str) -> Generator[tuple[int, int]]:
    """Run a gateway before the server at `engine_port`, for a roster's accounts; give port and process id.

    Raises:
        StoreUnavailable: it does not come up.

    """
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        (folder / "spool").mkdir()
        setup = GatewaySetup(
            control=str(folder / "control.sock"),
            secret=_SECRET,
            engine=f"http://127.0.0.1:{engine_port}",
            engine_key=engine_key,
            spool=str(folder / "spool"),
            log="error",
            bounds=_BOUNDS,
        )
        with _control(folder / "control.sock", told), _gateway(setup) as (port, process):
            _wait(port)
            yield port, process


@contextmanager
def _gateway(setup: GatewaySetup) -> Generator[tuple[int, int]]:
    command = [sys.executable, "-m", "strongroom.gateway"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own module
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes were asked for
        process.stdin.write(msgspec.json.encode(setup) + b"\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline() or b"{}")
        try:
            if "port" not in said:
                raise StoreUnavailable("the gateway does not start", where=str(said)[:200])
            yield said["port"], process.pid
        finally:
            process.stdin.close()
            process.wait(30)


def _wait(port: int) -> None:
    for _ in range(_LOOKS):
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
            return
        time.sleep(_PAUSE)
    raise StoreUnavailable("the gateway does not come up", where="gateway")


def cpu(*processes: int) -> float:
    """Return the CPU seconds that this process and `processes` have used so far."""
    own = os.times()
    ticks = 0
    for one in processes:
        fields = Path(f"/proc/{one}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return own.user + own.system + ticks / os.sysconf("SC_CLK_TCK")
