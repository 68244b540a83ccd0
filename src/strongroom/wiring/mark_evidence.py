"""The evidence of a verdict in one file: what the p-value is made of, the copies' deeds, and their ledger proofs.

A stranger needs the file, the log's verifier key, and the fingerprint of whoever issued. The secrets that weights are
marked by are in it only for an expert who is named, and the ledger says so.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from strongroom.access.deeds import deed_bytes
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.custody.copies import approves, copy_id
from strongroom.custody.copy_formats import CopyIssuer, IssuedCopy
from strongroom.custody.formats import pae
from strongroom.custody.recipients import COPIES
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail
from strongroom.ledger.proofs import verify_bundle
from strongroom.lineage.decode import Verdict
from strongroom.lineage.evidence import Commitment, Evidence, disclose, replay, shown_keys
from strongroom.lineage.projections import find_projections
from strongroom.lineage.readings import blind
from strongroom.ports.marks import TensorInfo
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home
from strongroom.wiring.lineage import Decoded
from strongroom.wiring.suspects import digest_of, open_suspect

LIMIT: Final = 64 << 20
TYPE: Final = "application/vnd.strongroom.mark-evidence.v1+json"
_WHERE: Final = "evidence"
_NEAR: Final = 2e-3  # values are published to three decimals

_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


_Proof = Annotated[str, msgspec.Meta(max_length=2 << 20)]


class AccusedCopy(Record, frozen=True):
    """A named copy: its deed, and proofs that the deed's entry and its approval's are in the ledger."""

    deed: IssuedCopy
    proof: _Proof
    approval: _Proof  # of the entry in which the second person's approval was used


class MarkEvidence(Record, frozen=True, kw_only=True):
    """What the accuser says."""

    format: Literal["strongroom/mark-evidence@1"] = "strongroom/mark-evidence@1"
    made: Annotated[str, msgspec.Meta(max_length=40)]
    accuser: CopyIssuer
    suspect: _Digest  # SHA-256 of the file, or of the list of a folder's files
    verdict: Literal["match"]
    log10_p: float
    evidence: Evidence
    copies: Annotated[tuple[AccusedCopy, ...], msgspec.Meta(min_length=1, max_length=100)]
    table: dict[str, TensorInfo] | None  # the projections by which units are numbered, for an expert
    expert: str | None  # to whom the mark's secrets are shown in it


class SignedEvidence(Record, frozen=True, kw_only=True):
    """The file."""

    said: MarkEvidence
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


@dataclass(frozen=True, slots=True)
class Trust:
    """What a stranger believes: the log's verifier key, witnesses' keys, and who may have issued (None: anybody)."""

    vkey: str
    witnesses: Sequence[str] = ()
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What a stranger found: the verdict as recomputed, the deeds' entries, who issued and who accuses."""

    verdict: Verdict
    entries: tuple[Entry, ...]
    issuers: tuple[CopyIssuer, ...]
    said: MarkEvidence
    read_again: bool  # the values were read off the suspect again


def write_evidence(home: Home, who: Identity, found: Decoded, *, path: Path, expert: str | None = None) -> bytes:
    """Return the evidence of a match; whoever `expert` names is shown the mark's secrets. The ledger says so first.

    Raises:
        BadInput: nobody is named, so there is nothing to show.

    """
    verdict = found.verdict
    named = [one.copy for one in verdict.colluders] or ([verdict.copy] if verdict.copy else [])
    if not named:
        raise BadInput("nobody is named, so there is no evidence against anybody", where=str(path))
    home.desk.require(who, Question("lineage.decode", purpose="write evidence"))
    title = found.copies[named[0]].title
    suspect = digest_of(path)
    detail: Detail = {"copies": ",".join(named), "expert": expert or "", "suspect": suspect}
    home.journal.record(Act(who.label, "lineage.disclosed", f"checkpoint:{title}"), "done", detail=detail)
    said = MarkEvidence(
        made=stamp(home.journal.clock.now()),
        accuser=CopyIssuer(name=who.name, keys=who.keyring.public),
        suspect=suspect,
        verdict="match",
        log10_p=verdict.log10_p,
        evidence=disclose(verdict, found.readings, found.made, expert=expert is not None),
        copies=tuple(AccusedCopy(found.copies[copy], *_proofs(home, copy)) for copy in named),
        table=dict(found.table) if expert is not None else None,
        expert=expert,
    )
    return encode(SignedEvidence(said=said, signature=who.keyring.sign(pae(TYPE, encode(said)))))


