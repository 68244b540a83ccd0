"""Builds a window index: shards in a pool of processes, then one merge. What was cut short goes on where it stopped."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal, Unpack

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record, digest, encode
from strongroom.core.errors import AlreadyExists, BadInput, DiskFull, InputTooLarge, StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.core.words import fold
from strongroom.kernels.blake2b import keyed
from strongroom.kernels.tables import sort_pairs
from strongroom.kernels.windows import fingerprints
from strongroom.privacy.corpus.documents import CorpusFile, files, read
from strongroom.privacy.filter.duplicates import Documents, first_of
from strongroom.privacy.windows.layout import (
    FORMAT,
    HEADER,
    PERSON_WINDOW,
    SOURCES,
    Header,
    Sealed,
    Source,
    mac_of,
    measured,
    read_sealed,
)
from strongroom.privacy.windows.merge import Judge, Owners, Prints, Run, Writer, merge
from strongroom.privacy.windows.options import Options
from strongroom.privacy.windows.shard import LIKENESS, Cut, FindValues, Shard, ShardDone, index_shard, runs_of
from strongroom.privacy.windows.values import finder

Progress = Callable[[int, int], None]
ValueFinder = Callable[[], FindValues]
"""Makes what finds values; called in each process, for what it makes may not travel between them."""
Part = tuple[Shard, ShardDone]
PARTIAL: Final = ".partial"
_SHARD: Final = 64 << 20  # stored bytes
_MOST_DOCUMENTS: Final = 1 << 32
_FULL: Final = frozenset({28, 122})  # ENOSPC, EDQUOT
_VERSION: Final = 0.6  # Jaccard's index of two documents' shingles, from which on they are versions of one
_SMALL: Final = 1 << 16  # documents whose numbers have two bytes
_VALUE: Final = np.dtype([("value", "<u8"), ("end", "<u8"), ("document", "<u8")])


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built."""

    source: Path
    out: Path
    cut: Cut
    common: int  # what so many documents have in common is left out
    left_out: Path | None = None  # texts whose every window is left out: licences, headers
    values: ValueFinder | None = None  # finds what is known by itself, too: keys, numbers of cards and accounts
    jobs: int = 1


def order_of(source: Path, out: Path, **options: Unpack[Options]) -> Order:
    """Return the order that these options make."""
    return Order(
        source=source,
        out=out,
        cut=Cut(window=options["window"], stride=options["stride"], text=options["text"]),
        common=options["common_documents"],
        left_out=options["leave_out"],
        values=None if options["no_values"] else finder,
        jobs=options["jobs"],
    )


class _Plan(Record, frozen=True):
    """What an unfinished build was of: another one can't go on with it."""

    id: str
    order: str  # digest


def planned(order: Order, new_id: Callable[[], str]) -> str:
    """Return the id of the index that `order` builds: that of an unfinished build of the same, else a new one.

    Raises:
        AlreadyExists: an index stands there, or an unfinished build of something else.
        BadInput: there is no corpus, or the index would lie inside it.
        StoreUnavailable, DiskFull: its folder can't be made.

    """
    if order.out.exists():
        raise AlreadyExists("something stands there", where=str(order.out))
    if order.out.resolve().is_relative_to(order.source.resolve()):
        raise BadInput("the index would lie inside the corpus", where=str(order.out))
    partial = _partial(order.out)
    said = _order_digest(order)
    with _disk(order.out):
        partial.mkdir(mode=0o700, parents=True, exist_ok=True)
        plan = partial / "plan.json"
        if plan.exists():
            found = msgspec.json.decode(plan.read_bytes(), type=_Plan)
            if found.order != said:
                remedy = f"Remove {partial}, or repeat the command with which it was begun."
                raise AlreadyExists("an unfinished index of something else is there", where=str(partial), remedy=remedy)
            return found.id
        made = _Plan(id=new_id(), order=said)
        _write(plan, encode(made))
    return made.id


def build(order: Order, index_id: str, key: Secret, *, made: str, progress: Progress) -> Header:
    """Build the index; `progress` is told how much of the work is done.

    Raises:
        CorpusUnreadable, InputTooLarge, MissingExtra: a file of the corpus can't be taken.
        StoreUnavailable, DiskFull: the index can't be written; the build goes on when the command is repeated.

    """
    with _disk(order.out):
        shards = _shards(files(order.source), _partial(order.out))
        done = _index(shards, order, key, progress=progress)
        if sum(one.documents for one in done) >= _MOST_DOCUMENTS:
            raise InputTooLarge("over 4,294,967,295 documents", where=str(order.source))
        parts = tuple(zip(shards, done, strict=True))
        whole = _finish(order, index_id, key, made=made, parts=parts)
        whole.replace(order.out)
        shutil.rmtree(_partial(order.out))
    return read_sealed(order.out).header


def _partial(out: Path) -> Path:
    return out.with_name(out.name + PARTIAL)


def _order_digest(order: Order) -> str:
    found = [*files(order.source), *(files(order.left_out) if order.left_out else ())]
    seen = [[one.name, one.size, str(one.path.stat().st_mtime_ns)] for one in found]
    return digest([msgspec.to_builtins(order.cut), order.common, order.values is not None, seen])


def _shards(found: Sequence[CorpusFile], partial: Path) -> tuple[Shard, ...]:
    """Cut a corpus into shards: the same whenever it is the same."""
    cut, filled = list[list[CorpusFile]]([[]]), 0
    for one in found:
        if cut[-1] and filled + one.size > _SHARD:
            cut.append([])
            filled = 0
        cut[-1].append(one)
        filled += one.size
    return tuple([Shard(tuple(group), partial / f"shard-{at:06}") for at, group in enumerate(cut)])


