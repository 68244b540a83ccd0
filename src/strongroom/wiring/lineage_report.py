"""A trace's report: what was found, signed by whoever traced, with proofs from the ledger; and how it is replayed.

The report holds what the verdict is made of, never the verdict: whoever reads it makes it again by the same functions,
so there is nothing that could say otherwise than the figures. The figures stand in the ledger by their digest, under
the key that signs: nobody changes them afterwards, or signs them anew. Codes of copies are in it only if disclosed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from strongroom.access.identity import Identity
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.custody.copy_formats import CopyIssuer
from strongroom.custody.formats import pae
from strongroom.custody.registry import SEALED
from strongroom.ledger.events import Entry
from strongroom.ledger.proofs import MAX_BUNDLE, verify_bundle
from strongroom.lineage.bank import bank_digest, null_bank
from strongroom.lineage.compare import EXACT, Outcome, compare
from strongroom.lineage.layers import LayerMatch
from strongroom.lineage.model import model_of
from strongroom.lineage.recheck import needs_bank, recheck
from strongroom.lineage.signature import tensor_digests
from strongroom.lineage.traced import ColluderFound, LineageFound, Trace, conclude, is_marked
from strongroom.lineage.verdict import judge
from strongroom.wiring.home import Home
from strongroom.wiring.mark_evidence import SignedEvidence, Trust, check_evidence, write_evidence
from strongroom.wiring.suspects import digest_of, open_suspect, vocabulary_of
from strongroom.wiring.trace import TRACED, Figures, Traced, named_copies, weights_digest

LIMIT: Final = 64 << 20
TYPE: Final = "application/vnd.strongroom.lineage-report.v1+json"
_WHERE: Final = "report"
_NEAR: Final = 1e-6
_OTHER: Final = "Give the file itself, with what lay beside it; if this is it, do not believe the report."
_OFF: Final = 2  # hits, or ranks
_ALIKE: Final = 0.02  # of a test's effect: processors add in different orders, and a unit or two falls otherwise

_Proof = Annotated[str, msgspec.Meta(max_length=MAX_BUNDLE)]


class LineageReport(Record, frozen=True, kw_only=True):
    """What whoever traced says."""

    format: Literal["strongroom/lineage-report@1"] = "strongroom/lineage-report@1"
    made: Annotated[str, msgspec.Meta(max_length=40)]
    tracer: CopyIssuer
    file: Annotated[str, msgspec.Meta(max_length=400)]  # the suspect's name
    figures: Figures
    marks: SignedEvidence | None  # what the recipient's p-value is made of, if it was disclosed
    traced: _Proof  # of the ledger's entry of this trace
    sealed: _Proof | None  # of the entry by which the checkpoint's version counts


class SignedReport(Record, frozen=True, kw_only=True):
    """The file."""

    said: LineageReport
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


@dataclass(frozen=True, slots=True)
class Looked:
    """What a replay looked at."""

    ledger: bool  # the figures stand in the log, under the tracer's key, and so does the checkpoint
    marks: bool | None  # the recipient's p-value was made again; None where no mark was found
    suspect: bool  # the file is the one that was traced
    tests: bool  # the tests were made again, on both files


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a stranger found: the verdict as made again, and what was and was not looked at."""

    said: LineageReport
    trace: Trace
    entries: tuple[Entry, ...]  # of the ledger, proven
    looked: Looked
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Files:
    """What a stranger was given beside the report: the suspect, and the checkpoint's own files."""

    suspect: Path | None = None
    against: Path | None = None


def write_report(home: Home, who: Identity, found: Traced, *, path: Path, disclose: bool = False) -> bytes:
    """Return the signed report of a trace of the suspect at `path`.

    With `disclose`, the codes of the copies that are named are shown in it, and the ledger says so first.
    """
    marks: SignedEvidence | None = None
    if disclose and found.decoded is not None and found.evidence.recipient.verdict == "match":
        raw = write_evidence(home, who, found.decoded, path=path)
        marks = decode(raw, SignedEvidence, where=_WHERE)
    said = LineageReport(
        made=stamp(home.journal.clock.now()),
        tracer=CopyIssuer(name=who.name, keys=who.keyring.public),
        file=path.name[:400],
        figures=found.figures,
        marks=marks,
        traced=home.ledger.prove(found.receipt.index).decode(),
        sealed=None if found.sealed is None else home.ledger.prove(found.sealed).decode(),
    )
    return encode(SignedReport(said=said, signature=who.keyring.sign(pae(TYPE, encode(said)))))


def read_report(raw: bytes) -> SignedReport:
    """Return what a report's bytes say, unchecked but for their form.

    Raises:
        BadInput: it is no report, or is spelled in another way than it is signed.

    """
    return decode(raw, SignedReport, where=_WHERE)


