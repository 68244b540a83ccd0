"""Theft one after the leak: one holder of a marked copy launders it, alone, and `lineage trace` has to say what it is.

The guard is the trace. Every row says what the laundering cost the model in perplexity, what the trace found, and
whether that is right: the checkpoint, whose copy, how it was made. Strangers, other people's fine-tunes of the same
public base and models trained on the same data must not match. Runs on models that it makes itself, in a folder of the
caller's (rule 13).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Final

import msgspec

from strongroom.attacks.bench import copy_name
from strongroom.attacks.launder_lab import TOKENS, Lab
from strongroom.attacks.leaker import LEAKER, Progress
from strongroom.attacks.rows import LaunderRow
from strongroom.attacks.steps import is_derived
from strongroom.attacks.suspects import Case, Made, chosen
from strongroom.attacks.tracer import Tracer
from strongroom.core.errors import MissingExtra
from strongroom.engines.folder import make_folder
from strongroom.lineage.traced import RecipientFound, Trace

ROWS: Final = "launder-rows.jsonl"
_PLACE: Final = "launder-suspects"


def run(
    work: Path, *, only: Collection[str] = (), tokens: int = TOKENS, fresh: bool = False, progress: Progress
) -> list[LaunderRow]:
    """Trace every suspect (those named in `only`, or all) and return a row for each.

    A row is kept in `work` as soon as it is there, so that a run which was cut short goes on.

    Args:
        work: a folder for models: some 6 GB, kept for the next run.
        only: names of rows.
        tokens: that the perplexity of each suspect is measured on, about; 0: not at all.
        fresh: make them again where they are kept.
        progress: told (what, done, in all).

    Raises:
        BadInput: a name that is no row's.
        MissingExtra: torch or the demo's model is not installed.

    """
    wanted = chosen(list(only))
    make_folder(work)
    kept = {} if fresh else _kept(work / ROWS)
    lab = Lab(work, tokens=tokens, progress=progress)
    tracer = Tracer(lab)
    for at, case in enumerate(wanted):
        progress("suspects", at, len(wanted))
        if case.name not in kept:
            kept[case.name] = _row(lab, tracer, case)
            _keep(work / ROWS, kept[case.name])
    progress("suspects", len(wanted), len(wanted))
    return [kept[case.name] for case in wanted]


def _row(lab: Lab, tracer: Tracer, case: Case) -> LaunderRow:
    """Make a suspect, trace it, and say what came of it; a model that is not installed has a row that says so."""
    place = make_folder(lab.work / _PLACE) / case.name
    try:
        made = case.make(lab, place)
        found, seconds = tracer(made.path, case.against)
        return _judged(case, found, seconds, cost=_cost(lab, made))
    except MissingExtra as missing:
        return _skipped(case, f"{missing.message}: {missing.where}")
    finally:
        for one in place.parent.glob(f"{case.name}*"):
            shutil.rmtree(one) if one.is_dir() else one.unlink()


def _judged(case: Case, found: Trace, seconds: float, *, cost: float | None) -> LaunderRow:
    """Return the row of what a trace found."""
    seen = found.lineage
    return LaunderRow(
        attack=case.name,
        expected=case.expected,
        verdict=found.verdict,
        checkpoint=found.checkpoint,
        log10_p=seen.log10_p if seen else 0.0,
        p_kind=seen.p_kind if seen else "",
        method=seen.method if seen else "",
        effect=seen.effect if seen else 0.0,
        expected_named="right" if case.is_named else "nobody",
        named=_named(found.recipient),
        derivation=tuple(f"{one.kind}: {one.detail}" for one in found.derivation),
        expected_derivation=tuple(str(one) for one in case.derivation),
        derivation_right=is_derived(found.derivation, case.derivation) if case.derivation else None,
        perplexity=cost,
        seconds=round(seconds, 2),
    )


def _skipped(case: Case, why: str) -> LaunderRow:
    """Return the row of a suspect that could not be made."""
    wanted = "right" if case.is_named else "nobody"
    return LaunderRow(
        case.name, case.expected, "skipped", None, 0.0, "", "", 0.0, wanted, "nobody", (), (), None, None, 0.0, why
    )


def _named(found: RecipientFound) -> str:
    """Say whether the leaker and nobody else is named."""
    named = {one.copy for one in found.colluders} or {found.copy}
    if found.verdict != "match" or named == {None}:
        return "nobody"
    return "right" if named == {copy_name(LEAKER)} else "wrong"


def _cost(lab: Lab, made: Made) -> float | None:
    return None if made.model is None else lab.cost(made.model)


def _keep(file: Path, row: LaunderRow) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(row)) + "\n")


def _kept(file: Path) -> dict[str, LaunderRow]:
    """Return the rows of earlier runs, the last of each; a line that was cut off, or of other columns, is none."""
    found: dict[str, LaunderRow] = {}
    for line in file.read_bytes().splitlines() if file.is_file() else []:
        try:
            row = msgspec.json.decode(line, type=LaunderRow)
        except msgspec.DecodeError:
            continue
        found[row.attack] = row
    return found
