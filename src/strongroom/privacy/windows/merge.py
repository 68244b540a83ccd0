"""From the sorted runs of all shards to the tables of an index, one stretch of the hash space at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.kernels.tables import distinct, sort_pairs
from strongroom.privacy.windows.layout import Shape

Prints = npt.NDArray[np.uint64]
Owners = npt.NDArray[np.uint32]
Run = tuple[Prints, Owners, int]
"""Fingerprints in their order, their documents, and what is to be added to a document's number."""
_PART: Final = 4 << 20  # fingerprints that are merged at once
_TO_A_BUCKET: Final = 8
_MOST_BITS: Final = 30


@dataclass(frozen=True, slots=True)
class Judge:
    """What is kept of what."""

    first: Owners  # of each document, the first one with the same text
    common: int  # what so many documents have is dropped
    left_out: Prints  # sorted: what is dropped in any case


def merge(runs: Sequence[Run], judge: Judge, table: Writer) -> Shape:
    """Write the table of all runs; return its shape."""
    total = sum(len(prints) for prints, _, _ in runs)
    table.begin(total)
    for prints, owners in _parts(runs, total):
        kept = distinct(prints, owners, first=judge.first, common=judge.common)
        wanted = ~_within(prints[:kept], judge.left_out)
        table.add(prints[:kept][wanted], owners[:kept][wanted])
    return table.end()


def _parts(runs: Sequence[Run], total: int) -> Iterator[tuple[Prints, Owners]]:
    """Yield all fingerprints in their order, in parts that fit into memory; equal ones never in two parts."""
    parts = max(1, -(-total // _PART))
    borders = [np.uint64(at * (1 << 64) // parts) for at in range(1, parts)]
    starts = [np.searchsorted(prints, np.array(borders, dtype=np.uint64)).tolist() for prints, _, _ in runs]
    for part in range(parts):
        found, whose = list[Prints](), list[Owners]()
        for (prints, owners, base), own in zip(runs, starts, strict=True):
            cut = slice(own[part - 1] if part else 0, own[part] if part < parts - 1 else len(prints))
            found.append(prints[cut])
            whose.append(owners[cut] + np.uint32(base))
        if found:
            yield sort_pairs(np.concatenate(found), np.concatenate(whose))


def _within(prints: Prints, wanted: Prints) -> npt.NDArray[np.bool_]:
    """Return which of `prints` are among `wanted`, which is sorted."""
    if not len(wanted):
        return np.zeros(len(prints), dtype=np.bool_)
    at = np.minimum(np.searchsorted(wanted, prints), len(wanted) - 1)
    return wanted[at] == prints


class Writer:
    """A table on its way to disk: the files ``NAME.starts``, ``NAME.rest`` and, with owners, ``NAME.owners``."""

    def __init__(self, folder: Path, name: str, sizes: tuple[int, int]) -> None:
        """Write into `folder`; `sizes`: the bytes of a start, and of an owner (0: nobody's)."""
        start_bytes, owner_bytes = sizes
        self._paths = {part: folder / f"{name}.{part}" for part in ("starts", "rest", "owners")}
        self._start_type = np.dtype(f"<u{start_bytes}")
        self._owner_type = np.dtype(f"<u{owner_bytes}") if owner_bytes else None
        self._bits = self._entries = 0
        self._counts: npt.NDArray[np.uint64] = np.zeros(1, dtype=np.uint64)

    def begin(self, most: int) -> None:
        """Prepare for at most so many fingerprints: about `_TO_A_BUCKET` to each prefix."""
        self._bits = min(_MOST_BITS, (most // _TO_A_BUCKET).bit_length())
        self._counts = np.zeros((1 << self._bits) + 1, dtype=np.uint64)
        for part, path in self._paths.items():
            if part != "owners" or self._owner_type is not None:
                path.write_bytes(b"")

    def add(self, prints: Prints, owners: Owners) -> None:
        """Write the next fingerprints, in their order."""
        if not len(prints):
            return
        buckets = (
            (prints >> np.uint64(64 - self._bits)).astype(np.int64) if self._bits else np.zeros(len(prints), np.int64)
        )
        first = int(buckets[0])
        counted = np.bincount(buckets - first)
        self._counts[first + 1 : first + 1 + len(counted)] += counted.astype(np.uint64)
        rest = (prints >> np.uint64(32 - self._bits)).astype(np.uint32)  # the lower 32 of these bits
        with self._paths["rest"].open("ab") as stream:
            rest.astype("<u4").tofile(stream)
        if self._owner_type is not None:
            with self._paths["owners"].open("ab") as stream:
                owners.astype(self._owner_type).tofile(stream)
        self._entries += len(prints)

    def end(self) -> Shape:
        """Write where each prefix begins; return the table's shape."""
        np.cumsum(self._counts).astype(self._start_type).tofile(self._paths["starts"])
        return Shape(entries=self._entries, bits=self._bits)