def check_evidence(raw: bytes, trust: Trust, *, suspect: Path | None = None) -> Checked:
    """Recompute a verdict from its evidence, and check that every commitment stands in the log that is trusted.

    With the `suspect` file, its digest is compared; where the evidence shows the mark's secrets, its values are read
    off the file again.

    Raises:
        ProofInvalid: a signature, deed, proof, commitment or the verdict is not what the file says.
        BadInput: it is no evidence, or a given key is none.

    """
    signed = decode(raw, SignedEvidence, where=_WHERE)
    said = signed.said
    try:
        said.accuser.keys.verify(signed.signature, pae(TYPE, encode(said)), where=_WHERE)
    except SignatureInvalid:
        raise ProofInvalid(f"{said.accuser.name} did not sign it", where=_WHERE) from None
    entries = tuple(_check_deed(one, trust) for one in said.copies)
    deeds = [one.deed for one in said.copies]
    if {one.copy for one in deeds} != {one.committed.copy for one in said.evidence.accused}:
        raise ProofInvalid("the deeds are not those of the accused", where=_WHERE)
    verdict = replay(said.evidence, {one.copy: _commitment(one) for one in deeds})
    if _named(verdict) != {one.committed.copy for one in said.evidence.accused}:
        raise ProofInvalid("recomputed, the verdict does not name all who are accused", where=_WHERE)
    if verdict.verdict != said.verdict or abs(verdict.log10_p - said.log10_p) > 1e-6 * abs(verdict.log10_p):
        raise ProofInvalid(f"recomputed, the verdict is {verdict.verdict}, 10^{verdict.log10_p:.2f}", where=_WHERE)
    again = suspect is not None and _read_again(said, suspect)
    issuers = {one.issuer.keys.fingerprint(): one.issuer for one in deeds}
    return Checked(verdict, entries, tuple(issuers.values()), said, again)


def _named(verdict: Verdict) -> set[str]:
    """Return the copies that a verdict names."""
    return {one.copy for one in verdict.colluders} or ({verdict.copy} if verdict.copy else set[str]())


def _commitment(deed: IssuedCopy) -> Commitment:
    return Commitment(deed.mark.commitment, deed.recipient.name, deed.checkpoint, deed.mark.segments)


def _proofs(home: Home, copy: str) -> tuple[str, str]:
    """Return the proof bundles of the entry that made the copy's deed count, and of its approval's use."""
    copies = premises_of(home).copies
    deed, grant = (home.ledger.prove(one.index).decode() for one in (copies.entry(copy), copies.grant(copy)))
    return deed, grant


def _check_deed(one: AccusedCopy, trust: Trust) -> Entry:
    """Return the entry that proves a deed.

    Raises:
        ProofInvalid: it proves another one, the issuer did not sign it, is not the one who is trusted, or nobody
            approved what it says.

    """
    entry = verify_bundle(one.proof.encode(), trust.vkey, witnesses=trust.witnesses)
    event, deed = entry.event, one.deed
    subject, where = f"copy:{deed.copy}", f"deed of {deed.copy}"
    key = deed.issuer.keys.fingerprint()
    told = (event.action, event.object, event.outcome, event.detail.get("digest"), event.detail.get("key"))
    if told != (COPIES.entered, subject, "done", digest(deed), key):
        raise ProofInvalid("the proof is of another entry", where=where)
    if event.who.partition(":")[2] != deed.issuer.name or trust.issuer not in {None, key}:
        raise ProofInvalid(f"{deed.issuer.name} with the key {key[:16]}… is not who issues here", where=where)
    grant = verify_bundle(one.approval.encode(), trust.vkey, witnesses=trust.witnesses)
    bound = deed.copy == copy_id(deed.request)  # or the issuer could give a copy another copy's approval
    if not bound or grant.index >= entry.index or not approves(grant.event, deed):
        raise ProofInvalid("nobody approved what the deed says", where=where)
    if event.detail.get("after") != -1:
        raise ProofInvalid("it is not the first deed of the copy, which alone counts", where=where)
    message = deed_bytes(subject, digest(deed), home=deed.home, after=-1)
    try:
        signature = base64.b64decode(str(event.detail.get("signature")), validate=True)
        deed.issuer.keys.verify(signature, message, where=where)
    except (ValueError, SignatureInvalid):
        raise ProofInvalid("its issuer did not sign the deed", where=where) from None
    return entry


def _read_again(said: MarkEvidence, suspect: Path) -> bool:
    """Compare the suspect's digest; where the secrets are shown, read its values again. Return whether they were.

    What was read against the original can't be read again without it: the blind values must name somebody alone.

    Raises:
        ProofInvalid: it is another file, or its values are others.

    """
    if digest_of(suspect) != said.suspect:
        raise ProofInvalid("this is not the file that was accused", where=str(suspect))
    keys, mark = shown_keys(said.evidence), said.copies[0].deed.mark
    claimed = next((one for one in said.evidence.readings if one.manner == "blind"), None)
    if keys is None or claimed is None or said.table is None:
        return False
    with open_suspect(suspect) as weights:
        where = find_projections(said.table)
        if where.units != mark.units:
            raise ProofInvalid(f"the table has {where.units} hidden units, the copy {mark.units}", where=_WHERE)
        reading = blind(weights, where, keys, segments=mark.segments)
    if not np.allclose(reading.values, np.frombuffer(claimed.values, "<f8"), atol=_NEAR, equal_nan=True):
        raise ProofInvalid("the values are not those of the file", where=str(suspect))
    alone = msgspec.structs.replace(said.evidence, readings=(claimed,))
    named = replay(alone, {one.deed.copy: _commitment(one.deed) for one in said.copies})
    if named.verdict != "match" or _named(named) != {one.committed.copy for one in said.evidence.accused}:
        raise ProofInvalid("what can be read off the file again does not name the accused", where=str(suspect))
    return True
