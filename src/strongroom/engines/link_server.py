"""Serves completions to gateways over links: asks and cancels come in, answers go out (docs/formats/link-1.md)."""

from __future__ import annotations

import msgspec

from strongroom.ports.completions import Answer, Ask, Cancel, Completions, Embed, Failed, Last, Ready
from strongroom.ports.links import Accept, Link, Receiver


def gateways(completions: Completions, ready: Ready) -> Accept:
    """Return what accepts the links of gateways, and of nobody else; each is told `ready` first."""
    count = iter(range(1 << 62))

    def accept(role: str) -> tuple[object, Receiver] | None:
        return (Ask | Embed | Cancel, GatewayLink(completions, ready, next(count))) if role == "gateway" else None

    return accept


class GatewayLink:
    """One gateway's link. A lost link cancels all that it asked for."""

    def __init__(self, completions: Completions, ready: Ready, number: int) -> None:
        """Answer with `completions`; `number` keeps this gateway's ids apart from another's."""
        self._completions = completions
        self._ready = ready
        self._number = number
        self._link: Link | None = None
        self._open: dict[str, str] = {}  # our id → the gateway's

    # ── Receiver ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_open(self, link: Link) -> None:
        """Say what is served."""
        self._link = link
        link.send(self._ready)

    def on_message(self, message: Ask | Embed | Cancel) -> None:
        """Begin or stop a request."""
        ours = f"{self._number}:{message.id}"
        if isinstance(message, Cancel):
            if self._open.pop(ours, None) is not None:
                self._completions.cancel(ours)
        elif ours in self._open:
            self._send(Failed(id=message.id, code="failed", message="a request of that id is open"))
        else:
            self._open[ours] = message.id
            self._completions.ask(msgspec.structs.replace(message, id=ours), self)

    def on_lost(self) -> None:
        """Stop everything that this gateway asked for."""
        self._link = None
        for ours in self._open:
            self._completions.cancel(ours)
        self._open.clear()

    # ── Sink ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_answer(self, answer: Answer) -> None:
        """Pass an answer on under the gateway's own id."""
        theirs = self._open.get(answer.id)
        if theirs is None:
            return
        if isinstance(answer, Last):
            del self._open[answer.id]
        self._send(msgspec.structs.replace(answer, id=theirs))

    def _send(self, answer: Answer) -> None:
        if self._link is not None:
            self._link.send(answer)
