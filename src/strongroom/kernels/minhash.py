"""MinHash signatures of many texts, straight from their bytes (Broder 1997; multiply-add hashing).

A word is a run of ASCII letters and digits, ``_`` and bytes from 0x80 on, ASCII letters lowered; a character of three
bytes with a first byte of 0xE3 to 0xE9 (kana, Chinese ideographs) is a word by itself. A shingle is five words in a row;
a text of fewer words has one, of all of them. The signature's i-th member is the least of ``a_i * shingle + b_i`` mod
2^64 over all shingles (a_i odd), its top 32 bits. Two texts' signatures agree in as large a share of members as their
sets of shingles do (Jaccard's index), in expectation. `plain_signature` says the same in Python, for the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import numba
import numpy as np
import numpy.typing as npt

HASHES: Final = 128
SHINGLE: Final = 5  # words
_MASK: Final = (1 << 64) - 1
_PRIME: Final = 0x100000001B3  # FNV-1a's
_BASIS: Final = 0xCBF29CE484222325
_STEP: Final = 0x9E3779B97F4A7C15  # of the polynomial over words: odd


def _stream(count: int, seed: int) -> list[int]:
    """Return numbers of SplitMix64."""
    out = list[int]()
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & _MASK
        out.append(_mixed(seed))
    return out


def _mixed(z: int) -> int:
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31


_TIMES: Final = np.array([one | 1 for one in _stream(HASHES, 1)], dtype=np.uint64)
_PLUS: Final = np.array(_stream(HASHES, 2), dtype=np.uint64)
_OLD: Final = pow(_STEP, SHINGLE, 1 << 64)
_CLASS: Final = np.array(
    [
        one + 32 if 0x41 <= one <= 0x5A else one if 0x30 <= one <= 0x39 or one == 0x5F or one >= 0x61 and one <= 0x7A or one >= 0x80 else 0
        for one in range(256)
    ],
    dtype=np.uint8,
)
_jit: Final = cast("Any", numba.njit)(cache=True, nogil=True)


def _shingle_hashes(text: Any, low: int, high: int, lower: Any, out: Any) -> Any:  # noqa: ANN401,PLR0917
    """Write the hashes of the shingles of bytes `low` to `high`; return how many, and a hash of all words in order."""
    prime, step, old = np.uint64(_PRIME), np.uint64(_STEP), np.uint64(_OLD)
    basis = np.uint64(_BASIS)
    ring = np.zeros(SHINGLE, dtype=np.uint64)
    count, words, rolling, whole = 0, 0, np.uint64(0), np.uint64(0)
    at = low
    while at < high:
        byte = lower[text[at]]
        if byte == 0:
            at += 1
            continue
        word = basis
        if 0xE3 <= byte <= 0xE9:
            stop = min(at + 3, high)
            while at < stop:
                word = (word ^ np.uint64(text[at])) * prime
                at += 1
        else:
            while byte != 0 and not 0xE3 <= byte <= 0xE9:
                word = (word ^ np.uint64(byte)) * prime
                at += 1
                if at == high:
                    break
                byte = lower[text[at]]
        word ^= word >> np.uint64(32)
        slot = words % SHINGLE
        rolling = rolling * step + word - ring[slot] * old
        ring[slot] = word
        words += 1
        whole = (whole ^ word) * step
        whole ^= whole >> np.uint64(29)
        if words >= SHINGLE:
            out[count] = _finished(rolling)
            count += 1
    if 0 < words < SHINGLE:
        out[0] = _finished(rolling)
        count = 1
    return count, words, whole


@_jit
def _finished(z: Any) -> Any:  # noqa: ANN401
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return z ^ z >> np.uint64(31)


_shingles = _jit(_shingle_hashes)


@_jit
def _least(hashes: Any, count: int, times: Any, plus: Any, out: Any) -> None:  # noqa: ANN401,PLR0917
    best = np.empty(HASHES, dtype=np.uint64)
    best[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
    for one in range(count):
        shingle = hashes[one]
        for place in range(HASHES):
            value = times[place] * shingle + plus[place]
            best[place] = min(best[place], value)
    for place in range(HASHES):
        out[place] = best[place] >> np.uint64(32)


@_jit
def _all(text: Any, begins: Any, ends: Any, lower: Any, times: Any, plus: Any, signatures: Any, wholes: Any, counts: Any) -> None:  # noqa: ANN401,PLR0913,PLR0917
    longest = 0
    for one in range(len(begins)):
        longest = max(longest, ends[one] - begins[one])
    hashes = np.empty(longest + 1, dtype=np.uint64)
    for one in range(len(begins)):
        count, words, whole = _shingles(text, begins[one], ends[one], lower, hashes)
        _least(hashes, count, times, plus, signatures[one])
        wholes[one] = whole
        counts[one] = words


def signatures(texts: Sequence[bytes]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    """Return of each text its signature (n, `HASHES`), a hash of its words in their order (n), and how many words (n).

    The hashes aren't keyed: who writes texts can make two of them look alike.
    """
    ends = np.cumsum([len(one) for one in texts], dtype=np.int64)
    begins = ends - np.array([len(one) for one in texts], dtype=np.int64)
    made = np.empty((len(texts), HASHES), dtype=np.uint32)
    wholes, counts = np.empty(len(texts), dtype=np.uint64), np.empty(len(texts), dtype=np.uint32)
    raw = np.frombuffer(b"".join(texts) or b" ", dtype=np.uint8)
    _all(raw, begins, ends, _CLASS, _TIMES, _PLUS, made, wholes, counts)
    return made, wholes, counts
