"""Whose copy a file is: the mark's master secret, every copy that was issued, the original, and the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.copy_errors import NoSuchCopy, NothingToMark
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.housekeys import LINEAGE_MASTER
from strongroom.custody.marked import ReaderTensors
from strongroom.custody.vault import Purpose
from strongroom.ledger.journal import Act, Detail
from strongroom.lineage.codes import own_code
from strongroom.lineage.decode import Candidate, Reading, Verdict, decode, scheme_of
from strongroom.lineage.evidence import Made, committed
from strongroom.lineage.keys import CheckpointKeys, checkpoint_keys, derive
from strongroom.lineage.projections import find_projections
from strongroom.lineage.readings import against_original, blind
from strongroom.ports.marks import Progress, TensorInfo, Tensors
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home
from strongroom.wiring.suspects import open_suspect

Watch = Callable[[str], AbstractContextManager[Progress | None]]
"""Who is told of progress: called with what begins, in words."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A verdict, what it was read off, and what was committed to for each copy of that checkpoint version."""

    verdict: Verdict
    version: int
    readings: tuple[Reading, ...]
    table: Mapping[str, TensorInfo]  # the tensors by which units were numbered
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
    if not any(one.title == against for one in every):
        raise NoSuchCopy("no copy of it was ever issued", where=str(against))
    master = premises.housekeys.obtain(who, LINEAGE_MASTER, question)
    current = home.vault.registry.current(against).checkpoint
    with ExitStack() as stack:
        suspect = stack.enter_context(open_suspect(path))
        opened = home.vault.open(who, against, Purpose(question.purpose, {"for": "decode"}))
        original = ReaderTensors(stack.enter_context(opened))
        best = decode_copies(Case(master, suspect, original, current, every, watch), against)
    if best is None:
        raise NoSuchCopy("no copy of it was ever issued", where=str(against))
    _record(home, who, best, against=against)
    return best


def decode_copies(case: Case, title: CheckpointName) -> Decoded | None:
    """Compare a suspect with every copy of `title`, version by version, and return what fits best.

    Returns:
        None if no copy of it was ever issued.

    """
    versions: dict[tuple[str, int], list[IssuedCopy]] = {}
    for one in case.every:
        if one.title == title:
            versions.setdefault((one.checkpoint, one.mark.segments), []).append(one)
    return min((_decode(case, copies) for copies in versions.values()), key=_rank, default=None)


@dataclass(frozen=True, slots=True)
class Case:
    """A suspect, and what all of its comparisons share."""

    master: Secret
    suspect: Tensors
    original: Tensors  # of the current version
    current: str  # its id
    every: Sequence[IssuedCopy]  # every copy of every checkpoint
    watch: Watch


def _decode(case: Case, copies: Sequence[IssuedCopy]) -> Decoded:
    """Compare the suspect with the copies of one checkpoint version and one number of segments."""
    checkpoint, segments = copies[0].checkpoint, copies[0].mark.segments
    keys = checkpoint_keys(case.master, checkpoint)
    table = _table(case, copies[0])
    readings = _readings(case, copies[0], table, keys=keys)
    scheme = scheme_of(keys.biases, keys.common, segments=segments)
    codes = {one.copy: own_code(derive(case.master, "code", one.copy), scheme.bias) for one in copies}
    verdict = decode(
        readings,
        scheme,
        [Candidate(one.copy, one.recipient.name, codes[one.copy]) for one in copies],
        tried=len(case.every),
        versions=len({one.checkpoint for one in case.every}),
    )
    made = {one.copy: committed(case.master, checkpoint, one.copy, segments=segments) for one in copies}
    return Decoded(verdict, copies[0].version, tuple(readings), table or {}, {one.copy: one for one in copies}, made)


def _readings(
    case: Case, copy: IssuedCopy, table: Mapping[str, TensorInfo] | None, *, keys: CheckpointKeys
) -> list[Reading]:
    """Read the suspect's segments by a table of tensors: blind, and against the original if that is at hand."""
    segments = copy.mark.segments
    if table is None:
        return [Reading("blind", np.full(segments, np.nan), 0.0)]
    where = find_projections(table)
    with case.watch("reading the suspect") as progress:
        found = [blind(case.suspect, where, keys, segments=segments, progress=progress)]
    if copy.checkpoint == case.current:
        found.append(against_original(case.suspect, case.original, where, keys=keys, segments=segments))
    return found


def _table(case: Case, copy: IssuedCopy) -> Mapping[str, TensorInfo] | None:
    """Return the tensors by which the units of a copy's version are numbered, or None if nobody knows them any more.

    An older version's weights are not at hand. Mostly the current one has the same tensors; else the suspect's own will
    do, if they are whole.
    """
    for infos in (case.original.infos(), case.suspect.infos()):
        with suppress(NothingToMark):
            if copy.checkpoint == case.current or find_projections(infos).units == copy.mark.units:
                return infos
    return None


def _rank(one: Decoded) -> tuple[int, float, float]:
    order = {"match": 0, "inconclusive": 1, "no_match": 2}
    return order[one.verdict.verdict], one.verdict.log10_p, one.verdict.checkpoint_log10_p


def _record(home: Home, who: Identity, found: Decoded, *, against: CheckpointName) -> None:
    verdict = found.verdict
    detail: Detail = {"verdict": verdict.verdict, "candidates": verdict.candidates, "tried": verdict.tried}
    named = [one.copy for one in verdict.colluders] or ([verdict.copy] if verdict.copy else [])
    if named:
        detail["copies"] = ",".join(named)
    home.journal.record(Act(who.label, "lineage.decode", f"checkpoint:{against}"), "done", detail=detail)
