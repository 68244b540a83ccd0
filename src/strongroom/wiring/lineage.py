"""Whose copy a file is: the mark's master secret, every copy that was issued, the original, and the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.copy_errors import NoSuchCopy
from strongroom.core.errors import BadInput
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.housekeys import LINEAGE_MASTER
from strongroom.custody.marked import ReaderTensors
from strongroom.custody.vault import Purpose
from strongroom.ledger.journal import Act, Detail
from strongroom.lineage.codes import COMMON, biases, common_code, own_code
from strongroom.lineage.decode import Candidate, Reading, Scheme, Verdict, decode
from strongroom.lineage.evidence import Made, committed
from strongroom.lineage.keys import checkpoint_keys, derive
from strongroom.lineage.projections import find_projections
from strongroom.lineage.readings import against_original, blind
from strongroom.ports.marks import Progress, Tensors
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home
from strongroom.wiring.table import load

GGUF: Final = b"GGUF"
Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Who is told of progress: called with what begins, in words."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A verdict, what it was read off, and what was committed to for each copy of that checkpoint version."""

    verdict: Verdict
    version: int
    readings: tuple[Reading, ...]
    copies: Mapping[str, IssuedCopy]
    made: Mapping[str, Made]


def decode_file(home: Home, who: Identity, path: Path, *, against: CheckpointName, watch: Watch) -> Decoded:
    """Say whose copy of `against` the file or folder at `path` was made from. Question and answer are in the ledger.

    Every version that copies were issued of is looked at, each blind; the current one against its original as well.

    Raises:
        NotPermitted: the policy does not let `who` ask, or open the original.
        NoSuchCopy: no copy of it was ever issued.
        BadInput: the file can't be read as weights.
        OtherShape: its weights have not the checkpoint's shape.

    """
    question = Question("lineage.decode", purpose=f"whose copy of {against}")
    home.desk.require(who, question)
    premises = premises_of(home)
    every = premises.copies.all()
    versions: dict[str, list[IssuedCopy]] = {}
    for one in every:
        if one.title == against:
            versions.setdefault(one.checkpoint, []).append(one)
    if not versions:
        raise NoSuchCopy("no copy of it was ever issued", where=str(against))
    master = premises.housekeys.obtain(who, LINEAGE_MASTER, question)
    current = home.vault.registry.current(against).checkpoint
    with ExitStack() as stack:
        suspect = stack.enter_context(open_suspect(path))
        original = stack.enter_context(home.vault.open(who, against, Purpose(question.purpose, {"for": "decode"})))
        case = _Case(master, suspect, ReaderTensors(original), current, every)
        found = [_decode(case, copies, watch) for copies in versions.values()]
    best = min(found, key=_rank)
    _record(home, who, best, against=against)
    return best


def open_suspect(path: Path) -> AbstractContextManager[Tensors]:
    """Open a GGUF file, a safetensors file, or a folder of them.

    Raises:
        BadInput: it is none.
        MissingExtra: a GGUF file, and the package that reads it is not installed.

    """
    kind = "gguf" if _starts(path) == GGUF else "safetensors"
    opener: Callable[[Path], AbstractContextManager[Tensors]] = load("suspects", kind)
    return opener(path)


@dataclass(frozen=True, slots=True)
class _Case:
    """What a suspect is compared with."""

    master: Secret
    suspect: Tensors
    original: Tensors  # of the current version
    current: str  # its id
    every: Sequence[IssuedCopy]  # every copy of every checkpoint


def _decode(case: _Case, copies: Sequence[IssuedCopy], watch: Watch) -> Decoded:
    """Compare the suspect with the copies of one checkpoint version."""
    checkpoint, segments = copies[0].checkpoint, copies[0].mark.segments
    keys, where = checkpoint_keys(case.master, checkpoint), find_projections(case.original.infos())
    with watch("reading the suspect") as progress:
        readings = [blind(case.suspect, where, keys, segments=segments, progress=progress)]
    if checkpoint == case.current:
        readings.append(against_original(case.suspect, case.original, where, keys=keys, segments=segments))
    bias = biases(keys.biases, segments - COMMON)
    codes = {one.copy: own_code(derive(case.master, "code", one.copy), bias) for one in copies}
    verdict = decode(
        readings,
        Scheme(bias, common_code(keys.common)),
        [Candidate(one.copy, one.recipient.name, codes[one.copy]) for one in copies],
        tried=len(case.every),
        versions=len({one.checkpoint for one in case.every}),
    )
    made = {one.copy: committed(case.master, checkpoint, one.copy, segments=segments) for one in copies}
    return Decoded(verdict, copies[0].version, tuple(readings), {one.copy: one for one in copies}, made)


def _rank(one: Decoded) -> tuple[int, float, float]:
    order = {"match": 0, "inconclusive": 1, "no_match": 2}
    return order[one.verdict.verdict], one.verdict.log10_p, one.verdict.checkpoint_log10_p


def _starts(path: Path) -> bytes:
    """Return the first bytes of a regular file; nothing of a folder, or of what can't be read: its opener says so.

    Raises:
        BadInput: it is neither a file nor a folder. A pipe is not waited for.

    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise BadInput("no regular file", where=str(path))
        return os.read(descriptor, len(GGUF)) if stat.S_ISREG(mode) else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _record(home: Home, who: Identity, found: Decoded, *, against: CheckpointName) -> None:
    verdict = found.verdict
    detail: Detail = {"verdict": verdict.verdict, "candidates": verdict.candidates, "tried": verdict.tried}
    named = [one.copy for one in verdict.colluders] or ([verdict.copy] if verdict.copy else [])
    if named:
        detail["copies"] = ",".join(named)
    home.journal.record(Act(who.label, "lineage.decode", f"checkpoint:{against}"), "done", detail=detail)
