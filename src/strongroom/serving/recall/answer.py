"""One answer on its way out: text is let go when so many further words have come, and nothing was found in them.

Text is looked at in bites of some characters, for one look at many words costs little more than one at a word; what a
bite has freed leaves piece by piece as further pieces come, so that a stream stays even. What waits is bounded: by
`hold` words and two bites, and where there are no words by so many characters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from strongroom.core.words import Word, WordStream, words
from strongroom.ports.completions import Piece, TokenLogprob
from strongroom.ports.recall import Windows
from strongroom.serving.recall.match import Incident, Matcher, Mine
from strongroom.serving.recall.policy import SPAN, Policy, rules_of

BITE: Final = 64  # characters
_ROOM: Final = 256  # characters that a held word stands for at most, with what surrounds it


class Filtered:
    """The filter of one answer. After an `incident` nothing more comes out of it, but for `before`."""

    __slots__ = (
        "_bite", "_ends", "_freed", "_fresh", "_hold", "_marks", "_matcher", "_passed", "_queue", "_stream", "_thought",
        "_total", "incident",
    )  # fmt: skip

    def __init__(
        self, index: Windows, policy: Policy, *, mine: Mine, gather: Callable[[int, Iterable[int]], bool]
    ) -> None:
        """Hold back what `index` knows, as `policy` says."""
        self._matcher = Matcher(index, rules_of(index.window, index.stride), mine=mine, gather=gather)
        self._hold = policy.hold
        self._marks = policy.action == "mark"
        self._stream = WordStream()
        self._queue: deque[tuple[int, Piece, int]] = deque()  # where each ends, and its tokens
        self._ends: deque[int] = deque()  # of the words that are held
        self._passed = 0  # words that are not any more
        self._fresh: list[tuple[Piece, int]] = []  # not looked at yet
        self._bite = 0  # characters of these
        self._total = 0  # characters so far
        self._freed = 0  # up to here text may go
        self._thought = False  # the last piece was a thought
        self.incident: Incident | None = None

    @property
    def near(self) -> bool:
        """Whether it came near a limit."""
        return self._matcher.near

    @property
    def withheld(self) -> int:
        """Tokens of what was not let go."""
        return sum(tokens for _, _, tokens in self._queue) + sum(tokens for _, tokens in self._fresh)

    def goes_on_from(self, said: str, *, counts: bool) -> None:
        """Begin behind a text. `counts`: the model wrote it, in an earlier answer; else only its last words matter."""
        before = [word for word, _ in words(said[-SPAN * 16 :])][-SPAN:]
        self._matcher.prime(before, counts=counts)

    def feed(self, piece: Piece, tokens: int) -> Sequence[Piece]:
        """Take the next piece, behind which are so many tokens; return what may go now."""
        self._fresh.append((piece, tokens))
        self._bite += len(piece.text) + len(piece.reasoning)
        if self._bite >= BITE:
            return () if self.incident is not None and not self._marks else self._look()
        if self._queue and self._queue[0][0] <= self._freed:
            return (self._queue.popleft()[1],)
        return ()

    def end(self) -> Sequence[Piece]:
        """Return the rest, unless it may not go."""
        out = self._look() if self._fresh else ()
        if self.incident is None:
            self._take(self._stream.end())
        if self.incident is not None and not self._marks:
            return out
        rest = [piece for _, piece, _ in self._queue]
        self._queue.clear()
        return [*out, *rest]

    def before(self) -> Sequence[Piece]:
        """Return what was held back and stands before the passage that the incident is about."""
        assert self.incident is not None  # noqa: S101 - nobody asks else
        kept = self.incident.first - self._passed
        cut = self._freed if kept <= 0 else self._ends[min(kept, len(self._ends)) - 1]
        out = self._let_go(cut)
        begin = self._total if not self._queue else self._queue[0][0] - _length(self._queue[0][1])
        if self._queue and begin < cut and not self._queue[0][1].reasoning:
            end, piece, tokens = self._queue.popleft()
            part = _cut(piece, cut - begin)
            used = -(-tokens * len(part.text) // max(1, len(piece.text)))
            self._queue.appendleft((end, piece, tokens - used))
            out.append(part)
        return out

    def _apart(self, piece: Piece) -> str:
        """Return a piece's text where thoughts are near: they end words."""
        said = " ".join([one for one in (piece.reasoning, piece.text) if one])
        if not said:
            return ""  # the first part of a character: it neither ends a thought nor a word
        turned = bool(piece.reasoning) != self._thought
        self._thought = bool(piece.reasoning) and not piece.text
        return f" {said}" if turned else said

    def _look(self) -> list[Piece]:
        """Look at what is fresh; return what was free before, and of what is free now all but a bite."""
        out = self._let_go(self._freed)
        found = self._stream.feed(self._queued())
        if self.incident is None:
            self._take(found)
        if self.incident is None or self._marks:
            self._freed = max(self._freed, self._total - _ROOM * (self._hold + 1))
            if self._marks and self.incident is not None:
                self._freed = self._total
            out += self._let_go(self._freed - BITE)
        return out

    def _queued(self) -> str:
        """Queue what is fresh; return its text."""
        said = list[str]()
        for piece, tokens in self._fresh:
            text = self._apart(piece) if piece.reasoning or self._thought else piece.text
            said.append(text)
            self._total += len(text)
            self._queue.append((self._total, piece, tokens))
        self._fresh.clear()
        self._bite = 0
        return "".join(said)

    def _take(self, found: list[Word]) -> None:
        self.incident = self._matcher.feed([word for word, _ in found])
        ends = self._ends
        ends.extend([end for _, end in found])
        if self.incident is not None:
            return
        while len(ends) > self._hold:
            self._freed = ends.popleft()
            self._passed += 1

    def _let_go(self, upto: int) -> list[Piece]:
        out, queue = list[Piece](), self._queue
        while queue and queue[0][0] <= upto:
            out.append(queue.popleft()[1])
        return out


def _length(piece: Piece) -> int:
    return len(piece.text) + len(piece.reasoning)


def _cut(piece: Piece, at: int) -> Piece:
    """Return a piece's first characters, with the log probabilities of the tokens that are wholly in them."""
    kept = list[TokenLogprob]()
    spelled = ""
    for one in piece.logprobs:
        spelled += one.token
        if len(spelled) > at or not piece.text.startswith(spelled):
            break
        kept.append(one)
    return Piece(id=piece.id, text=piece.text[:at], tokens=0, logprobs=tuple(kept))
