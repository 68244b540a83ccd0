"""Filter a corpus: shards in a pool of processes, duplicates over the whole, files, report.

All is made in a hidden folder beside the output, which becomes the output by one rename. A run that was killed and is
repeated goes on with the shards that are there, and ends with the same bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from strongroom.core.canonical import digest, encode
from strongroom.core.errors import AlreadyExists, BadInput, Busy, DiskFull, StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.privacy.corpus.documents import REPORT, TEXT, CorpusFile, files
from strongroom.privacy.corpus.writing import sync
from strongroom.privacy.filter import pool
from strongroom.privacy.filter.actions import Action, check_value
from strongroom.privacy.filter.assemble import FileDigests, FileTask, assemble
from strongroom.privacy.filter.deny import NOTHING, Deny
from strongroom.privacy.filter.gathered import Against, Gathered
from strongroom.privacy.filter.lists import write_lists
from strongroom.privacy.filter.plan import shards
from strongroom.privacy.filter.report import BESIDE, Dropped, Filtered, How, Report
from strongroom.privacy.filter.rules import file_digest, rules
from strongroom.privacy.filter.shard import Job, filter_shard

_PARTIAL: Final = "strongroom-partial"
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be filtered, into which folder, and how."""

    source: Path
    out: Path
    action: Action = "mask"
    rules: bytes = b""  # a file of rules
    text: str = TEXT  # the member of a record that holds its text
    similarity: float | None = 0.8  # None: duplicates stay
    deny: Deny = NOTHING
    against: Against | None = None  # a window index: documents that mostly repeat what it has are dropped
    jobs: int = 1
    sample: int = 100
    version: str = ""  # of Strongroom, for the report


def filter_corpus(wanted: Wanted, key: Secret | None, step: Step) -> Report:
    """Filter a corpus; return the report that is written with it. `step` is told of bytes done and in all.

    Raises:
        AlreadyExists: something stands at the output.
        BadInput: nothing is at the source, or one of the two lies in the other.
        BadRules: the file of rules is off.
        Busy: somebody else is filtering to the same place.
        CorpusUnreadable: a file is not what its name says. What was done stays; repeat when it is mended.
        StorageError: the disk said no.

    """
    rules(wanted.rules)  # an error in them comes before any work
    found = files(wanted.source)
    _check_places(wanted)
    try:
        with _working(wanted.out) as folder:
            return _filtered(wanted, found, folder, key=key, step=step)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        kind = DiskFull if full else StoreUnavailable
        raise kind(f"can't be written ({error.strerror})", where=str(wanted.out)) from None


def _filtered(wanted: Wanted, found: Sequence[CorpusFile], folder: Path, *, key: Secret | None, step: Step) -> Report:
    (folder / "shards").mkdir(exist_ok=True, mode=0o700)
    for unfinished in (folder / "shards").glob("*.tmp"):
        shutil.rmtree(unfinished)
    job = Job(
        action=wanted.action,
        rules=wanted.rules,
        member=wanted.text,
        denied=wanted.deny.names,
        version=f"{wanted.version} {rules(wanted.rules).digest}",
        key_check="" if key is None else check_value(key),
    )
    todo = shards(found, folder / "shards", job, key=None if key is None else key.reveal())
    total, done, names = sum(one.size for one in todo), 0, list[str]()
    for shard, name in zip(todo, pool.run(wanted.jobs, filter_shard, todo), strict=True):
        names.append(name)
        done += shard.size
        step(done, total)
    gathered = Gathered(todo, names)
    gathered.drop_denied(wanted.deny)
    if wanted.similarity is not None or wanted.deny.texts:
        gathered.drop_repeats(wanted.deny, wanted.similarity)
    if wanted.against is not None:
        gathered.drop_seen(wanted.against, wanted.jobs)
    return _written(wanted, gathered, folder)


def _written(wanted: Wanted, gathered: Gathered, folder: Path) -> Report:
    """Write the output's files, lists and report, and give the folder its name."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    (out / BESIDE).mkdir(parents=True, mode=0o700)
    out.chmod(0o700)
    tasks = gathered.tasks(out)
    digests = list(pool.run(min(wanted.jobs, len(tasks)), assemble, tasks))
    kept = [_filtered_file(task, one) for task, one in zip(tasks, digests, strict=True)]
    lists = write_lists(gathered, out / BESIDE, wanted.sample, seed=digest([one.sha256 for one in kept]))
    report = Report(
        version=wanted.version,
        how=_how(wanted),
        documents=gathered.size,
        kept=sum(one.kept for one in kept),
        bytes=sum(one.counts.bytes for one in gathered.results),
        findings=gathered.by_kind(),
        rules=gathered.by_rule(),
        changed=gathered.count("changed"),
        dropped=Dropped(**{why: gathered.count(why) for why in ("findings", "denied", "repeated", "similar", "seen")}),
        files=tuple(kept),
        planted=gathered.planted(),
        lists=lists,
    )
    (out / REPORT).write_bytes(encode(report))
    (out / REPORT).chmod(0o600)
    for place in (out / BESIDE, out):
        sync(place)
    out.rename(wanted.out)
    sync(wanted.out)
    return report


def _filtered_file(task: FileTask, digests: FileDigests) -> Filtered:
    return Filtered(
        name=task.piece.name,
        bytes=task.piece.size,
        sha256=digests.source,
        written=digests.written,
        documents=sum(len(one.rows) for one in task.parts),
        kept=sum(int(np.count_nonzero(one.stay)) for one in task.parts),
    )


def _how(wanted: Wanted) -> How:
    against = wanted.against
    return How(
        action=wanted.action,
        rules=rules(wanted.rules).digest,
        rules_file=file_digest(wanted.rules) if wanted.rules else None,
        text=wanted.text,
        similarity=wanted.similarity,
        seen=None if against is None else (against.id, against.share),
        deny=wanted.deny.digest,
    )


def _check_places(wanted: Wanted) -> None:
    source, out = Path(os.path.realpath(wanted.source)), Path(os.path.realpath(wanted.out))
    empty = out.is_dir() and not wanted.out.is_symlink() and not any(out.iterdir())
    if os.path.lexists(wanted.out) and not empty:
        raise AlreadyExists("something stands at the output", where=str(wanted.out))
    if out.is_relative_to(source) or source.is_relative_to(out):
        raise BadInput("the corpus and the output lie one in the other", where=str(wanted.out))
    if not out.parent.is_dir():
        raise BadInput("the folder that the output would go into does not exist", where=str(out.parent))


@contextmanager
def _working(out: Path) -> Generator[Path]:
    """Yield the folder that the output is made in, with what an earlier run left there; it goes when all is done."""
    folder = out.parent / f".{out.name}.{_PARTIAL}"
    folder.mkdir(exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("somebody else is filtering to the same place", where=str(out)) from None
        yield folder
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)
