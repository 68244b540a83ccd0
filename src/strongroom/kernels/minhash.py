"""MinHash signatures of many texts, straight from their bytes (Broder 1997; multiply-add hashing).

A word is a run of ASCII letters and digits, ``_`` and bytes from 0x80 on, ASCII letters lowered; a character of three
bytes whose first is 0xE3 to 0xE9 (kana, Chinese ideographs) is a word by itself. A shingle is five words in a row; of a
text of fewer words, all of them. The signature's i-th member is the least of ``a_i * shingle + b_i`` mod 2^64 over all
shingles (a_i odd), its top 32 bits. In expectation, two texts' signatures agree in as large a share of members as their
sets of shingles do (Jaccard's index). The hashes aren't keyed: who writes texts can make two look alike.

The twin is in the tests: words by `re`, sets of shingles, Jaccard's index itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.kernels.compiled import compiled

HASHES: Final = 128
SHINGLE: Final = 5  # words
_MASK: Final = (1 << 64) - 1
_PRIME: Final = np.uint64(0x100000001B3)  # FNV-1a's
_BASIS: Final = np.uint64(0xCBF29CE484222325)
_STEP: Final = 0x9E3779B97F4A7C15  # of the polynomial over words: odd
_TIMES_STEP: Final = np.uint64(_STEP)
_OLD: Final = np.uint64(pow(_STEP, SHINGLE, 1 << 64))
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # SplitMix64's finaliser
_ALONE: Final = range(0xE3, 0xEA)  # first bytes of characters that are words
_LETTER, _CHARACTER = np.uint8(1), np.uint8(2)

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


def _stream(count: int, seed: int) -> list[int]:
    """Return numbers of SplitMix64."""
    out = list[int]()
    for _ in range(count):
        seed = (seed + _STEP) & _MASK
        z = ((seed ^ seed >> 30) * int(_FIRST)) & _MASK
        z = ((z ^ z >> 27) * int(_SECOND)) & _MASK
        out.append(z ^ z >> 31)
    return out


def _tables() -> tuple[Bytes, Bytes]:
    """Return what each byte is (no part of a word, a letter, a character's first), and the byte in lower case."""
    kinds = np.zeros(256, dtype=np.uint8)
    kinds[list(b"0123456789_ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")] = _LETTER
    kinds[128:] = _LETTER
    kinds[_ALONE.start : _ALONE.stop] = _CHARACTER
    lower = np.frombuffer(bytes(range(256)).lower(), dtype=np.uint8)
    return kinds, lower


_KINDS, _LOWER = _tables()
_FACTORS: Final = np.array([one | 1 for one in _stream(HASHES, 1)], dtype=np.uint64)
_ADDENDS: Final = np.array(_stream(HASHES, 2), dtype=np.uint64)


def signatures(
    texts: Sequence[bytes],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Return of each text its signature (n, `HASHES`), a hash of its words in their order (n), how many words (n)."""
    ends = np.cumsum([len(one) for one in texts], dtype=np.int64)
    made = np.empty((len(texts), HASHES), dtype=np.uint32)
    wholes, counts = np.empty(len(texts), dtype=np.uint64), np.empty(len(texts), dtype=np.uint32)
    raw = np.frombuffer(b"".join(texts) or b" ", dtype=np.uint8)
    _all(raw, ends, (made, wholes, counts))
    return made, wholes, counts


@compiled
def _finished(z: np.uint64) -> np.uint64:
    z = (z ^ z >> np.uint64(30)) * _FIRST
    z = (z ^ z >> np.uint64(27)) * _SECOND
    return z ^ z >> np.uint64(31)


@compiled
def _word(text: Bytes, at: int, high: int) -> tuple[np.uint64, int]:
    """Return the hash of the word that begins at `at`, and where it ends."""
    word = _BASIS
    if _KINDS[text[at]] == _CHARACTER:
        stop = min(at + 3, high)
        while at < stop:
            word = (word ^ np.uint64(text[at])) * _PRIME
            at += 1
    else:
        while at < high and _KINDS[text[at]] == _LETTER:
            word = (word ^ np.uint64(_LOWER[text[at]])) * _PRIME
            at += 1
    return word ^ word >> np.uint64(32), at


@compiled
def _shingles(text: Bytes, place: tuple[int, int], out: Words) -> tuple[int, int, np.uint64]:
    """Write the hashes of the shingles at a place; return how many there are, how many words, the words' hash."""
    low, high = place
    ring = np.zeros(SHINGLE, dtype=np.uint64)
    count, words, rolling, whole = 0, 0, np.uint64(0), np.uint64(0)
    at = low
    while at < high:
        if not _KINDS[text[at]]:
            at += 1
            continue
        word, at = _word(text, at, high)
        slot = words % SHINGLE
        rolling = rolling * _TIMES_STEP + word - ring[slot] * _OLD
        ring[slot] = word
        words += 1
        whole = (whole ^ word) * _TIMES_STEP
        whole ^= whole >> np.uint64(29)
        if words >= SHINGLE:
            out[count] = _finished(rolling)
            count += 1
    if 0 < words < SHINGLE:
        out[0] = _finished(rolling)
        count = 1
    return count, words, whole


@compiled
def _least(shingles: Words, out: npt.NDArray[np.uint32]) -> None:
    best = np.full(HASHES, np.uint64(_MASK))
    for shingle in shingles:
        for place in range(HASHES):
            best[place] = min(best[place], _FACTORS[place] * shingle + _ADDENDS[place])
    for place in range(HASHES):
        out[place] = best[place] >> np.uint64(32)


@compiled
def _all(text: Bytes, ends: Places, out: tuple[npt.NDArray[np.uint32], Words, npt.NDArray[np.uint32]]) -> None:
    made, wholes, counts = out
    longest, low = 0, 0
    for end in ends:
        longest, low = max(longest, end - low), end
    shingles = np.empty(longest + 1, dtype=np.uint64)
    low = 0
    for one in range(len(ends)):
        count, words, whole = _shingles(text, (low, ends[one]), shingles)
        _least(shingles[:count], made[one])
        wholes[one], counts[one] = whole, words
        low = ends[one]
