"""A trace's report: what was found, signed by whoever traced, with proofs from the ledger; and how it is replayed.

The report holds what the verdict is made of, never the verdict: whoever reads it makes it again by the same functions,
so there is nothing that could say otherwise than the figures. Codes of copies are in it only if they are disclosed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from strongroom.access.identity import Identity
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.core.ids import CheckpointName
from strongroom.custody.copy_formats import CopyIssuer
from strongroom.custody.formats import pae
from strongroom.custody.registry import SEALED
from strongroom.ledger.events import Entry, Receipt
from strongroom.ledger.proofs import verify_bundle
from strongroom.lineage.ancestry import AncestorFound, rejudged
from strongroom.lineage.bank import bank_digest, null_bank
from strongroom.lineage.traced import Evidence, LineageFound, Trace, conclude
from strongroom.lineage.verdict import judge
from strongroom.wiring.home import Home
from strongroom.wiring.mark_evidence import SignedEvidence, Trust, check_evidence, write_evidence
from strongroom.wiring.suspects import digest_of
from strongroom.wiring.trace import TRACED, Traced

LIMIT: Final = 64 << 20
TYPE: Final = "application/vnd.strongroom.lineage-report.v1+json"
_WHERE: Final = "report"
_NEAR: Final = 1e-6

_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Proof = Annotated[str, msgspec.Meta(max_length=2 << 20)]


class ReportedCheckpoint(Record, frozen=True):
    """The checkpoint that was found: which version, and the ledger's proof of its sealing."""

    name: str
    version: int
    manifest: str
    sealed: _Proof


class LineageReport(Record, frozen=True, kw_only=True):
    """What whoever traced says."""

    format: Literal["strongroom/lineage-report@1"] = "strongroom/lineage-report@1"
    made: Annotated[str, msgspec.Meta(max_length=40)]
    tracer: CopyIssuer
    file: Annotated[str, msgspec.Meta(max_length=400)]  # the suspect's name
    suspect: _Digest
    bank: _Digest
    evidence: Evidence
    checkpoint: ReportedCheckpoint | None
    commitments: tuple[str, ...]  # of the marks of the copies that are named
    marks: SignedEvidence | None  # what the recipient's p-value is made of, if it was disclosed
    traced: _Proof  # of the ledger's entry of this trace


