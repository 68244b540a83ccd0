"""How much of one document an account has gathered on a UTC day, in pieces too small for the other rules.

Numbers of documents, and Python's own keyed hash of windows (its key is drawn when the process starts): no text. What
is kept is bounded: beyond that, the documents of which least was gathered are forgotten first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_ACCOUNTS: Final = 4096
_DOCUMENTS: Final = 256  # of one account


class Gathered:
    """One of these a gateway."""

    __slots__ = ("_day", "_found", "_most", "words")

    def __init__(self, words: int, *, stride: int) -> None:
        """Let an account have up to `words` of a document; each known window stands for `stride` of them. 0: no end."""
        self.words = words
        self._most = -(-words // stride)
        self._found: dict[str, dict[int, set[int]]] = {}
        self._day = ""

    def add(self, account: str, day: str, *, owner: int, windows: Iterable[int]) -> bool:
        """Count windows of a document; say whether the account has now had too much of it."""
        if not self._most:
            return False
        if day != self._day:
            self._day = day
            self._found.clear()
        known = self._found.pop(account, None)
        if known is None:
            known = {}
            if len(self._found) >= _ACCOUNTS:
                del self._found[next(iter(self._found))]  # of whom nothing was heard for longest
        self._found[account] = known
        seen = known.get(owner)
        if seen is None:
            if len(known) >= _DOCUMENTS:
                del known[min(known, key=lambda one: len(known[one]))]
            seen = known[owner] = set()
        if len(seen) < self._most:
            seen.update(windows)
        return len(seen) >= self._most
