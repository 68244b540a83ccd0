"""An upstream for `serving prove-limits`: behind a real link, and it writes on whatever its budget is.

So if an answer ends at a limit, it is the gateway that has cut it.
"""

from __future__ import annotations

import asyncio

from strongroom.ports.completions import Ask, Begun, Embed, Ended, Failed, Piece, Sink

WAIT = "wait"  # a prompt of this word is never answered


class ProofEngine:
    """Writes words without end, one token each, until it is cancelled or `max_tokens` are written."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, Sink] = {}

    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        """Begin; a prompt has as many tokens as words. There are no vectors: who asks for some was let in."""
        if isinstance(ask, Embed):
            sink.on_answer(Failed(id=ask.id, code="unsupported", message="a proof has no vectors"))
            return
        self._open[ask.id] = sink
        words = (ask.prompt or " ".join(turn.content for turn in ask.turns)).split()
        sink.on_answer(Begun(id=ask.id, prompt_tokens=max(1, len(words)), marked=False))
        if words != [WAIT]:
            self._loop.call_soon(self._write, ask, 0)

    def cancel(self, request: str) -> None:
        """Write no more."""
        self._open.pop(request, None)

    def ready(self) -> bool:
        """Be always there."""
        return True

    def close(self) -> None:
        """End every answer."""
        for request, sink in list(self._open.items()):
            sink.on_answer(Failed(id=request, code="unavailable", message="the proof is over"))
        self._open.clear()

    def _write(self, ask: Ask, written: int) -> None:
        sink = self._open.get(ask.id)
        if sink is not None and written == ask.max_tokens:
            self._open.pop(ask.id)
            tokens = {"prompt_tokens": 1, "completion_tokens": written, "marked_tokens": 0}
            sink.on_answer(Ended(id=ask.id, finish="stop", **tokens))
        elif sink is not None:
            sink.on_answer(Piece(id=ask.id, text="word ", tokens=1))
            self._loop.call_soon(self._write, ask, written + 1)
