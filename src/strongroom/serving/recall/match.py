"""The rules: which words of an answer stand in the training text, and when these are too many.

Of an index's windows every stride-th of a document is known, and each window of an answer is looked up, so a copy of
n words hits about (n - window) / stride times. Chance hits are scattered over documents; those of a copy name one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, Protocol

import msgspec

from strongroom.ports.recall import ABSENT, VALUE_WORDS, Windows
from strongroom.serving.recall.policy import SPAN, Rules

Rule = Literal["run", "cover", "gathered", "value"]
_TOGETHER: Final = 2  # windows of one document in a span, from which on they count towards what is gathered
_FAR: Final = -(1 << 40)


class Mine(Protocol):
    """What the client said itself."""

    def has(self, words: bytes) -> bool:
        """Whether these words, joined by one space, are its own."""
        ...

    def documents(self, find: Callable[[bytes], int], window: int) -> frozenset[int]:
        """Return of which documents its own words have windows, as `find` finds them."""
        ...


class Incident(msgspec.Struct, frozen=True):
    """An answer repeats too much: by which rule, and from which of its words on (negative: before its first)."""

    rule: Rule
    first: int


class Matcher:
    """The words of one answer, as they come."""

    __slots__ = (
        "_after", "_any", "_at", "_find", "_gather", "_hits", "_index", "_last", "_mine", "_owners", "_rules", "_same",
        "_window", "near",
    )  # fmt: skip

    def __init__(
        self, index: Windows, rules: Rules, *, mine: Mine, gather: Callable[[int, Iterable[int]], bool]
    ) -> None:
        """Judge by `rules`. `gather` counts windows of a document and says whether these are too many for a day."""
        self._index = index
        self._find = index.find
        self._window = index.window
        self._rules = rules
        self._mine = mine
        self._gather = gather
        self._after = max(index.window, index.stride)  # so close, hits make one run
        self._at = 0  # words of the answer so far
        self._last: list[bytes] = []  # the last of them
        self._hits: deque[tuple[int, int, int]] = deque()  # place, document and window, within the span
        self._owners: dict[int, dict[int, int]] = {}  # document → window → times, of these
        self._same = (_FAR, _FAR, ABSENT)  # a run in one document: its first word, its last, the document
        self._any = (_FAR, _FAR)
        self.near = False  # it came near a limit

    def prime(self, said: Sequence[bytes], *, counts: bool) -> None:
        """Begin behind words that the answer goes on from. `counts`: hits in them are the answer's own."""
        self._at = -len(said)
        if counts:
            self.feed(said, judge=False)
            self.near = False
        else:
            self._last = list(said)
        self._at = 0

    def feed(self, words: Sequence[bytes], *, judge: bool = True) -> Incident | None:
        """Take the next words; return what is too much, if so. Nothing is looked at behind it."""
        last, window, find, value = self._last, self._window, self._find, self._index.find_value
        kept = len(last)
        last += words
        shift = self._at - kept - 1
        found: Incident | None = None
        for end in range(kept + 1, len(last) + 1):
            if end >= window:
                run = b" ".join(last[end - window : end])
                if (owner := find(run)) != ABSENT:
                    found = self._hit(shift + end, owner, run)
            known = last[end - VALUE_WORDS : end] if end > VALUE_WORDS else last[:end]
            if value(known) != ABSENT:
                found = self._value(shift + end, known) or found
            if found is not None and judge:
                break
        self._at += len(words)
        del last[: -max(window, VALUE_WORDS)]
        return found if judge else None

    def _hit(self, at: int, owner: int, run: bytes) -> Incident | None:
        if self._mine.has(run):
            return None
        first = at - self._window + 1
        begun, last, of = self._same
        self._same = (begun, at, owner) if of == owner and at - last <= self._after else (first, at, owner)
        begun, last = self._any
        self._any = (begun, at) if at - last <= self._after else (first, at)
        return self._judged(at, owner, self._counted(at, owner, hash(run)))

    def _counted(self, at: int, owner: int, window: int) -> dict[int, int]:
        """Return the windows of a document within the span, now that one more has come."""
        hits, owners = self._hits, self._owners
        hits.append((at, owner, window))
        own = owners.setdefault(owner, {})
        own[window] = own.get(window, 0) + 1
        while hits[0][0] <= at - SPAN:
            _, whose, which = hits.popleft()
            old = owners[whose]
            old[which] -= 1
            if not old[which]:
                del old[which]
                if not old:
                    del owners[whose]
        return own

    def _judged(self, at: int, owner: int, own: dict[int, int]) -> Incident | None:
        rules, run, broad = self._rules, at - self._same[0] + 1, at - self._any[0] + 1
        self.near = self.near or run >= rules.near_run or len(own) >= rules.near_hits
        if run >= rules.run or broad >= rules.broad:
            return Incident("run", self._lead(self._same[0] if run >= rules.run else self._any[0]))
        if len(own) >= rules.hits:
            return Incident("cover", self._first(owner))
        if (len(own) >= _TOGETHER or self._has_some(owner)) and self._gather(owner, own):
            return Incident("gathered", self._first(owner))
        return None

    def _has_some(self, owner: int) -> bool:
        """Whether the client has a part of the document: then a single window may be the next drop of it."""
        return owner in self._mine.documents(self._find, self._window)

    def _first(self, owner: int) -> int:
        return self._lead(next(at for at, whose, _ in self._hits if whose == owner) - self._window + 1)

    def _lead(self, first: int) -> int:
        """Return from where on a passage may have been copied whose first known window begins at `first`."""
        return first - self._index.stride + 1

    def _value(self, at: int, last: Sequence[bytes]) -> Incident | None:
        """Return the incident of a value that these words end with, unless the client named it."""
        for many in range(1, len(last) + 1):
            own = last[-many:]
            if self._index.find_value(own) != ABSENT:
                named = self._mine.has(b" ".join(own)) or self._mine.has(b"".join(own))
                return None if named else Incident("value", at - many + 1)
        return None
