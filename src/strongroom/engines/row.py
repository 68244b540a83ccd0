"""One text that is being written: its tokens so far, its text so far, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.engines.stops import Stops
from strongroom.engines.tokens import Tokens
from strongroom.ports.completions import Finish, TokenLogprob
from strongroom.ports.engine import Sampling
from strongroom.watermark.gumbel import Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to write: after these tokens, at most `room` more, ended by the model or by one of `stop`."""

    ids: Sequence[int]
    room: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()  # token and what is added to its logit before the draw


@dataclass(frozen=True, slots=True)
class Wrote:
    """What one more token adds: the text that may be given out now, and logprobs of the tokens behind it."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Row:
    """A text in the making. Every token that is drawn is taken here, one after the other."""

    def __init__(self, order: Order, tokens: Tokens, *, marker: Marker, ends: frozenset[int]) -> None:
        """Write what `order` says, with draws from `marker`'s seeds; the tokens `ends` end it."""
        self.order = order
        self.new: list[int] = []
        self.marked = 0
        self.finish: Finish | None = None
        self._tokens = tokens
        self._marker = marker
        self._ends = ends
        self._stream = tokens.stream()
        self._stops = Stops(order.stop)
        self._fed = ""
        self._given = 0
        self._held: list[tuple[int, TokenLogprob]] = []  # each with the place in the text where its token begins

    @property
    def hot(self) -> bool:
        """Whether its tokens are drawn; else the likeliest is taken."""
        return self.order.sampling.temperature > 0

    def seed(self) -> int:
        """Return the seed of the next draw, and count it if it carries the mark."""
        seed, marked = self._marker.seed(self.new)
        self.marked += marked
        return seed

    def take(self, token: int, logprob: TokenLogprob | None = None) -> Wrote:
        """Take the next token."""
        self.new.append(token)
        text, hit = "", False
        if token not in self._ends:
            if logprob is not None:
                self._held.append((len(self._fed), logprob))
            text, hit = self._feed(self._stream.step(token))
        if hit or token in self._ends:
            self.finish = "stop"
        elif len(self.new) >= self.order.room:
            self.finish = "length"
        if self.finish and not hit:
            more, hit = self._rest()
            text += more
        return Wrote(text, self._released(text, everything=self.finish is not None and not hit))

    def _feed(self, text: str) -> tuple[str, bool]:
        self._fed += text
        return self._stops.feed(text)

    def _rest(self) -> tuple[str, bool]:
        """Return what the end brings out: what was held back, without half a character."""
        ended = self.new[-1] in self._ends
        whole = self._tokens.decode(self.new[:-1] if ended else self.new)
        left = whole[len(self._fed) :].rstrip("\N{REPLACEMENT CHARACTER}") if whole.startswith(self._fed) else ""
        text, hit = self._feed(left)
        return text + self._stops.flush(), hit

    def _released(self, text: str, *, everything: bool) -> tuple[TokenLogprob, ...]:
        """Return the logprobs of the tokens whose text has begun to be given out."""
        self._given += len(text)
        count = 0
        while count < len(self._held) and (everything or self._held[count][0] < self._given):
            count += 1
        out, self._held = self._held[:count], self._held[count:]
        return tuple(one for _, one in out)
