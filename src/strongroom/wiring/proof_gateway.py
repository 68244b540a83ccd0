"""A gateway for `serving prove-limits`: the real process, with a control of its own and an upstream of its own.

Nothing that it does is charged to anybody: its books, shares and usage lines are in a folder that goes with it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.errors import StrongroomError
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import ServiceFailed
from strongroom.ports.completions import Ready
from strongroom.ports.links import Accept, Link, Listen, Receiver
from strongroom.ports.processes import GatewayReady, GatewaySetup
from strongroom.serving.admit import Book
from strongroom.serving.books import Books
from strongroom.serving.leasing import Leasing
from strongroom.serving.quotas import BY_DAY, Budget
from strongroom.serving.roster import (
    Alive,
    Applied,
    Hello,
    Leased,
    LeaseReturned,
    LeaseWanted,
    Roster,
    ToControl,
)
from strongroom.serving.shares import Shares
from strongroom.wiring.proof_engine import ProofEngine
from strongroom.wiring.table import load

MODEL: Final = "proof:v1"
_OTHERS: Final = "others"  # the gateway that never was, which holds all but a little of a limit
_PATIENCE: Final = 30.0  # seconds
_BEAT: Final = 1.0


class ProofControl:
    """Control's end of the link: real books, real shares, and a roster for each proof."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`."""
        self._books = Books(load("records", "sqlite")(folder / "records.sqlite3"))
        self._leasing = Leasing(self._books, Shares(folder / "shares.jsonl", time.monotonic))
        self._link: Link | None = None
        self._name = ""
        self._roster = Roster(version=0, accounts=(), keys=(), terms="", models=(MODEL,))
        self._applied = asyncio.Condition()
        self._version = -1

    async def judge_by(self, roster: Roster) -> None:
        """Have the gateway judge by `roster`, and wait until it does."""
        self._roster = msgspec.structs.replace(roster, version=self._roster.version + 1, models=(MODEL,), terms="")
        self._push()
        async with asyncio.timeout(_PATIENCE), self._applied:
            await self._applied.wait_for(lambda: self._version == self._roster.version)

    def leave(self, budget: Budget, room: int, day: str) -> None:
        """Have all of a limit but `room` be in use by others."""
        amount = max(0, budget.limit - room)
        self._leasing.shares.join(_OTHERS, os.getpid(), {})
        if budget.kind in BY_DAY:
            wanted = LeaseWanted(budget=budget.id, day=day, least=amount, amount=amount)
            self._books.lease(wanted, limit=budget.limit)
        else:
            self._leasing.shares.join(_OTHERS, os.getpid(), {budget.id: amount})

    # ── Receiver ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_open(self, link: Link) -> None:
        """Take the link."""
        self._link = link

    def on_message(self, message: ToControl) -> None:
        """Do as control does, but for terms."""
        match message:
            case Hello():
                self._name = message.gateway
                self._leasing.shares.join(message.gateway, message.pid, message.held)
                self._push()
            case Applied():
                asyncio.get_running_loop().create_task(self._reached(message.version))
            case LeaseWanted():
                amount = self._leasing.lease(self._name, message, among=1)
                self._send(Leased(budget=message.budget, day=message.day, amount=amount))
            case LeaseReturned():
                self._leasing.give_back(self._name, message)
            case _:
                pass

    def on_lost(self) -> None:
        """Nobody is there."""
        self._link = None

    async def beat(self) -> None:
        """Show that control lives, until cancelled."""
        while True:
            self._send(Alive())
            await asyncio.sleep(_BEAT)

    async def _reached(self, version: int) -> None:
        async with self._applied:
            self._version = version
            self._applied.notify_all()

    def _push(self) -> None:
        self._leasing.judge_by(Book(self._roster).budgets())
        self._send(self._roster)

    def _send(self, message: msgspec.Struct) -> None:
        if self._link is not None:
            self._link.send(message)


@asynccontextmanager
async def proof_gateway(folder: Path, module: str) -> AsyncGenerator[tuple[ProofControl, int]]:
    """Run the gateway process ``python -m module`` with a control and an upstream in `folder`; yield control and port.

    Raises:
        ServiceFailed: it does not start.

    """
    control, secret = ProofControl(folder), secrets.token_hex(32)
    listen: Listen = load("listen", "unix")
    accept: Accept = load("gateways", "link")(ProofEngine(), Ready(model=MODEL, context=0))

    def gateway(_role: str) -> tuple[object, Receiver]:
        return ToControl, control

    doors = [
        await listen(folder / "control", Secret(bytes.fromhex(secret)), gateway),
        await listen(folder / "engine", Secret(bytes.fromhex(secret)), accept),
    ]
    beating = asyncio.create_task(control.beat())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield control, await _started(process, folder, secret)
    finally:
        await _ended(process)
        beating.cancel()
        for door in doors:
            door.close()
        with suppress(asyncio.CancelledError, StrongroomError):
            await beating


async def _started(process: asyncio.subprocess.Process, folder: Path, secret: str) -> int:
    spool = folder / "usage"
    spool.mkdir(mode=0o700)
    setup = GatewaySetup(
        control=str(folder / "control"),
        secret=secret,
        engine=f"unix:{folder / 'engine'}",
        engine_secret=secret,
        spool=str(spool),
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
    process.stdin.write(msgspec.json.encode(setup) + b"\n")
    await process.stdin.drain()
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE)
        return msgspec.json.decode(line, type=GatewayReady).port
    except (TimeoutError, msgspec.MsgspecError):
        raise ServiceFailed("the gateway to be tried does not start", where="prove-limits") from None


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End it as a parent does that has gone."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