def _index(shards: Sequence[Shard], order: Order, key: Secret, *, progress: Progress) -> list[ShardDone]:
    """Index all shards, in this process or in several."""
    sizes = [sum(one.size for one in shard.files) for shard in shards]
    done, total = 0, sum(sizes)
    results = list[ShardDone]()
    work = functools.partial(_one, cut=order.cut, key=key.reveal(), values=order.values)
    with contextlib.ExitStack() as stack:
        if order.jobs > 1 and len(shards) > 1:
            pool = ProcessPoolExecutor(min(order.jobs, len(shards)), mp_context=get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            outcome = pool.map(work, shards)
        else:
            outcome = map(work, shards)
        for size, result in zip(sizes, outcome, strict=True):
            results.append(result)
            done += size
            progress(done, total)
    return results


def _one(shard: Shard, cut: Cut, *, key: bytes, values: ValueFinder | None) -> ShardDone:
    return index_shard(shard, cut, key=key, values=None if values is None else values())


def _finish(order: Order, index_id: str, key: Secret, *, made: str, parts: Sequence[Part]) -> Path:
    """Merge what the shards found; return the folder of the finished index."""
    folder = _partial(order.out) / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    documents = sum(done.documents for _, done in parts)
    texts = np.concatenate([np.fromfile(shard.folder / "documents", dtype="S32") for shard, _ in parts])
    judge = Judge(first=_first(parts), common=order.common, left_out=_left_out(order, key))
    everything = Judge(first=judge.first, common=_MOST_DOCUMENTS, left_out=np.zeros(0, dtype=np.uint64))
    runs, (values, ends) = _window_runs(parts), _value_runs(parts)
    sizes = _start_bytes(runs), 2 if documents <= _SMALL else 4
    shapes = {
        "windows": merge(runs, judge, Writer(folder, "windows", sizes)),
        "values": merge([values], everything, Writer(folder, "values", sizes)),
        "ends": merge([ends], everything, Writer(folder, "ends", (sizes[0], 0))),
    }
    _write(folder / SOURCES, b"".join(_sources(parts)))
    members = {one.name: measured(one) for one in sorted(folder.iterdir())}
    header = Header(
        format=FORMAT,
        id=index_id,
        made=made,
        window=order.cut.window,
        stride=order.cut.stride,
        common=order.common,
        documents=documents,
        corpus_bytes=sum(done.bytes for _, done in parts),
        corpus=hashlib.sha256(texts.tobytes()).hexdigest(),
        start_bytes=sizes[0],
        owner_bytes=sizes[1],
        members={name: one for name, one in members.items() if one is not None},
        **shapes,
    )
    _write(folder / HEADER, encode(Sealed(header=header, mac=mac_of(header, key))))
    return folder


def _first(parts: Sequence[Part]) -> Owners:
    """Return of each document the first that it is a version of, or itself.

    Boilerplate stands in documents that are otherwise unlike; what stands in many versions of one document does not
    become boilerplate by that. The more often a text is repeated, the better a model knows it.
    """
    found = np.concatenate([np.fromfile(shard.folder / "likenesses", dtype=LIKENESS) for shard, _ in parts])
    alive = np.ones(len(found), dtype=np.bool_)
    return first_of(Documents(found["signature"], found["whole"], found["words"], alive), _VERSION).astype(np.uint32)


def _left_out(order: Order, key: Secret) -> Prints:
    """Return the fingerprints of all windows of the texts that are left out, wherever they begin; sorted."""
    found = list[Prints]()
    state = keyed(key.reveal(), PERSON_WINDOW)
    for file in files(order.left_out) if order.left_out else ():
        for document in read(file, text=order.cut.text):
            raw = np.frombuffer(fold(document.text), dtype=np.uint8)
            ends = np.array([len(raw)], dtype=np.int64)
            found.append(fingerprints(raw, ends, window=order.cut.window, stride=1, state=state)[0])
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def _window_runs(parts: Sequence[Part]) -> list[Run]:
    runs, base = list[Run](), 0
    for shard, done in parts:
        runs += [(prints, owners, base) for prints, owners in runs_of(shard.folder, done)]
        base += done.documents
    return runs


def _value_runs(parts: Sequence[Part]) -> tuple[Run, Run]:
    """Return the runs of values, and of their last words."""
    found, base = list[npt.NDArray[np.void]](), 0
    for shard, done in parts:
        one = np.fromfile(shard.folder / "values", dtype=_VALUE)
        one["document"] += np.uint64(base)
        found.append(one)
        base += done.documents
    values = np.concatenate(found)
    owners = values["document"].astype(np.uint32)
    return (*sort_pairs(values["value"].copy(), owners), 0), (*sort_pairs(values["end"].copy(), owners), 0)


def _start_bytes(runs: Sequence[Run]) -> Literal[4, 8]:
    return 4 if sum(len(prints) for prints, _, _ in runs) < 1 << 32 else 8


def _sources(parts: Sequence[Part]) -> Iterator[bytes]:
    first = 0
    for _, done in parts:
        for file in done.files:
            line = Source(first=first, documents=file.documents, file=file.name, records=file.records)
            yield msgspec.json.encode(line) + b"\n"
            first += file.documents


def _write(file: Path, raw: bytes) -> None:
    """Write a small file so that it is there whole, or not at all."""
    whole = file.with_name(file.name + ".new")
    with whole.open("wb") as stream:
        stream.write(raw)
        stream.flush()
        os.fsync(stream.fileno())
    whole.replace(file)


@contextlib.contextmanager
def _disk(place: Path) -> Generator[None]:
    """Tell what the disk says in our words."""
    try:
        yield
    except OSError as error:
        kind = DiskFull if error.errno in _FULL else StoreUnavailable
        raise kind(f"the index can't be written ({error.strerror})", where=str(place)) from None
