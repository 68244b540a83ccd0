"""From the bytes of many documents to the fingerprints of their windows of words, in one pass.

The twin is `strongroom.core.words` with `hashlib.blake2b` (docs/formats/windows-1.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.words import LONGEST
from strongroom.kernels.blake2b import Bytes, Words, hashed
from strongroom.kernels.compiled import compiled

Places = npt.NDArray[np.int64]
Owners = npt.NDArray[np.uint32]
_SPACE: Final = 32


def _letters() -> Bytes:
    """Return what each byte is in a word: itself, in lower case; 0 for one that ends a word."""
    table = np.zeros(256, dtype=np.uint8)
    for byte in b"0123456789_abcdefghijklmnopqrstuvwxyz":
        table[byte] = byte
    for byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        table[byte] = byte + 32
    table[128:] = np.arange(128, 256)
    return table


_LETTERS: Final = _letters()


def fingerprints(
    data: Bytes, ends: Places, *, window: int, stride: int, state: Words
) -> tuple[npt.NDArray[np.uint64], Owners]:
    """Return the fingerprints of all windows, in order, and the number of the document that each is of.

    `data`: folded documents (`core.words.fold`) one behind the other; `ends`: where each ends, in bytes.
    """
    room = len(data) // (2 * stride) + len(ends) + 1  # a word and a separator have two bytes at least
    found, owners = np.empty(room, dtype=np.uint64), np.empty(room, dtype=np.uint32)
    count = _scan((data, ends, state), (window, stride), (found, owners))
    return found[:count], owners[:count]


@compiled
def _scan(given: tuple[Bytes, Places, Words], shape: tuple[int, int], out: tuple[Words, Owners]) -> int:
    data, ends, state = given
    window, stride = shape
    prints, owners = out
    longest = np.max(np.diff(ends)) if len(ends) > 1 else 0
    longest = max(longest, ends[0])
    said = np.empty(longest + longest // LONGEST + 2, dtype=np.uint8)
    starts = np.empty(longest // 2 + 3, dtype=np.int64)
    scratch = np.empty(24, dtype=np.uint64)
    count, first = 0, 0
    for document in range(len(ends)):
        words = _spell(data[first : ends[document]], said, starts)
        first = ends[document]
        for word in range(0, words - window + 1, stride):
            prints[count] = hashed(state, said[starts[word] : starts[word + window] - 1], scratch)
            owners[count] = document
            count += 1
    return count


@compiled
def _spell(data: Bytes, said: Bytes, starts: Places) -> int:
    """Write a document's words, each followed by a space, and where each begins; return how many there are."""
    at, words, length = 0, 0, 0
    starts[0] = 0
    for place in range(len(data)):
        letter = _LETTERS[data[place]]
        if letter:
            said[at] = letter
            at += 1
            length += 1
        if length and (letter == 0 or length == LONGEST):
            said[at] = _SPACE
            at += 1
            length = 0
            words += 1
            starts[words] = at
    if length:
        words += 1
        starts[words] = at + 1  # as if a space followed
    return words