class SignedReport(Record, frozen=True, kw_only=True):
    """The file."""

    said: LineageReport
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a stranger found: the verdict as made again, and what was and was not looked at."""

    said: LineageReport
    trace: Trace
    entries: tuple[Entry, ...]  # of the ledger, proven
    notes: tuple[str, ...]


def write_report(home: Home, who: Identity, found: Traced, *, path: Path, disclose: bool = False) -> bytes:
    """Return the signed report of a trace of the suspect at `path`.

    With `disclose`, the codes of the copies that are named are shown in it, and the ledger says so first.
    """
    trace = conclude(found.evidence)
    marks: SignedEvidence | None = None
    if disclose and found.decoded is not None and trace.recipient.verdict == "match":
        raw = write_evidence(home, who, found.decoded, path=path)
        marks = decode(raw, SignedEvidence, where=_WHERE)
    said = LineageReport(
        made=stamp(home.journal.clock.now()),
        tracer=CopyIssuer(name=who.name, keys=who.keyring.public),
        file=path.name[:400],
        suspect=found.suspect,
        bank=bank_digest(null_bank()),
        evidence=found.evidence,
        checkpoint=_checkpoint(home, trace.checkpoint),
        commitments=_commitments(found),
        marks=marks,
        traced=_proof(home, found.receipt),
    )
    return encode(SignedReport(said=said, signature=who.keyring.sign(pae(TYPE, encode(said)))))


def read_report(raw: bytes) -> SignedReport:
    """Return what a report's bytes say, unchecked.

    Raises:
        BadInput: it is no report.

    """
    return decode(raw, SignedReport, where=_WHERE, canonical=False)


def replay_report(raw: bytes, trust: Trust | None = None, *, suspect: Path | None = None) -> Replayed:
    """Make a report's verdict again, and check what it says against the log that is trusted.

    Without `trust`, the ledger's proofs are not checked, and the notes say so.

    Raises:
        ProofInvalid: a signature, a proof, or a p-value is not what the figures make it.
        BadInput: it is no report, or was made with another null bank.

    """
    signed = read_report(raw)
    said = signed.said
    try:
        said.tracer.keys.verify(signed.signature, pae(TYPE, encode(said)), where=_WHERE)
    except SignatureInvalid:
        raise ProofInvalid(f"{said.tracer.name} did not sign it", where=_WHERE) from None
    _check_figures(said)
    notes = ["The figures of the suspect's tests are the tracer's: only whoever has both files can take them again."]
    entries: tuple[Entry, ...] = ()
    if trust is None:
        notes.append("No log was trusted, so the ledger's proofs were not checked: give its key with --vkey.")
    else:
        entries = _check_proofs(said, trust)
    notes += _check_marks(said, trust)
    if suspect is None:
        notes.append("The suspect was not looked at: give it with --suspect.")
    elif digest_of(suspect) != said.suspect:
        raise ProofInvalid("this is not the file that was traced", where=str(suspect))
    return Replayed(said, conclude(said.evidence), entries, tuple(notes))


def _checkpoint(home: Home, name: str | None) -> ReportedCheckpoint | None:
    if name is None:
        return None
    title = CheckpointName.parse(name)
    record, pin = home.vault.registry.current(title), home.vault.registry.pin(title)
    sealed = home.ledger.prove(pin.index).decode()
    return ReportedCheckpoint(name=name, version=record.version, manifest=record.manifest, sealed=sealed)


def _commitments(found: Traced) -> tuple[str, ...]:
    recipient = found.evidence.recipient
    if found.decoded is None or recipient.verdict != "match":
        return ()
    named = [one.copy for one in recipient.colluders] or [recipient.copy or ""]
    return tuple(found.decoded.copies[copy].mark.commitment for copy in named if copy in found.decoded.copies)


def _proof(home: Home, receipt: Receipt) -> str:
    return home.ledger.prove(receipt.index).decode()


def _check_figures(said: LineageReport) -> None:
    """Judge the tests again, by this version's bank.

    Raises:
        ProofInvalid: the p-values are not those of the tests.
        BadInput: they rest on another null bank.

    """
    evidence = said.evidence
    calibrated = evidence.ancestor is not None or (evidence.lineage is not None and evidence.lineage.p_kind != "exact")
    if calibrated and said.bank != bank_digest(null_bank()):
        remedy = "Replay it with the version of Strongroom that made it."
        raise BadInput("its p-values rest on another null bank than this version's", where=_WHERE, remedy=remedy)
    if evidence.lineage is not None:
        _check_lineage(evidence.lineage, evidence.related)
    if evidence.ancestor is not None and not _alike(evidence.ancestor, rejudged(evidence.ancestor, null_bank())):
        raise ProofInvalid("what is said of the public base is not what its figures make", where=_WHERE)


def _check_lineage(found: LineageFound, related: str) -> None:
    again = judge(found.tests, null_bank(), tried=found.tried)
    told = (found.method, found.p_kind, related)
    if told != (again.method, again.p_kind, again.related) or not math.isclose(
        found.log10_p, again.log10_p, rel_tol=_NEAR, abs_tol=_NEAR
    ):
        message = f"made again, the tests say {again.related} by {again.method}, p = 10^{again.log10_p:.2f}"
        raise ProofInvalid(message, where=_WHERE)


def _alike(one: AncestorFound, other: AncestorFound) -> bool:
    return one.relation == other.relation and math.isclose(one.log10_p, other.log10_p, abs_tol=_NEAR)


def _check_proofs(said: LineageReport, trust: Trust) -> tuple[Entry, ...]:
    """Return the entries of the trace and of the checkpoint's sealing, proven.

    Raises:
        ProofInvalid: they are of something else.

    """
    traced = verify_bundle(said.traced.encode(), trust.vkey, witnesses=trust.witnesses)
    event = traced.event
    if event.action != TRACED or event.detail.get("suspect") != said.suspect:
        raise ProofInvalid("the ledger's entry is not of this trace", where=_WHERE)
    if event.who.partition(":")[2] != said.tracer.name:
        raise ProofInvalid("somebody else traced it", where=_WHERE)
    if said.checkpoint is None:
        return (traced,)
    sealed = verify_bundle(said.checkpoint.sealed.encode(), trust.vkey, witnesses=trust.witnesses)
    detail = sealed.event.detail
    there = (sealed.event.action, sealed.event.object, detail.get("version"), detail.get("manifest"))
    one = said.checkpoint
    if there != (SEALED, f"checkpoint:{one.name}", one.version, one.manifest) or one.name != said.evidence.checkpoint:
        raise ProofInvalid("the ledger's entry is not of the checkpoint's sealing", where=_WHERE)
    return traced, sealed


def _check_marks(said: LineageReport, trust: Trust | None) -> Sequence[str]:
    """Make the recipient's verdict again, if it was disclosed; return what was not looked at.

    Raises:
        ProofInvalid: it names others, or is of another file.

    """
    recipient = said.evidence.recipient
    if recipient.verdict != "match":
        return ()
    if said.marks is None:
        return ["The codes of the copies are not shown in it, so the recipient's p-value was not made again."]
    if trust is None:
        return ["The recipient's p-value was not made again: that takes a log that is trusted (--vkey)."]
    checked = check_evidence(encode(said.marks), trust)
    again = checked.verdict
    named = [one.copy for one in again.colluders] or [again.copy]
    told = [one.copy for one in recipient.colluders] or [recipient.copy]
    near = math.isclose(again.log10_p, recipient.log10_p, rel_tol=_NEAR)
    if sorted(map(str, named)) != sorted(map(str, told)) or said.marks.said.suspect != said.suspect or not near:
        raise ProofInvalid("the evidence of the marks does not say what the report says", where=_WHERE)
    return ()
