"""The evidence of a verdict in one file: what the p-value is made of, the copies' deeds, and their ledger proofs.

A stranger needs the file and the log's verifier key. Secrets of the mark are in it only for an expert who is named, and
the ledger says so.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from strongroom.access.deeds import deed_bytes
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.core.ids import CheckpointName
from strongroom.custody.copy_formats import IssuedCopy
from strongroom.custody.recipients import COPIES
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail
from strongroom.ledger.proofs import verify_bundle
from strongroom.lineage.decode import Verdict
from strongroom.lineage.evidence import LIMITS, Evidence, disclose, replay
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home
from strongroom.wiring.lineage import Decoded

LIMIT: Final = 64 << 20
_WHERE: Final = "evidence"


class AccusedCopy(Record, frozen=True):
    """A named copy: its deed, and the proof that the deed's entry was in the ledger before the copy left."""

    deed: IssuedCopy
    proof: Annotated[str, msgspec.Meta(max_length=2 << 20)]


class MarkEvidence(Record, frozen=True, kw_only=True):
    """The file."""

    format: Literal["strongroom/mark-evidence@1"] = "strongroom/mark-evidence@1"
    made: Annotated[str, msgspec.Meta(max_length=40)]
    against: str
    verdict: Literal["match"]
    log10_p: float
    evidence: Evidence
    copies: Annotated[tuple[AccusedCopy, ...], msgspec.Meta(min_length=1, max_length=100)]
    expert: str | None  # to whom the mark's secrets are shown in it
    limits: tuple[str, ...] = LIMITS


@dataclass(frozen=True, slots=True)
class Checked:
    """What a stranger found: the verdict as recomputed, and the deeds' entries."""

    verdict: Verdict
    entries: tuple[Entry, ...]
    expert: str | None


def write_evidence(
    home: Home, who: Identity, found: Decoded, *, against: CheckpointName, expert: str | None = None
) -> bytes:
    """Return the evidence of a match; whoever `expert` names is shown the mark's secrets. The ledger says so first.

    Raises:
        BadInput: nobody is named, so there is nothing to show.

    """
    verdict = found.verdict
    named = [one.copy for one in verdict.colluders] or ([verdict.copy] if verdict.copy else [])
    if not named:
        raise BadInput("nobody is named, so there is no evidence against anybody", where=str(against))
    home.desk.require(who, Question("lineage.decode", purpose="write evidence"))
    detail: Detail = {"copies": ",".join(named), "expert": expert or ""}
    home.journal.record(Act(who.label, "lineage.disclosed", f"checkpoint:{against}"), "done", detail=detail)
    document = MarkEvidence(
        made=stamp(home.journal.clock.now()),
        against=str(against),
        verdict="match",
        log10_p=verdict.log10_p,
        evidence=disclose(verdict, found.readings, found.made, expert=expert is not None),
        copies=tuple(AccusedCopy(found.copies[copy], _proof(home, copy)) for copy in named),
        expert=expert,
    )
    return encode(document)


def check_evidence(raw: bytes, vkey: str) -> Checked:
    """Recompute a verdict from its evidence, and check that every commitment stood in the log of the key `vkey`.

    Raises:
        ProofInvalid: a deed, a proof, a commitment or the verdict is not what the file says.
        BadInput: it is no evidence, or `vkey` no key.

    """
    document = decode(raw, MarkEvidence, where=_WHERE)
    entries = tuple(_check_deed(one, vkey) for one in document.copies)
    commitments = {one.deed.copy: (one.deed.mark.commitment, one.deed.recipient.name) for one in document.copies}
    verdict = replay(document.evidence, commitments)
    if verdict.verdict != document.verdict or abs(verdict.log10_p - document.log10_p) > 1e-6 * abs(verdict.log10_p):
        raise ProofInvalid(f"recomputed, the verdict is {verdict.verdict}, 10^{verdict.log10_p:.2f}", where=_WHERE)
    return Checked(verdict, entries, document.expert)


def _proof(home: Home, copy: str) -> str:
    """Return the proof bundle of the entry that made the copy's deed count."""
    return home.ledger.prove(premises_of(home).copies.entry(copy).index).decode()


def _check_deed(one: AccusedCopy, vkey: str) -> Entry:
    """Return the entry that proves a deed.

    Raises:
        ProofInvalid: it proves another one, or the issuer did not sign it.

    """
    entry = verify_bundle(one.proof.encode(), vkey)
    event, deed = entry.event, one.deed
    subject, where = f"copy:{deed.copy}", f"deed of {deed.copy}"
    told = (event.action, event.object, event.outcome, event.detail.get("digest"))
    if told != (COPIES.entered, subject, "done", digest(deed)):
        raise ProofInvalid("the proof is of another entry", where=where)
    after = event.detail.get("after")
    message = deed_bytes(subject, digest(deed), home=deed.home, after=after if isinstance(after, int) else -1)
    try:
        signature = base64.b64decode(str(event.detail.get("signature")), validate=True)
        deed.issuer.keys.verify(signature, message, where=where)
    except (ValueError, SignatureInvalid):
        raise ProofInvalid("its issuer did not sign the deed", where=where) from None
    return entry
