"""The gateway's end of the link to control: opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Protocol

import msgspec

from strongroom.core.secrets import Secret
from strongroom.ports.links import End, Keep, Link
from strongroom.serving.roster import Alive, Hello, Leased, Recall, Roster, TermsText, ToGateway


class Listener(Protocol):
    """What the gateway does about control's messages."""

    def on_roster(self, roster: Roster) -> None:
        """Everything, as of now."""
        ...

    def on_leased(self, leased: Leased) -> None:
        """So much of a budget, or nothing."""
        ...

    def on_recall(self, recall: Recall) -> None:
        """Another gateway is short."""
        ...

    def held(self) -> dict[str, int]:
        """Return what is held of budgets that are not of a day."""
        ...

    def on_terms(self, terms: TermsText) -> None:
        """The terms in force."""
        ...

    def on_link_lost(self) -> None:
        """Control is gone for now."""
        ...


class Control:
    """Keeps a link to control, as long as the gateway lives."""

    def __init__(self, path: Path, secret: Secret, *, keep: Keep) -> None:
        """Prepare; `keep` begins."""
        self._end = End(path, secret, "gateway", ToGateway)
        self._keep = keep
        self._link: Link | None = None
        self._listener: Listener | None = None
        self._fresh = True
        self._name = secrets.token_hex(8)
        self._heard = 0.0  # loop time at which control last showed that it lives

    async def keep(self, listener: Listener) -> None:
        """Connect, and again whenever the link is lost, until cancelled."""
        self._listener = listener
        await self._keep(self._end, self)

    def send(self, message: msgspec.Struct) -> bool:
        """Send, if the link is up; say whether it is."""
        if self._link is None:
            return False
        self._link.send(message)
        return True

    def silence(self) -> float:
        """Return for how many seconds nothing came: a control that froze keeps its link up."""
        return asyncio.get_running_loop().time() - self._heard

    # ── Receiver ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_open(self, link: Link) -> None:
        """Take the link; control sends the roster by itself."""
        self._link = link
        self._hear()
        held = {} if self._listener is None else self._listener.held()
        link.send(Hello(fresh=self._fresh, gateway=self._name, pid=os.getpid(), held=held))
        self._fresh = False

    def on_message(self, message: ToGateway) -> None:
        """Hand the message to whom it concerns."""
        self._hear()
        listener = self._listener
        assert listener is not None  # noqa: S101 - `keep` set it before it connected
        if isinstance(message, Leased):
            listener.on_leased(message)
        elif isinstance(message, Roster):
            listener.on_roster(message)
        elif isinstance(message, Recall):
            listener.on_recall(message)
        elif not isinstance(message, Alive):
            listener.on_terms(message)

    def on_lost(self) -> None:
        """Nothing can be sent for now."""
        self._link = None
        if self._listener is not None:
            self._listener.on_link_lost()

    def _hear(self) -> None:
        self._heard = asyncio.get_running_loop().time()
