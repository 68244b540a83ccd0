"""All shards' results seen as one corpus: which document is which, and what becomes of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import decode
from strongroom.privacy.filter.assemble import FileTask, Part
from strongroom.privacy.filter.deny import Deny
from strongroom.privacy.filter.duplicates import Documents, first_of, likeness
from strongroom.privacy.filter.report import Planted, Position
from strongroom.privacy.filter.review import wilson
from strongroom.privacy.filter.shard import CHANGED, DENIED, DROPPED, Counts, Piece, Shard

REPEATED, SIMILAR, SEEN = DENIED + 1, DENIED + 2, DENIED + 3
WHY: Final = {
    "changed": CHANGED,
    "findings": DROPPED,
    "denied": DENIED,
    "repeated": REPEATED,
    "similar": SIMILAR,
    "seen": SEEN,
}
DENY_SIMILARITY: Final = 0.8


@dataclass(frozen=True, slots=True)
class Result:
    """A shard and what its folder holds; its documents are number `first` of the corpus and on."""

    shard: Shard
    folder: Path
    rows: npt.NDArray[np.void]
    counts: Counts
    first: int


class Against(Protocol):
    """What says of documents that they mostly repeat what it has: a window index."""

    @property
    def id(self) -> str:
        """Name it."""
        ...

    @property
    def share(self) -> float:
        """From which share of its words on a document repeats."""
        ...

    def repeats(self, parts: Sequence[tuple[Shard, int]], jobs: int) -> npt.NDArray[np.bool_]:
        """Return which documents repeat (n, all shards'); a shard comes with the number of its first document."""
        ...


class Gathered:
    """The results of all shards, in the corpus' order."""

    def __init__(self, shards: Sequence[Shard], names: Sequence[str]) -> None:
        """Read what the shards left."""
        self.results = list[Result]()
        first = 0
        for shard, name in zip(shards, names, strict=True):
            folder = shard.folder / name
            counts = decode((folder / "counts.json").read_bytes(), Counts, where=str(folder))
            rows = np.load(folder / "rows.npy")
            self.results.append(Result(shard, folder, rows, counts, first))
            first += len(rows)
        self.size = first
        self.fates = np.concatenate([one.rows["fate"] for one in self.results])
        self.bases = self._bases()
        self.repeats = list[tuple[int, int | None, float]]()  # a document, the one that it repeats, their likeness

    def _bases(self) -> list[list[int]]:
        """Return of each shard's pieces the number of its first record in the file: ranges of a file are in a row."""
        bases, count, last = list[list[int]](), 0, ""
        for result in self.results:
            here = list[int]()
            for piece, records in zip(result.shard.pieces, result.counts.records, strict=True):
                count = count if piece.name == last else 0
                here.append(count)
                count, last = count + records, piece.name
            bases.append(here)
        return bases

    def source(self, number: int) -> tuple[str, int]:
        """Return the file of a document, and its number there."""
        place = int(np.searchsorted([one.first for one in self.results], number, side="right")) - 1
        result = self.results[place]
        row = result.rows[number - result.first]
        piece = int(row["piece"])
        return result.shard.pieces[piece].name, self.bases[place][piece] + int(row["record"])

    def drop_denied(self, deny: Deny) -> None:
        """Drop the documents whose file or source the list names."""
        names = frozenset(deny.names)
        for result, bases in zip(self.results if names else (), self.bases, strict=False):
            for place, (piece, number) in enumerate(_tuples(result.rows, "piece", "record")):
                name, record = result.shard.pieces[piece].name, bases[piece] + number
                if name in names or f"{name}#{record}" in names:
                    self.fates[result.first + place] = DENIED

    def drop_repeats(self, deny: Deny, similarity: float | None) -> None:
        """Drop documents that repeat an earlier one, or a text that is denied; without `similarity` the latter only."""
        denied, signatures, wholes, words = deny.signed()
        documents = Documents(
            signatures=np.concatenate([signatures, *(np.load(one.folder / "signatures.npy") for one in self.results)]),
            wholes=np.concatenate([wholes, *(one.rows["whole"] for one in self.results)]),
            words=np.concatenate([words, *(one.rows["words"] for one in self.results)]),
            alive=np.concatenate([np.ones(denied, dtype=np.bool_), self.fates < DROPPED]),
        )
        firsts = first_of(documents, DENY_SIMILARITY if similarity is None else similarity)
        later = np.flatnonzero(firsts != np.arange(len(firsts)))
        later = later[later >= denied]
        alike = likeness(documents.signatures, later, firsts[later])
        for number, likely in zip(later.tolist(), alike.tolist(), strict=True):
            first = int(firsts[number]) - denied
            if first < 0:
                self._drop(number - denied, None, DENIED, likely=likely)
            elif similarity is not None:
                same = documents.wholes[number] == documents.wholes[first + denied]
                self._drop(number - denied, first, REPEATED if same else SIMILAR, likely=likely)

    def drop_seen(self, against: Against, jobs: int) -> None:
        """Drop documents that an index has seen."""
        repeats = against.repeats([(one.shard, one.first) for one in self.results], jobs)
        self.fates[(self.fates < DROPPED) & repeats] = SEEN

    def _drop(self, number: int, first: int | None, fate: int, *, likely: float) -> None:
        self.fates[number] = fate
        self.repeats.append((number, first, likely))

    def count(self, why: str) -> int:
        """Return how many documents are so: ``changed``, or dropped for ``findings``, ``denied`` and so on."""
        return int(np.count_nonzero(self.fates == WHY[why]))

    def by_kind(self) -> dict[str, int]:
        """Return how many findings there are of each kind."""
        return self._tally("kind")

    def by_rule(self) -> dict[str, int]:
        """Return how many findings each rule made."""
        return self._tally("rule")

    def planted(self) -> dict[str, Planted]:
        """Return by kind how many made-up values were found."""
        found, tried = Counter[str](), Counter[str]()
        for result in self.results:
            for kind, (hits, tries) in result.counts.planted.items():
                found[kind] += hits
                tried[kind] += tries
        shares = {kind: wilson(found[kind], tries) for kind, tries in tried.items()}
        return {
            kind: Planted(found=found[kind], planted=tried[kind], low=round(one.low, 4), high=round(one.high, 4))
            for kind, one in shares.items()
        }

    def _tally(self, column: str) -> dict[str, int]:
        tally = Counter[str]()
        for result in self.results:
            numbers = np.bincount(np.load(result.folder / "found.npy")[column], minlength=len(result.counts.names))
            tally.update({name: int(count) for name, count in zip(result.counts.names, numbers, strict=True) if count})
        return dict(sorted(tally.items()))

    def positions(self) -> Iterator[Position]:
        """Yield all findings, in order."""
        for result, bases in zip(self.results, self.bases, strict=True):
            names = result.counts.names
            found = np.load(result.folder / "found.npy")
            for row, start, end, kind, rule in _tuples(found, "row", "start", "end", "kind", "rule"):
                piece = int(result.rows["piece"][row])
                yield Position(
                    file=result.shard.pieces[piece].name,
                    record=bases[piece] + int(result.rows["record"][row]),
                    start=start,
                    end=end,
                    kind=names[kind],
                    rule=names[rule],
                )

    def tasks(self, target: Path) -> list[FileTask]:
        """Return the files to be written, with what stays of each."""
        parts: dict[str, tuple[Piece, list[Part]]] = {}
        for result in self.results:
            cuts = np.cumsum([0, *result.counts.records])
            stay = self.fates[result.first : result.first + len(result.rows)] < DROPPED
            for place, piece in enumerate(result.shard.pieces):
                low, high = cuts[place], cuts[place + 1]
                part = Part(result.folder, result.rows[low:high], stay[low:high])
                parts.setdefault(piece.name, (piece, []))[1].append(part)
        return [
            FileTask(piece, tuple(some), target / piece.name, self.results[0].shard.job.member)
            for piece, some in parts.values()
        ]


def _tuples(rows: npt.NDArray[np.void], *names: str) -> Iterator[tuple[int, ...]]:
    yield from zip(*(cast("list[int]", rows[name].tolist()) for name in names), strict=True)