def replay_report(raw: bytes, trust: Trust | None = None, *, files: Files | None = None) -> Replayed:
    """Make a report's verdict again, and check what it says against the log that is trusted.

    Without `trust`, the ledger's proofs are not checked; with both of `files`, the tests are made again. What was not
    looked at is told.

    Raises:
        ProofInvalid: a signature, a proof, a p-value or a file is not what the report says, or figures in it can't
            belong together.
        BadInput: it is no report, was made with another null bank, or a file can't be read as weights.

    """
    signed, files = read_report(raw), files or Files()
    said = signed.said
    try:
        said.tracer.keys.verify(signed.signature, pae(TYPE, encode(said)), where=_WHERE)
    except SignatureInvalid:
        raise ProofInvalid(f"{said.tracer.name} did not sign it", where=_WHERE) from None
    trace = _check_figures(said.figures)
    entries = () if trust is None else _check_proofs(said, trace, trust)
    marks = _check_marks(said, trust)
    if files.suspect is not None and digest_of(files.suspect) != said.figures.suspect:
        raise ProofInvalid("this is not the file that was traced", where=str(files.suspect), remedy=_OTHER)
    again = _run_again(said.figures, files)
    looked = Looked(ledger=trust is not None, marks=marks, suspect=files.suspect is not None, tests=again)
    return Replayed(said, trace, entries, looked, _notes(said, looked))


def _check_figures(figures: Figures) -> Trace:
    """Judge the tests again, by this version's bank; return the verdict.

    Raises:
        ProofInvalid: what is said of them is not what they make.
        BadInput: they rest on another null bank.

    """
    evidence = figures.evidence
    if needs_bank(evidence) and figures.bank != bank_digest(null_bank()):
        remedy = "Replay it with the version of Strongroom that made it."
        raise BadInput("its p-values rest on another null bank than this version's", where=_WHERE, remedy=remedy)
    recheck(evidence, null_bank())
    trace, one = conclude(evidence), figures.checkpoint
    if (one.name if one else None) != trace.checkpoint:
        raise ProofInvalid("the checkpoint is not the one that was found", where=_WHERE)
    if evidence.ancestor and evidence.ancestor.base not in {base.name for base in figures.bases}:
        raise ProofInvalid("the public base is none of those that were considered", where=_WHERE)
    named = named_copies(evidence.recipient) if evidence.recipient.verdict == "match" else []
    if len(figures.commitments) != len(named):
        raise ProofInvalid("not every copy that is named has its commitment", where=_WHERE)
    return trace


def _check_proofs(said: LineageReport, trace: Trace, trust: Trust) -> tuple[Entry, ...]:
    """Return the entries of the trace and of the checkpoint's sealing, proven.

    Raises:
        ProofInvalid: they are of something else.

    """
    traced = verify_bundle(said.traced.encode(), trust.vkey, witnesses=trust.witnesses)
    event, detail = traced.event, traced.event.detail
    there = (event.action, event.object, event.outcome, detail.get("verdict"), detail.get("figures"))
    if there != (TRACED, f"checkpoint:{trace.checkpoint or '-'}", "done", trace.verdict, digest(said.figures)):
        raise ProofInvalid("the ledger's entry is not of this trace, or its figures were changed since", where=_WHERE)
    if (event.who.partition(":")[2], detail.get("key")) != (said.tracer.name, said.tracer.keys.fingerprint()):
        raise ProofInvalid("somebody else traced it, or signed with another key", where=_WHERE)
    one = said.figures.checkpoint
    if (one is None) != (said.sealed is None):
        raise ProofInvalid("a checkpoint without the proof of its sealing, or the reverse", where=_WHERE)
    if one is None or said.sealed is None:
        return (traced,)
    sealed = verify_bundle(said.sealed.encode(), trust.vkey, witnesses=trust.witnesses)
    event, detail = sealed.event, sealed.event.detail
    there = (event.action, event.object, event.outcome, detail.get("version"), detail.get("digest"))
    if there != (SEALED, f"checkpoint:{one.name}", "done", one.version, one.manifest) or sealed.index >= traced.index:
        raise ProofInvalid("the ledger's entry is not of the checkpoint's sealing", where=_WHERE)
    return traced, sealed


def _check_marks(said: LineageReport, trust: Trust | None) -> bool | None:
    """Make the recipient's verdict again, if it was disclosed. Return whether it was; None if there is no mark.

    Raises:
        ProofInvalid: it names others, by another p-value, or is of another file or checkpoint.

    """
    told = said.figures.evidence.recipient
    if said.marks is None or trust is None:
        return False if is_marked(told) else None
    checked, marks = check_evidence(encode(said.marks), trust), said.marks.said
    again, deeds = checked.verdict, {one.deed.copy: one.deed for one in marks.copies}
    several = [ColluderFound(name=one.recipient, copy=one.copy, log10_p=one.log10_p) for one in again.colluders]
    whose = [(told.name, told.copy), *((one.name, one.copy) for one in told.colluders)]
    theirs = [(again.recipient, again.copy), *((one.name, one.copy) for one in several)]
    figures = [told.log10_p, told.checkpoint_log10_p, *(one.log10_p for one in told.colluders)]
    made = [again.log10_p, again.checkpoint_log10_p, *(one.log10_p for one in several)]
    same = told.verdict == again.verdict and told.tried == again.tried and whose == theirs
    near = len(figures) == len(made) and all(map(_near, figures, made))
    about = {str(one.title) for one in deeds.values()} == {said.figures.evidence.checkpoint}
    by = (marks.suspect, marks.accuser) == (said.figures.suspect, said.tracer)
    committed = {copy: one.mark.commitment for copy, one in deeds.items()}
    bound = list(said.figures.commitments) == [committed.get(copy) for copy in named_copies(told)]
    if not (same and near and about and by and bound):
        raise ProofInvalid("the evidence of the marks does not say what the report says", where=_WHERE)
    return True


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_NEAR, abs_tol=_NEAR)


