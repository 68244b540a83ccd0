"""The engine's link to control: asks for the weights once, and for an account's mark whenever the last one is over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import NotPermitted, StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.brokerage import MarkReleased, MarkWanted, WeightsReleased, WeightsWanted, Withheld
from strongroom.ports.links import End, Keep, Link
from strongroom.watermark.keys import MarkKey

_PATIENCE: Final = 10.0  # seconds for a mark, which waits for a ledger entry
_MOST_MARKS: Final = 4096


class ControlLink:
    """Keeps up a link to control; what was asked and not answered is asked again over the next one."""

    def __init__(self, path: Path, secret: Secret, keep: Keep, *, clock: Clock | None = None) -> None:
        """Look for control at the socket `path`, over a link kept up by `keep`."""
        self._end = End(path, secret, "engine", WeightsReleased | MarkReleased | Withheld)
        self._keep = keep
        self._clock = clock or SystemClock()
        self._link: Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._weights: asyncio.Future[WeightsReleased] | None = None
        self._wanted: dict[str, asyncio.Future[MarkReleased]] = {}
        self._marks: dict[str, MarkReleased] = {}

    async def start(self) -> None:
        """Begin to connect, and go on whenever the link is lost. Returns at once."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(self._end, self))

    def close(self) -> None:
        """End the link; who waits for a mark is told."""
        if self._keeper is not None:
            self._keeper.cancel()
        for waiting in self._wanted.values():
            waiting.cancel()

    def weights(self) -> asyncio.Future[WeightsReleased]:
        """Ask for the weights to run. The future fails with NotPermitted if they are withheld."""
        if self._weights is None:
            self._weights = asyncio.get_running_loop().create_future()
            self._send(WeightsWanted())
        return self._weights

    async def mark(self, account: str) -> MarkKey:
        """Return the key that marks what is written for `account` now.

        Raises:
            NotPermitted: control withholds it.
            StoreUnavailable: control does not answer.

        """
        held = self._marks.get(account)
        if held is None or held.until <= self._clock.now().timestamp():
            held = await self._ask(account)
        return MarkKey(account, held.epoch, Secret(held.key))

    # ── Receiver ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_open(self, link: Link) -> None:
        """Ask again for whatever was not answered."""
        self._link = link
        if self._weights is not None and not self._weights.done():
            link.send(WeightsWanted())
        for account in self._wanted:
            link.send(MarkWanted(account=account))

    def on_message(self, message: WeightsReleased | MarkReleased | Withheld) -> None:
        """Give what came to whoever waits for it."""
        if isinstance(message, MarkReleased):
            self._keep_mark(message)
        elif isinstance(message, WeightsReleased):
            waiting, self._weights = self._weights, None  # the key is nobody's to keep
            if waiting is not None and not waiting.done():
                waiting.set_result(message)
        else:
            self._withheld(message)

    def on_lost(self) -> None:
        """Wait for the next one."""
        self._link = None

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _send(self, message: WeightsWanted | MarkWanted) -> None:
        if self._link is not None:
            self._link.send(message)

    async def _ask(self, account: str) -> MarkReleased:
        """Ask control for a mark; those who want the same one at the same time wait together."""
        waiting = self._wanted.get(account)
        if waiting is None:
            waiting = self._wanted[account] = asyncio.get_running_loop().create_future()
            self._send(MarkWanted(account=account))
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), _PATIENCE)
        except TimeoutError:
            self._wanted.pop(account, None)
        except asyncio.CancelledError:
            if not waiting.cancelled():  # it's who asked that was cancelled; others may wait for the same mark
                raise
        raise StoreUnavailable("control does not answer", where="mark")

    def _keep_mark(self, message: MarkReleased) -> None:
        if len(self._marks) >= _MOST_MARKS:
            del self._marks[next(iter(self._marks))]
        self._marks[message.account] = message
        waiting = self._wanted.pop(message.account, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _withheld(self, message: Withheld) -> None:
        error = NotPermitted(f"control withholds it ({message.code[:60]})", where=message.about[:60])
        waiting = self._weights if message.about == "weights" else self._wanted.pop(message.account, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
