"""Completions of an engine in another process of this machine, over a link that comes back by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from strongroom.backends.link_kept import keep
from strongroom.core.secrets import Secret
from strongroom.ports.completions import (
    Answer,
    Ask,
    Begun,
    Cancel,
    Embed,
    Embedded,
    Ended,
    Failed,
    Last,
    Piece,
    Ready,
    Sink,
)
from strongroom.ports.links import End, Link

_MOST_TEXT: Final = 3 << 20  # characters: a longer frame would cost the link, and everybody's answers with it


class LinkCompletions:
    """The engine at the other end of a link. Asks fail with "unavailable" while there is none."""

    def __init__(self, path: Path, secret: Secret) -> None:
        """Look for the engine at the socket `path`; both ends know `secret`."""
        incoming = Ready | Begun | Piece | Ended | Embedded | Failed
        self._end = End(path, secret, "gateway", incoming)
        self._link: Link | None = None
        self._open: dict[str, Sink] = {}
        self._keeper: asyncio.Task[None] | None = None
        self.served: Ready | None = None

    async def start(self) -> None:
        """Begin to connect, and go on whenever the link is lost. Returns at once."""
        self._keeper = asyncio.get_running_loop().create_task(keep(self._end, self))

    # ── Completions ──────────────────────────────────────────────────────────────────────────────────────────────────
    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        """Begin. Whatever happens, `sink` gets exactly one `Ended`, `Embedded` or `Failed`."""
        if self._link is None or self.served is None:
            return self._refuse(ask, sink, code="unavailable", message="the engine is not there")
        if ask.id in self._open:
            return self._refuse(ask, sink, code="failed", message="a request of that id is open")
        if _size(ask) > _MOST_TEXT:
            return self._refuse(ask, sink, code="prompt_too_long", message="the prompt is too long for the link")
        self._open[ask.id] = sink
        self._link.send(ask)
        return None

    def cancel(self, request: str) -> None:
        """Stop the request of that id; its sink hears nothing any more."""
        if self._open.pop(request, None) is not None and self._link is not None:
            self._link.send(Cancel(id=request))

    def ready(self) -> bool:
        """Whether the engine has said that its model is loaded."""
        return self.served is not None

    def close(self) -> None:
        """Let go; every open ask fails with "unavailable"."""
        if self._keeper is not None:
            self._keeper.cancel()
        self.on_lost()

    # ── Receiver ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_open(self, link: Link) -> None:
        """Take the link."""
        self._link = link

    def on_message(self, message: Ready | Answer) -> None:
        """Hand an answer to whoever asked."""
        if isinstance(message, Ready):
            self.served = message
            return
        ended = isinstance(message, Last)
        sink = self._open.pop(message.id, None) if ended else self._open.get(message.id)
        if sink is not None:
            sink.on_answer(message)

    def on_lost(self) -> None:
        """Fail what is open."""
        self._link = self.served = None
        orphans, self._open = self._open, {}
        for request, sink in orphans.items():
            sink.on_answer(Failed(id=request, code="unavailable", message="the engine is gone"))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _refuse(self, ask: Ask | Embed, sink: Sink, *, code: str, message: str) -> None:
        answer = Failed(id=ask.id, code=code, message=message)
        asyncio.get_running_loop().call_soon(sink.on_answer, answer)


def _size(ask: Ask | Embed) -> int:
    """Return how many characters are to be read."""
    if isinstance(ask, Embed):
        return sum(map(len, ask.texts))
    return len(ask.prompt or "") + sum(len(turn.content) for turn in ask.turns)
