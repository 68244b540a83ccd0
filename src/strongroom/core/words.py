"""The words of a text, as all that compares texts sees them: without case, punctuation, spacing and look-alikes.

Each character is folded by itself, so that a text cut anywhere has the same words. ASCII letters lose their case;
other characters are taken apart (NFKD), lose case and accents, and Cyrillic and Greek letters that look like Latin
ones become these (Unicode Technical Standard 39 lists them). Characters without width are dropped. What is then a
letter, a digit or ``_`` belongs to a word; everything else ends one. In scripts that put no space between words each
character is one. A word ends after 64 bytes of UTF-8, whatever follows, so that nothing waits for ever.
docs/formats/windows-1.md has the same, exactly.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

LONGEST: Final = 64  # bytes of UTF-8

_WORD: Final = re.compile(rb"[0-9a-z_\x80-\xff]{1,%d}" % LONGEST)
_ALIKE: Final = str.maketrans(
    "\u0430\u0432\u0435\u0433\u0456\u0458\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0501\u051b\u051d"
    "\u03b1\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c5\u03c7\u0261\u0131",
    "aberijkmhopctyxsdqwaeikvopuxgi",
)
_NO_SPACES: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # CJK radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # CJK ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_FILLERS: Final = "\u115f\u1160"  # Hangul's, and what decomposes into them: letters that nobody sees
_NON_ASCII: Final = re.compile(r"[^\x00-\x7f]+")
Word = tuple[bytes, int]
"""A folded word, UTF-8, and where it ends in the text: the number of characters up to there."""


@lru_cache(maxsize=1 << 16)
def _folded(character: str) -> str:
    """Return what stands for a character that is not ASCII: letters, digits and spaces, or nothing."""
    out = ""
    for one in unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold()).translate(_ALIKE):
        if unicodedata.category(one) in {"Mn", "Me", "Cf"} or one in _FILLERS:
            continue
        word = one.isalnum() or one == "_"
        out += f" {one} " if word and _stands_alone(ord(one)) else (one if word else " ")
    return out


def _stands_alone(point: int) -> bool:
    return any(first <= point <= last for first, last in _NO_SPACES)


def _folded_run(run: re.Match[str]) -> str:
    return "".join(map(_folded, run.group()))


def fold(text: str) -> bytes:
    """Return `text` with its words folded and all else left for `_WORD` to split at; ASCII capitals are left, too.

    What compiled kernels are given: they lower ASCII themselves, for that is free there.
    """
    return (text if text.isascii() else _NON_ASCII.sub(_folded_run, text)).encode("utf-8", "replace")


def words(text: str) -> list[Word]:
    """Return the words of a whole text."""
    stream = WordStream()
    return stream.feed(text) + stream.end()


class WordStream:
    """The words of a text that comes in pieces: the same as of the whole, each told once it can't grow any more."""

    __slots__ = ("_at", "_end", "_open")

    def __init__(self) -> None:
        """Begin at the text's first character."""
        self._at = 0  # characters so far
        self._open = b""  # a word that may go on
        self._end: int = 0  # where it ends for now

    def feed(self, piece: str) -> list[Word]:
        """Take the next characters; return the words that have ended, with their ends in the whole text."""
        before, at = len(self._open), self._at
        if piece.isascii():
            raw, shift = self._open + piece.lower().encode(), at - before
            found = [(one.group(), one.end() + shift) for one in _WORD.finditer(raw)]
        else:
            folded, ends = _traced(piece, at)
            raw = self._open + folded
            ends = [self._end] * before + ends
            found = [(one.group(), ends[one.end() - 1]) for one in _WORD.finditer(raw)]
        if found and before and len(found[0][0]) == before:
            found[0] = (found[0][0], self._end)
        self._at = at + len(piece)
        self._open = b""
        if found and raw.endswith(found[-1][0]) and len(found[-1][0]) < LONGEST:
            self._open, self._end = found.pop()
        return found

    def end(self) -> list[Word]:
        """Return the last word, which nothing will make longer."""
        return [(self._open, self._end)] if self._open else []


def _traced(text: str, at: int) -> tuple[bytes, list[int]]:
    """Return the folded bytes, and where the character of each of them ends; `at` characters come before."""
    raw, ends = bytearray(), list[int]()
    for end, character in enumerate(text, at + 1):
        here = (character.lower() if character.isascii() else _folded(character)).encode("utf-8", "replace")
        raw += here
        ends += [end] * len(here)
    return bytes(raw), ends
