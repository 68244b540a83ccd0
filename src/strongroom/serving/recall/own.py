"""What of an answer the client said first: its own words are no leak when they come back.

Asked only where a window is known to the index, so that most requests never fold their prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from strongroom.core.words import LONGEST, fold
from strongroom.ports.recall import ABSENT

_ASCII: Final = 128
_LOOKED_AT: Final = 400  # words: a millisecond at most, and only where an answer has a window of the index
# what belongs to no word becomes a space, capitals become small
_BREAKS: Final = bytes(at if at >= _ASCII or chr(at).isalnum() or chr(at) == "_" else ord(" ") for at in range(256))
_TOO_LONG: Final = re.compile(rb"[^ ]{%d}" % (LONGEST + 1))
_CUT: Final = re.compile(rb"[^ ]{%d}(?! )" % LONGEST)


class Own:
    """The texts that a client sent as its own: never the turns that it says were the assistant's."""

    __slots__ = ("_documents", "_folded", "_texts")

    def __init__(self, texts: Sequence[str]) -> None:
        """Remember them as they are."""
        self._texts = texts
        self._folded = b""
        self._documents: frozenset[int] | None = None

    def has(self, words: bytes) -> bool:
        """Whether these words, joined by one space, stand in one of the texts."""
        return b" %b " % words in self._plain()

    def documents(self, find: Callable[[bytes], int], window: int) -> frozenset[int]:
        """Return of which documents its last words have windows: whoever holds a part of one may be after the rest."""
        if self._documents is None:
            said = self._plain().split()[-_LOOKED_AT:]
            owners = (find(b" ".join(said[at : at + window])) for at in range(len(said) - window + 1))
            self._documents = frozenset(owners) - {ABSENT}
        return self._documents

    def _plain(self) -> bytes:
        if not self._folded and self._texts:
            self._folded = b" ".join([b"", *map(_plain, self._texts), b""])
        return self._folded


def _plain(text: str) -> bytes:
    """Return the words of a text, joined by one space; texts are kept apart by two."""
    plain = b" ".join(fold(text).translate(_BREAKS).lower().split())
    if _TOO_LONG.search(plain):
        plain = _CUT.sub(rb"\g<0> ", plain)
    return b" %b " % plain
