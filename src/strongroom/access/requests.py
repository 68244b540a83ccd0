"""Requests that need a second person, and the approvals that answer them.

A request and its approvals are signed over the same statement: who asks, for which action, on which object with which
digest, to which destination, for which purpose, on which host, until when, under which policy. `judge` is pure: it is
asked when the approval is used, not only when it is given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from strongroom.access.keys import Keyring, PublicKeys
from strongroom.access.people import Certificate
from strongroom.access.policy import Action, Policy, Question
from strongroom.core.canonical import Record, encode
from strongroom.core.clock import parse_stamp
from strongroom.core.errors import ApprovalAltered, ApprovalExpired, SelfApproval, SignatureInvalid


class Wanted(Record, frozen=True):
    """What somebody wants to do, and what a second person is shown and signs."""

    requester: str
    action: Action
    object: str
    digest: str  # of the object: a tag may move between request and use
    destination: str  # a path, or a recipient; empty where there is none
    purpose: str
    host: str


class Statement(Record, frozen=True):
    """The bytes that requester and approvers sign."""

    format: Literal["strongroom/request@1"]
    home: str
    request: str
    wanted: Wanted
    created: str
    expires: str
    policy: str  # SHA-256 of the policy text in force


class Approval(Record, frozen=True):
    """One person's signed consent."""

    approver: str
    at: str
    signature: bytes


class Request(Record, frozen=True):
    """A request as stored. Its state is told by its approvals and by the ledger, never by a flag alone."""

    statement: Statement
    signature: bytes
    approvals: tuple[Approval, ...]
    closed: str  # why it is not open any more; empty while it is


def requested_bytes(statement: Statement) -> bytes:
    """Return what the requester signs."""
    return b"strongroom request v1\n" + encode(statement)


def approved_bytes(statement: Statement, *, approver: str, at: str) -> bytes:
    """Return what an approver signs."""
    return b"strongroom approval v1\n" + encode({"approver": approver, "at": at, "statement": statement})


def approve(statement: Statement, approver: Keyring, *, at: str) -> Approval:
    """Return `approver`'s signed consent.

    Raises:
        SelfApproval: the approver is the requester.

    """
    if approver.name == statement.wanted.requester:
        raise SelfApproval("nobody approves their own request", where=statement.request)
    signature = approver.sign(approved_bytes(statement, approver=approver.name, at=at))
    return Approval(approver=approver.name, at=at, signature=signature)


@dataclass(frozen=True, slots=True)
class Bench:
    """What `judge` judges by: current certificates, all keys that people have had, the policy in force, the time."""

    home: str
    people: Mapping[str, Certificate]
    keys: Mapping[str, Sequence[PublicKeys]]  # newest first
    policy: Policy
    now: dt.datetime


def judge(request: Request, wanted: Wanted, bench: Bench) -> list[str]:
    """Return the names of those whose approval of exactly `wanted` is valid now.

    Raises:
        ApprovalAltered: the request is for something else, another policy is in force, or a signature does not verify.
        ApprovalExpired: it is too late.
        SelfApproval: the requester stands among the approvers.

    """
    statement, where = request.statement, request.statement.request
    if statement.wanted != wanted or statement.home != bench.home:
        raise ApprovalAltered(f"approved was something else: {_difference(statement.wanted, wanted)}", where=where)
    if statement.policy != bench.policy.digest:
        raise ApprovalAltered("another policy is in force than when it was requested", where=where)
    if bench.now >= parse_stamp(statement.expires):
        raise ApprovalExpired(f"expired at {statement.expires}", where=where)
    if _signed_with(request.signature, requested_bytes(statement), bench.keys.get(wanted.requester, ())) is None:
        raise ApprovalAltered(f"{wanted.requester}'s signature does not verify", where=where)
    return [name for name in (_approver(one, statement, bench) for one in request.approvals) if name]


def question_of(wanted: Wanted) -> Question:
    """Return the question whether somebody may approve `wanted`."""
    return Question("access.approve", request=wanted.action, requester=wanted.requester)


def _approver(approval: Approval, statement: Statement, bench: Bench) -> str:
    """Return the approver's name, or nothing if that person may not approve, or has had new keys since."""
    where, name = statement.request, approval.approver
    if name == statement.wanted.requester:
        raise SelfApproval("the requester stands among the approvers", where=where)
    certificate = bench.people.get(name)
    signed = approved_bytes(statement, approver=name, at=approval.at)
    key = _signed_with(approval.signature, signed, bench.keys.get(name, ()))
    if certificate is None or key is None:
        raise ApprovalAltered(f"{name}'s signature does not verify", where=where)
    permitted = bench.policy.permits(certificate, question_of(statement.wanted))
    return name if permitted and key == certificate.keys else ""


def _signed_with(signature: bytes, message: bytes, keys: Sequence[PublicKeys]) -> PublicKeys | None:
    """Return the first of `keys` under which `signature` over `message` verifies, or None."""
    for key in keys:
        try:
            key.verify(signature, message, where="request")
        except SignatureInvalid:
            continue
        return key
    return None


def _difference(approved: Wanted, wanted: Wanted) -> str:
    fields = Wanted.__struct_fields__
    return ", ".join(name for name in fields if getattr(approved, name) != getattr(wanted, name)) or "the home"
