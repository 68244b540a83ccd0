"""What a client gets of an answer, and how much that is: events as they come, or one document at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from strongroom.gateway.services import Reply
from strongroom.ports.completions import Piece, TokenLogprob
from strongroom.serving.shown import Shown
from strongroom.serving.wire import Wanted
from strongroom.serving.wire_answers import Frames, Totals, failure
from strongroom.serving.wire_errors import Refusal

_OK: Final = 200


class Output:
    """One answer on its way to its client."""

    __slots__ = (
        "_frames",
        "_logprobs",
        "_reply",
        "_text",
        "_wanted",
        "_whole",
        "bytes",
        "streaming",
        "thought",
        "values",
    )

    def __init__(self, wanted: Wanted, reply: Reply, *, request: str, created: int) -> None:
        """Answer the `request` for what is `wanted`."""
        self._wanted = wanted
        self._reply = reply
        self._frames = Frames(wanted, request=request, created=created)
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._whole = ""
        self.thought = ""  # of a whole answer
        self.bytes = self.values = 0  # of text, and values of log probabilities, that the client got
        self.streaming = False  # the first event is out

    def pass_on(self, piece: Piece) -> None:
        """Give out what of a piece is shown."""
        if not self._wanted.stream:
            self._text.append(piece.text)
            self.thought += piece.reasoning
            self._logprobs += piece.logprobs
            return
        if piece.reasoning:
            self._count(piece.reasoning, ())
            self._send(self._frames.thought(piece.reasoning))
        if piece.text or piece.logprobs:
            self._count(piece.text, piece.logprobs)
            self._send(self._frames.piece(piece.text, piece.logprobs))

    def begin_anew(self) -> None:
        """Forget an answer of which nothing is out."""
        self._text, self._logprobs, self.thought = [], [], ""

    def complete(self, shown: Shown | None) -> None:
        """Count what a whole answer shows, before anything of it is out."""
        if self._wanted.stream:
            return
        self._whole = said = "".join(self._text)
        if shown is not None:
            self._whole = shown.whole(said)
        # where a thought is cut off the whole text, nobody can say which tokens were its own
        if self._whole != said:
            self._logprobs = []
        self._count(self._whole, self._logprobs)

    def finish(self, finish: str, totals: Totals) -> None:
        """Send the end, or all of it."""
        if not self._wanted.stream:
            told = None if self._wanted.top_logprobs is None else self._logprobs
            self._reply.answer(_OK, self._frames.whole(self._whole, told, finish=finish, totals=totals))
            return
        if not self.streaming:
            self._reply.open_stream(self._frames.opening())
        self._reply.end_stream(self._frames.closing(finish, totals))

    def fail(self, refusal: Refusal) -> None:
        """Send a refusal, as the last event where there was one before."""
        if self.streaming:
            self._reply.end_stream(failure(refusal), keep=False)
        else:
            self._reply.refuse(refusal)

    def _send(self, event: bytes) -> None:
        if self.streaming:
            self._reply.stream(event)
        else:
            self.streaming = True
            self._reply.open_stream(self._frames.opening() + event)

    def _count(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Count what the client learns: bytes of text, and values of log probabilities."""
        self.bytes += len(text) if text.isascii() else len(text.encode())
        for one in logprobs:
            self.values += 1 + len(one.top)
