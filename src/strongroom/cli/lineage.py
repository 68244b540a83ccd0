"""``strongroom lineage``: whose copy a file was made from, and the evidence for it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TypedDict, Unpack

import click

from strongroom.cli.files import read_bounded, write_private
from strongroom.cli.frame import Call, Group, Json, Place, common, moment
from strongroom.cli.ledger import read_vkey
from strongroom.cli.trace import base, compare, replay, trace
from strongroom.cli.trace_words import chance
from strongroom.core.errors import AlreadyExists, BadInput
from strongroom.core.ids import CheckpointName
from strongroom.lineage.decode import Verdict
from strongroom.lineage.evidence import LIMITS
from strongroom.wiring.lineage import decode_file
from strongroom.wiring.mark_evidence import LIMIT, Checked, Trust, check_evidence, write_evidence

lineage = Group("lineage", help="Where a file of weights comes from, whose copy it is, and how sure that is.")
for _one in (trace, compare, base, replay):
    lineage.add_command(_one)


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
    said = _words(found.verdict)
    if evidence is not None and found.verdict.verdict == "match":
        write_private(evidence, write_evidence(call.home, who, found, path=path, expert=expert), what="evidence")
        said += f"\nThe evidence is in {evidence}."
        if expert is not None:
            said += (
                f"\nIt shows {expert} the secrets of this checkpoint's marks: whoever has it can find, wipe out and"
                " forge the mark of every copy. Give it to nobody else."
            )
    elif evidence is not None:
        said += "\nNobody is named, so no evidence was written."
    document = _document(found.verdict) | {"version": found.version}
    if evidence is not None:
        document["evidence"] = str(evidence) if found.verdict.verdict == "match" else None
    call.emit(document, said)


class _Trusted(TypedDict):
    """The options of ``check``."""

    vkey: str
    issuer: str | None
    witness: tuple[str, ...]
    suspect: Path | None


@lineage.command("check", epilog="Example: strongroom lineage check evidence.json --vkey log.vkey --issuer 9f2c…")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vkey", required=True, help="The log's verifier key, or a file that holds it.")
@click.option("--issuer", metavar="FINGERPRINT", help="Whose deeds alone count: 64 hexadecimal digits.")
@click.option("--witness", multiple=True, metavar="VKEY", help="A witness that must have cosigned. May be given again.")
@click.option(
    "--suspect",
    type=click.Path(exists=True, path_type=Path),
    help="The accused file: its digest is compared, and an expert's evidence is read off it again.",
)
@common
def check(call: Call, file: Path, **trusted: Unpack[_Trusted]) -> None:
    """Recompute a verdict from its evidence, offline: no home is needed, only the file and what the stranger trusts."""
    trust = Trust(read_vkey(trusted["vkey"]), trusted["witness"], trusted["issuer"])
    found = check_evidence(read_bounded(file, LIMIT, what="evidence"), trust, suspect=trusted["suspect"])
    said = found.said
    entries: list[Json] = [{"index": one.index, "at": one.event.at} for one in found.entries]
    issuers: list[Json] = [{"name": one.name, "fingerprint": one.keys.fingerprint()} for one in found.issuers]
    notes = _notes(found, pinned=trust.issuer is not None, compared=trusted["suspect"] is not None)
    told: list[Json] = [*notes]
    document = _document(found.verdict) | {
        "entries": entries,
        "issuers": issuers,
        "accuser": {"name": said.accuser.name, "fingerprint": said.accuser.keys.fingerprint()},
        "made": said.made,
        "suspect": said.suspect,
        "expert": said.expert,
        "read_again": found.read_again,
        "notes": told,
    }
    when = "; ".join(f"entry {one.index}, {moment(one.event.at)} by the home's clock" for one in found.entries)
    who = ", ".join(f"{one.name} ({one.keys.fingerprint()})" for one in found.issuers)
    lines = [
        _words(found.verdict),
        f"  accused by {said.accuser.name} ({said.accuser.keys.fingerprint()}), {moment(said.made)}",
        f"  the file's SHA-256: {said.suspect}",
        f"  committed to in the ledger: {when}",
        f"  issued by {who}",
    ]
    if said.expert is not None:
        lines.append(f"  shows the mark's secrets to {said.expert}")
    if found.read_again:
        lines.append("  the blind values were read off the file again: they are these, and name the same by themselves")
    call.emit(document, "\n".join([*lines, *(f"  - {one}" for one in notes)]))


def _notes(found: Checked, *, pinned: bool, compared: bool) -> list[str]:
    """Return what this check, in particular, did not look at."""
    notes: list[str] = []
    if not pinned:
        notes.append("No issuer was given: compare the fingerprint with the issuer's own, and give it with --issuer.")
    if not compared:
        notes.append("The accused file was not looked at: give it with --suspect.")
    elif not found.read_again:
        notes.append("The file is the accused one; its values were not read again, which takes an expert's evidence.")
    return notes


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
    named = dict.fromkeys(one.recipient for one in found.colluders) or ([found.recipient] if found.recipient else [])
    lines = [" ".join([found.verdict, ", ".join(named)]).strip(), f"  {found.reason}"]
    lines += [f"  {one.recipient} (copy {one.copy}): p = {chance(one.log10_p)}" for one in found.colluders]
    if not found.colluders:
        whose = f" of copy {found.copy}" if found.copy else ", of the copy that fits best"
        lines.append(f"  p{whose}: {chance(found.log10_p)}, exact; corrected for {found.tried} copies ever issued")
    lines.append(f"  p of the checkpoint's own code: {chance(found.checkpoint_log10_p)}, exact")
    lines += [f"  read {one.manner}: mark {one.signal:.3f}, noise {one.noise:.3f} a segment" for one in found.strength]
    return "\n".join(lines + [f"  - {one}" for one in LIMITS])
