"""``strongroom lineage``: whose copy a file was made from, and the evidence for it."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from strongroom.cli.frame import Call, Group, Json, Place, common, moment
from strongroom.core.errors import AlreadyExists, BadInput, InputTooLarge
from strongroom.core.ids import CheckpointName
from strongroom.lineage.decode import Verdict
from strongroom.lineage.evidence import LIMITS
from strongroom.wiring.lineage import decode_file
from strongroom.wiring.mark_evidence import LIMIT, check_evidence, write_evidence

_READABLE = -6

lineage = Group("lineage", help="Marks in weights: whose copy a file was made from, and how sure that is.")


@lineage.command("decode", epilog="Example: strongroom lineage decode leaked.gguf --against chat:v1 --as carla")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--against", required=True, metavar="NAME:TAG", help="The checkpoint that it may be a copy of.")
@click.option("--evidence", metavar="FILE", type=Place(path_type=Path), help="Write what a stranger can check there.")
@click.option("--expert", metavar="NAME", help="Show the mark's secrets in the evidence, to the expert NAME. Logged.")
@common
def decode(call: Call, path: Path, *, against: str, evidence: Path | None, expert: str | None) -> None:
    """Say whose copy PATH (GGUF, safetensors, or a folder) was made from: match, no_match or inconclusive. Logged.

    Its weights must have the checkpoint's shape, units in their order. The p-value is exact, and corrected for every
    copy that was ever issued.
    """
    if expert is not None and evidence is None:
        raise BadInput("an expert is shown evidence: give --evidence FILE", where="--expert")
    if evidence is not None and evidence.exists():
        raise AlreadyExists("something stands there", where=str(evidence))
    title, who = CheckpointName.parse(against), call.identity()

    watch = functools.partial(call.progress, unit="weights")
    found = decode_file(call.home, who, path, against=title, watch=watch)
    if evidence is not None and found.verdict.verdict == "match":
        _write(evidence, write_evidence(call.home, who, found, against=title, expert=expert))
    document = _document(found.verdict) | {"version": found.version}
    if evidence is not None:
        document["evidence"] = str(evidence) if found.verdict.verdict == "match" else None
    call.emit(document, _words(found.verdict))


@lineage.command("check", epilog="Example: strongroom lineage check evidence.json --vkey 'strongroom.local/…+…+…'")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vkey", required=True, help="The log's verifier key: `strongroom ledger prove` prints it.")
@common
def check(call: Call, file: Path, *, vkey: str) -> None:
    """Recompute a verdict from its evidence, offline: no home is needed, only the file and the log's verifier key."""
    found = check_evidence(_read(file), vkey)
    entries: list[Json] = [{"index": one.index, "at": one.event.at} for one in found.entries]
    when = "; ".join(f"entry {one.index} of {moment(one.event.at)}" for one in found.entries)
    document = _document(found.verdict) | {"entries": entries, "expert": found.expert}
    call.emit(document, f"{_words(found.verdict)}\n  committed to in the ledger: {when}")


def _document(found: Verdict) -> dict[str, Json]:
    colluders: list[Json] = [
        {"recipient": one.recipient, "copy": one.copy, "log10_p": one.log10_p} for one in found.colluders
    ]
    strength: list[Json] = [{"manner": one.manner, "signal": one.signal, "noise": one.noise} for one in found.strength]
    return {
        "verdict": found.verdict,
        "recipient": found.recipient,
        "copy": found.copy,
        "log10_p": found.log10_p,
        "p_kind": found.p_kind,
        "candidates": found.candidates,
        "tried": found.tried,
        "colluders": colluders,
        "checkpoint_code": {"log10_p": found.checkpoint_log10_p},
        "strength": strength,
        "covered": found.covered,
        "method": found.method,
        "reason": found.reason,
        "limits": list(LIMITS),
    }


def _words(found: Verdict) -> str:
    lines = [found.verdict + (f" {found.recipient}" if found.recipient else ""), f"  {found.reason}"]
    lines += [f"  {one.recipient} (copy {one.copy}): p = {_chance(one.log10_p)}" for one in found.colluders]
    if not found.colluders:
        whose = f" of copy {found.copy}" if found.copy else ", of the copy that fits best"
        lines.append(f"  p{whose}: {_chance(found.log10_p)}, exact; corrected for {found.tried} copies ever issued")
    lines.append(f"  p of the checkpoint's own code: {_chance(found.checkpoint_log10_p)}, exact")
    lines += [f"  read {one.manner}: mark {one.signal:.3f}, noise {one.noise:.3f} a segment" for one in found.strength]
    return "\n".join(lines + [f"  - {one}" for one in LIMITS])


def _chance(log10: float) -> str:
    """Return a chance for people: as a power of ten where it is too small to be read otherwise."""
    return f"{10**log10:.2g}" if log10 > _READABLE else f"10^{log10:.0f}"


def _write(file: Path, raw: bytes) -> None:
    try:
        with file.open("xb") as stream:
            stream.write(raw)
    except OSError as error:
        raise BadInput(f"the evidence can't be written ({error.strerror})", where=str(file)) from None


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        raw = stream.read(LIMIT + 1)
    if len(raw) > LIMIT:
        raise InputTooLarge(f"over {LIMIT} bytes: no evidence", where=str(file))
    return raw
