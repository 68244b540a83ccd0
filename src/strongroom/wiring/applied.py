"""After a command has changed customers: have a running `up` judge by it, and wait until it does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Literal

import msgspec

from strongroom.core.errors import StrongroomError
from strongroom.core.secrets import Secret
from strongroom.ports.links import Connect, End, Link
from strongroom.serving.roster import Refresh, Refreshed
from strongroom.wiring.serving import RUN
from strongroom.wiring.table import load
from strongroom.wiring.up import Running, is_served

Applied = Literal["in force", "not served", "not told"]

_PATIENCE: Final = 5.0  # seconds


def running(home: Path) -> Running | None:
    """Return what a running `up` says of itself, or None."""
    if not is_served(home):
        return None
    try:
        return msgspec.json.decode((home / RUN / "up.json").read_bytes(), type=Running)
    except (OSError, msgspec.MsgspecError):
        return None


def apply(home: Path) -> Applied:
    """Have a running `up` of this home judge by what was changed; return what came of it."""
    up = running(home)
    if up is None:
        return "not served"
    try:
        secret = Secret(bytes.fromhex((home / RUN / "command-secret").read_text()))
        told = asyncio.run(_refresh(Path(up.sockets) / "command", secret))
    except (OSError, ValueError, TimeoutError, StrongroomError):
        told = False
    return "in force" if told else "not told"


class _Answer:
    """The receiver of one answer."""

    def __init__(self) -> None:
        self.told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def on_open(self, link: Link) -> None:
        link.send(Refresh())

    def on_message(self, message: Refreshed) -> None:
        if not self.told.done():
            self.told.set_result(message.gateways > 0)

    def on_lost(self) -> None:
        if not self.told.done():
            self.told.set_result(False)


async def _refresh(door: Path, secret: Secret) -> bool:
    connect: Connect = load("link", "unix")
    answer = _Answer()
    async with asyncio.timeout(_PATIENCE):
        link = await connect(End(door, secret, "command", Refreshed), answer)
        try:
            return await answer.told
        finally:
            link.close()