def _run_again(figures: Figures, files: Files) -> bool:
    """Make the tests again on the files that were given; return whether there were any.

    Raises:
        ProofInvalid: the checkpoint's files are not those that were traced to, or the tests say something else.
        BadInput: they can't be read as weights.

    """
    told, one = figures.evidence.lineage, figures.checkpoint
    if told is None or files.suspect is None or files.against is None:
        return False
    with open_suspect(files.against) as source, open_suspect(files.suspect, partial=True) as suspect:
        if one is not None and weights_digest(tensor_digests(source)) != one.weights:
            message = "these are not the weights that it was traced to"
            raise ProofInvalid(message, where=str(files.against), remedy=_OTHER)
        if vocabulary_of(suspect) != figures.vocabulary:
            raise ProofInvalid("the suspect was traced with another tokenizer", where=str(files.suspect), remedy=_OTHER)
        found = compare(model_of(source, source.tokens()), model_of(suspect, suspect.tokens()))
    related = judge(found.tests, null_bank(), tried=told.tried).related
    same = related == figures.evidence.related and _same_tests(told.tests, found.tests)
    if not (same and _same_layers(told, found.layers)):
        raise ProofInvalid("made again on these files, the tests say something else", where=str(files.against))
    return True


def _same_tests(told: tuple[Outcome, ...], made: tuple[Outcome, ...]) -> bool:
    """Whether two runs of the tests came to the same."""
    if [(one.method, one.of, one.permutations) for one in told] != [
        (one.method, one.of, one.permutations) for one in made
    ]:
        return False
    pairs = list(zip(told, made, strict=True))
    choices = all(_near(one.choices, other.choices) for one, other in pairs if one.method in EXACT)
    counts = all(abs(one.hits - other.hits) <= _OFF and _same_ranks(one, other) for one, other in pairs)
    return choices and counts and all(abs(one.effect - other.effect) <= _ALIKE for one, other in pairs)


def _same_ranks(told: Outcome, made: Outcome) -> bool:
    return len(told.ranks) == len(made.ranks) and all(
        abs(one - other) <= _OFF for one, other in zip(told.ranks, made.ranks, strict=True)
    )


def _same_layers(told: LineageFound, made: tuple[LayerMatch, ...]) -> bool:
    """Whether two maps are of the same layers, but for those that hardly fit anywhere."""
    ours = {(one, other) for one, other, fraction in told.layer_map if fraction >= 0.5}  # noqa: PLR2004 - most of it
    theirs = {(one.suspect, one.source): one.fraction for one in made}
    shares = {(one, other): fraction for one, other, fraction in told.layer_map}
    return ours <= set(theirs) and all(abs(shares[one] - theirs[one]) <= 4 * _ALIKE for one in ours)


def _notes(said: LineageReport, looked: Looked) -> tuple[str, ...]:
    """Return in words what was not looked at."""
    notes: list[str] = []
    if not looked.tests:
        notes.append(
            "How many units and coordinates fit is the tracer's word: give the suspect and the checkpoint's files "
            "(--suspect, --against), and it is counted again."
        )
    told = said.figures.evidence
    notes.append(
        "How many checkpoints and copies there are, and which public bases, is the tracer's word: a base that was "
        "never registered makes a match of a relative."
    )
    if said.figures.checkpoint is not None:
        notes.append(
            "That the checkpoint holds these weights is the tracer's word: the log says what was sealed when, "
            "encrypted, and not what is in it. Have it opened (strongroom custody export) and compared."
        )
    if told.ancestor is not None or told.derivation:
        notes.append(
            "The slopes on a public base and the steps of the derivation are the tracer's word: they were not taken "
            "again."
        )
    if not looked.ledger:
        notes.append(
            "No log was trusted (--vkey), so nothing shows that these figures are older than this file, or that "
            f"{said.tracer.name} has this key: anybody could have written them."
        )
    else:
        notes.append(
            f"That the key is {said.tracer.name}'s is the log's word: compare the fingerprint with one from elsewhere."
        )
    if looked.marks is False:
        rests = told.recipient.verdict == "match" and said.marks is not None
        why = "that takes a log that is trusted (--vkey)" if rests else "the codes of the copies are not shown in it"
        notes.append(f"The p-values of the marks were not made again: {why}. They are the tracer's word.")
    if not looked.suspect:
        notes.append("The suspect was not looked at: give it with --suspect.")
    return tuple(notes)
