"""The lists beside a report: positions of findings, duplicates, a random sample. JSON lines, without any value."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from strongroom.core.canonical import Record, encode
from strongroom.privacy.corpus.writing import packed
from strongroom.privacy.filter.gathered import REPEATED, Gathered
from strongroom.privacy.filter.report import SAMPLE, Repeat, Sampled, Stratum
from strongroom.privacy.filter.shard import CHANGED, DENIED, KEPT

T = TypeVar("T")
FINDINGS: Final = "findings.jsonl"
DUPLICATES: Final = "duplicates.jsonl"


def write_lists(gathered: Gathered, folder: Path, count: int, *, seed: str) -> dict[str, str]:
    """Write the lists; return their digests. The sample is of `count` findings and `count` documents without any."""
    made: dict[str, Iterable[Record]] = {
        FINDINGS: gathered.positions(),
        DUPLICATES: _repeats(gathered),
        SAMPLE: _sample(gathered, count, seed),
    }
    return {name: _write(folder / name, records) for name, records in made.items()}


def _write(path: Path, records: Iterable[Record]) -> str:
    whole = hashlib.sha256()
    with packed(path, "") as out:
        for one in records:
            line = encode(one) + b"\n"
            whole.update(line)
            out.write(line)
    return whole.hexdigest()


def _repeats(gathered: Gathered) -> Iterator[Repeat]:
    for number, first, likely in sorted(gathered.repeats, key=lambda one: one[0]):
        file, record = gathered.source(number)
        of_file, of_record = (None, None) if first is None else gathered.source(first)
        fate = gathered.fates[number]
        why = "denied" if fate == DENIED else "repeated" if fate == REPEATED else "similar"
        yield Repeat(
            file=file, record=record, of_file=of_file, of_record=of_record, why=why, similarity=round(likely, 4)
        )


def _sample(gathered: Gathered, count: int, seed: str) -> Iterator[Sampled]:
    """Yield a sample drawn by hashes of the corpus' digest: the same each time, and nobody's choice."""
    for one in _drawn(gathered.positions(), count, seed):
        yield Sampled(stratum="finding", finding=one, file=one.file, record=one.record)
    strata: tuple[tuple[Stratum, int], ...] = (("clean", KEPT), ("changed", CHANGED))
    for stratum, fate in strata:
        for number in _drawn(np.flatnonzero(gathered.fates == fate).tolist(), count, seed):
            file, record = gathered.source(number)
            yield Sampled(stratum=stratum, finding=None, file=file, record=record)


def _drawn(population: Iterable[T], count: int, seed: str) -> list[T]:
    """Return `count` of them: those with the least hashes of their place, in their order."""
    scored = ((_score(seed, place), place, one) for place, one in enumerate(population))
    return [
        one for _, _, one in sorted(heapq.nsmallest(count, scored, key=lambda each: each[:2]), key=lambda each: each[1])
    ]


def _score(seed: str, place: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
