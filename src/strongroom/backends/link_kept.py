"""A link that comes back by itself when the other end restarts."""

from __future__ import annotations

import asyncio
from typing import Final

from strongroom.backends.link_unix import connect
from strongroom.core.errors import StoreUnavailable
from strongroom.core.log import log
from strongroom.ports.links import End, Receiver

_FIRST_WAIT: Final = 0.05  # seconds between two attempts to connect, doubled up to the longest
_LONGEST_WAIT: Final = 2.0


class _Watching:
    """Passes everything on to a receiver, and notes when the link is lost."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.lost = asyncio.Event()
        self.on_open = receiver.on_open
        self.on_message = receiver.on_message

    def on_lost(self) -> None:
        self.lost.set()
        self._receiver.on_lost()


async def keep(end: End, receiver: Receiver) -> None:
    """Keep up a link to whoever listens at `end`, until cancelled; `receiver` hears of every opening and every loss."""
    wait, loop = _FIRST_WAIT, asyncio.get_running_loop()
    while True:
        watching, began = _Watching(receiver), loop.time()
        try:
            link = await connect(end, watching)
        except StoreUnavailable:
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)
            continue
        try:
            await watching.lost.wait()
        finally:
            link.close()
        log.warning("link lost", role=end.role)
        # one that was short is like none: whatever ends it is not to be met twenty times a second
        wait = _FIRST_WAIT if loop.time() - began > _LONGEST_WAIT else min(2 * wait, _LONGEST_WAIT)
        await asyncio.sleep(wait)
