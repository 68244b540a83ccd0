"""Sorted fingerprints: sorting them, dropping repeats, and finding one among many millions.

A table of fingerprints is kept as two arrays: for each prefix of `bits` bits where its fingerprints begin, and of each
fingerprint the next 32 bits. With about eight to a prefix, a stranger's fingerprint is found by chance once in 2^29.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.kernels.compiled import compiled

Words = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]
Table = tuple[npt.NDArray[np.uint32] | npt.NDArray[np.uint64], npt.NDArray[np.uint32], int]
"""Where each prefix begins, the next 32 bits of each fingerprint, and the bits of a prefix (0 to 30)."""

_DIGIT: Final = 11  # bits sorted at a time: their counts stay in the first cache
_PASSES: Final = 6


def sort_pairs(prints: Words, owners: Owners) -> tuple[Words, Owners]:
    """Return both in the order of `prints`; of equal ones the order stays. Its twin: `numpy.argsort(kind="stable")`."""
    one, two = (prints.copy(), owners.copy()), (np.empty_like(prints), np.empty_like(owners))
    for turn in range(_PASSES):
        _pass(one, two, np.uint64(turn * _DIGIT))
        one, two = two, one
    return one


@compiled
def _pass(given: tuple[Words, Owners], out: tuple[Words, Owners], shift: np.uint64) -> None:
    prints, owners = given
    sorted_prints, sorted_owners = out
    mask = np.uint64((1 << _DIGIT) - 1)
    places = np.zeros((1 << _DIGIT) + 1, dtype=np.int64)
    for one in prints:
        places[np.int64((one >> shift) & mask) + 1] += 1
    for digit in range(1 << _DIGIT):
        places[digit + 1] += places[digit]
    for at in range(len(prints)):
        digit = np.int64((prints[at] >> shift) & mask)
        sorted_prints[places[digit]] = prints[at]
        sorted_owners[places[digit]] = owners[at]
        places[digit] += 1


@compiled
def distinct(prints: Words, owners: Owners, *, first: Owners, common: int) -> int:
    """Keep each fingerprint once, with its first owner, in place; return how many are left.

    `first[owner]` is the first document with the same text: copies of a document count as one, whether the first has
    the fingerprint or not. What `common` documents have, or more, is dropped.
    """
    kept, start, size = 0, 0, len(prints)
    while start < size:
        end, least, most, last = start, 0, 0, -1  # of documents, between these; where that says enough, none is counted
        while end < size and prints[end] == prints[start]:
            owner = np.int64(owners[end])
            if owner != last:
                most += 1
                least += first[owner] == owner
            last = owner
            end += 1
        if most < common or (least < common and len(np.unique(first[owners[start:end]])) < common):
            prints[kept] = prints[start]
            owners[kept] = owners[start]
            kept += 1
        start = end
    return kept


@compiled
def probe(prints: Words, table: Table) -> Places:
    """Return where in the table each fingerprint stands; -1 for one that does not."""
    starts, rest, bits = table
    found = np.empty(len(prints), dtype=np.int64)
    for at in range(len(prints)):
        one = prints[at]
        bucket = np.int64(one >> np.uint64(64 - bits)) if bits else 0
        wanted = np.uint32((one >> np.uint64(32 - bits)) & np.uint64(0xFFFFFFFF))
        found[at] = -1
        for place in range(np.int64(starts[bucket]), np.int64(starts[bucket + 1])):
            if rest[place] >= wanted:
                if rest[place] == wanted:
                    found[at] = place
                break
    return found
