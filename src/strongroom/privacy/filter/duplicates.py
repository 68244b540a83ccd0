"""Which documents repeat earlier ones: the same words, or nearly (MinHash with locality-sensitive hashing).

Signatures are cut into bands; documents that agree in a whole band are compared by their signatures, and those that
are similar enough belong together (union-find, over the whole corpus). Of each such set the first document stays. So a
chain of small changes is one set, though its ends differ by more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

_FOUND: Final = 0.995  # of pairs just as similar as asked for, at least: what the bands are chosen by
_CHUNK: Final = 1 << 16  # pairs compared at once
Signatures = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Documents:
    """What is known of n documents, in the corpus' order."""

    signatures: Signatures  # (n, hashes)
    wholes: npt.NDArray[np.uint64]  # (n,): a hash of the words in order
    words: npt.NDArray[np.uint32]  # (n,)
    alive: npt.NDArray[np.bool_]  # (n,): the others are dropped anyway, and nothing repeats them


def bands(similarity: float, hashes: int) -> tuple[int, int]:
    """Return how many bands of how many rows find 99.5 % of the pairs that are just as similar as `similarity`."""
    rows = 1
    while rows < hashes and 1 - (1 - similarity ** (rows + 1)) ** (hashes // (rows + 1)) >= _FOUND:
        rows += 1
    return hashes // rows, rows


def first_of(documents: Documents, similarity: float) -> Numbers:
    """Return of each document the first that it repeats, or itself (n)."""
    sets = _Sets(len(documents.words))
    standing = np.flatnonzero(documents.alive & (documents.words > 0))
    _join_equal(documents, standing, sets)
    unlike = np.array([one for one in standing.tolist() if sets.first(one) == one], dtype=np.int64)
    if similarity < 1 and len(unlike):
        count, rows = bands(similarity, documents.signatures.shape[1])
        for band in range(count):
            keys = _keys(documents.signatures, unlike, column=band * rows, rows=rows)
            _join_alike(documents.signatures, *_candidates(unlike, keys), similarity=similarity, sets=sets)
    return sets.all()


def likeness(signatures: Signatures, left: Numbers, right: Numbers) -> npt.NDArray[np.float64]:
    """Return the estimates of Jaccard's index of pairs (n)."""
    parts = [
        (signatures[left[at : at + _CHUNK]] == signatures[right[at : at + _CHUNK]]).mean(axis=1)
        for at in range(0, len(left), _CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _join_equal(documents: Documents, standing: Numbers, sets: _Sets) -> None:
    """Join documents of the same words."""
    keys = documents.wholes[standing] ^ (documents.words[standing].astype(np.uint64) << np.uint64(40))
    left, right = _candidates(standing, keys)
    same = (documents.signatures[left] == documents.signatures[right]).all(axis=1)
    for one, other in zip(left[same].tolist(), right[same].tolist(), strict=True):
        sets.join(one, other)


def _keys(signatures: Signatures, standing: Numbers, *, column: int, rows: int) -> npt.NDArray[np.uint64]:
    keys = np.zeros(len(standing), dtype=np.uint64)
    for place in range(column, column + rows):
        keys = (keys ^ signatures[standing, place]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def _candidates(numbers: Numbers, keys: npt.NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
    """Return pairs of equal keys: of each group its first with every other, and neighbours."""
    order = np.argsort(keys, kind="stable")
    ordered, numbers = keys[order], numbers[order]
    same = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    firsts = starts[np.searchsorted(starts, same, side="right") - 1]
    apart = firsts != same - 1
    left = np.concatenate([numbers[firsts], numbers[same[apart] - 1]])
    return left, np.concatenate([numbers[same], numbers[same[apart]]])


def _join_alike(signatures: Signatures, left: Numbers, right: Numbers, *, similarity: float, sets: _Sets) -> None:
    alike = likeness(signatures, left, right) >= similarity
    for one, other in zip(left[alike].tolist(), right[alike].tolist(), strict=True):
        sets.join(one, other)


class _Sets:
    """Union-find; a set is called by its first member."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def first(self, one: int) -> int:
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def join(self, one: int, other: int) -> None:
        one, other = self.first(one), self.first(other)
        self._above[max(one, other)] = min(one, other)

    def all(self) -> Numbers:
        return np.array([self.first(one) for one in range(len(self._above))], dtype=np.int64)
