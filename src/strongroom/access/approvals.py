"""Asking a second person, and using the answer once.

A request stays open until it is used, expires or stops fitting. Its use is a ledger entry that claims ``request:ID``:
the ledger holds at most one such entry, so an approval works at most once, whatever crashes and whatever is put back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from strongroom.access.directory import People
from strongroom.access.identity import Identity
from strongroom.access.policy import Policy
from strongroom.access.requests import (
    Approval,
    Bench,
    Request,
    Statement,
    Wanted,
    approve,
    judge,
    question_of,
    requested_bytes,
)
from strongroom.core.canonical import decode, digest, encode
from strongroom.core.clock import parse_stamp, stamp
from strongroom.core.errors import (
    AlreadyClaimed,
    ApprovalAltered,
    ApprovalConsumed,
    ApprovalExpired,
    ApprovalNeeded,
    Busy,
    NoSuchRequest,
    NotPermitted,
)
from strongroom.core.ids import new_id
from strongroom.ledger.events import Receipt
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

REQUESTED = "access.request"

_KIND = "request"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an approval lasts, and how long a sole owner waits to change the policy alone."""

    lifetime: dt.timedelta
    sole_owner_delay: dt.timedelta


class Approvals:
    """The requests of one home."""

    def __init__(self, records: Records, journal: Journal, people: People, *, home: str, terms: Terms) -> None:
        """Keep the requests of the home with the id `home`."""
        self._records = records
        self._journal = journal
        self._people = people
        self._home = home
        self._terms = terms

    def open_requests(self) -> list[Request]:
        """Return the requests that wait, oldest first: none that is closed, used, expired, or not as it was made."""
        now = self._journal.now()
        live = (one for one in self._all() if not one.closed and parse_stamp(one.statement.expires) > now)
        unused = (one for one in live if not self._used(one.statement.request) and self._is_pinned(one))
        return sorted(unused, key=lambda one: one.statement.created)

    def notes(self, request: Request) -> list[str]:
        """Return what everybody should know: whose passphrase somebody else set, and who approves whom they let in."""
        names = [request.statement.wanted.requester, *(one.approver for one in request.approvals)]
        setters = ((name, self._people.passphrase_set_by(name)) for name in dict.fromkeys(names))
        said = [
            f"{name}'s passphrase was set by {setter} and has not been changed by {name} since"
            for name, setter in setters
            if setter.partition(":")[2] != name
        ]
        requester = request.statement.wanted.requester
        host = self._people.roll.first(requester).certificate.issuer
        for name in (one.approver for one in request.approvals):
            if name == host:
                said.append(f"{name}, who approved, is also the one who let {requester} in")
            if self._people.roll.first(name).certificate.issuer == requester:
                said.append(f"{name}, who approved, was let in by {requester}")
        return said

    def approve(self, request_id: str, approver: Identity, *, policy: Policy) -> Request:
        """Add `approver`'s signed consent to an open request, and return the request.

        Raises:
            NoSuchRequest: there is no open request of that id.
            SelfApproval: the approver is the requester.
            NotPermitted: the policy does not let this person approve that.

        """
        request = self._open(request_id)
        wanted = request.statement.wanted
        self._pinned(request)
        moment = stamp(self._journal.clock.now())
        approval = approve(request.statement, approver.keyring, at=moment)
        if not policy.permits(approver.certificate, question_of(wanted)):
            raise NotPermitted(f"{approver.name} may not approve {wanted.action}", where=request_id)
        answered = _with(request, approval)
        detail: Detail = {"request": request_id, "for": wanted.action, "requester": wanted.requester}
        if notes := self.notes(answered):
            detail["notes"] = "; ".join(notes)
        act = Act(approver.label, "access.approve", wanted.object, wanted.purpose)
        self._journal.record(act, "granted", detail=detail)
        self._write(answered, over=request)
        return answered

    def redeem(self, wanted: Wanted, asker: Identity, *, policy: Policy, needed: int) -> tuple[Receipt, str]:
        """Use the approval of exactly `wanted`, once; return the grant's ledger entry and the request's id.

        Raises:
            ApprovalNeeded: nobody, or not enough people, approved yet; a request is left and named in ``where``.
            ApprovalAltered: the object, the policy or a signature is not what was approved; the request is closed.
            ApprovalExpired: it came too late; the request is closed.
            ApprovalConsumed: it has been used.

        """
        request = self._matching(wanted) or self._submit(wanted, asker, policy=policy)
        request_id = request.statement.request
        bench = self._bench(request, policy)
        try:
            self._pinned(request)
            approvers = judge(request, wanted, bench)
        except (ApprovalAltered, ApprovalExpired) as error:
            self._close(request, error.code)
            raise
        alone = self._ripe_alone(request, bench)
        if len(set(approvers)) < needed and not alone:
            raise ApprovalNeeded(f"{wanted.action} needs a second person: request {request_id} waits", where=request_id)
        return self._consume(request, asker, approvers, alone=alone), request_id

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _consume(self, request: Request, asker: Identity, approvers: list[str], *, alone: bool) -> Receipt:
        wanted, request_id = request.statement.wanted, request.statement.request
        detail: Detail = {
            "request": request_id,
            "digest": wanted.digest,
            "destination": wanted.destination,
            "approvers": ",".join(approvers),
        }
        if alone:
            detail["sole_owner"] = True
        if notes := self.notes(request):
            detail["notes"] = "; ".join(notes)
        act = Act(asker.label, wanted.action, wanted.object, wanted.purpose)
        try:
            receipt = self._journal.record(act, "granted", detail=detail, claim=f"request:{request_id}")
        except AlreadyClaimed:
            self._close(request, "used")
            raise ApprovalConsumed("the approval has been used", where=request_id) from None
        self._close(request, "used")
        return receipt

    def _ripe_alone(self, request: Request, bench: Bench) -> bool:
        """Whether a policy change may go on alone: nobody else could approve it, and the delay is over."""
        wanted = request.statement.wanted
        if wanted.action != "access.policy":
            return False
        others = (one for name, one in bench.people.items() if name != wanted.requester)
        if any(bench.policy.permits(one, question_of(wanted)) for one in others):
            return False
        alone_since = self._people.last_disabled() or parse_stamp(request.statement.created)
        return bench.now >= max(alone_since, parse_stamp(request.statement.created)) + self._terms.sole_owner_delay

    def _pinned(self, request: Request) -> None:
        """Return if the ledger holds this very statement, entered when the request was made.

        Raises:
            ApprovalAltered: the stored request is another than the one that was made.

        """
        if not self._is_pinned(request):
            raise ApprovalAltered("the stored request is not the one that was made", where=request.statement.request)

    def _submit(self, wanted: Wanted, asker: Identity, *, policy: Policy) -> Request:
        now = self._journal.now()
        lifetime = self._terms.lifetime
        if wanted.action == "access.policy":
            lifetime += self._terms.sole_owner_delay
        statement = Statement(
            format="strongroom/request@1",
            home=self._home,
            request=new_id("req"),
            wanted=wanted,
            created=stamp(now),
            expires=stamp(now + lifetime),
            policy=policy.digest,
        )
        signature = asker.keyring.sign(requested_bytes(statement))
        request = Request(statement=statement, signature=signature, approvals=(), closed="")
        detail: Detail = {
            "request": statement.request,
            "for": wanted.action,
            "digest": wanted.digest,
            "destination": wanted.destination,
            "statement": digest(statement),
        }
        act = Act(asker.label, REQUESTED, wanted.object, wanted.purpose)
        self._journal.record(act, "done", detail=detail, claim=f"requested:{statement.request}")
        self._write(request)
        return request

    def _matching(self, wanted: Wanted) -> Request | None:
        """Return the newest request that means `wanted`, even where the object's digest has changed since."""
        same = (one for one in self._all() if not one.closed and _meaning(one.statement.wanted) == _meaning(wanted))
        return max(same, key=lambda one: one.statement.created, default=None)

    def _open(self, request_id: str) -> Request:
        stored = self._records.get(_KIND, request_id)
        request = None if stored is None else decode(stored.document, Request, where=request_id)
        if request is None or request.statement.request != request_id or request.closed or self._used(request_id):
            raise NoSuchRequest("no open request of that id", where=request_id)
        if self._journal.now() >= parse_stamp(request.statement.expires):
            raise ApprovalExpired(f"the request expired at {request.statement.expires}", where=request_id)
        return request

    def _used(self, request_id: str) -> bool:
        return next(self._journal.ledger.find(claim=f"request:{request_id}"), None) is not None

    def _all(self) -> Iterator[Request]:
        for stored in self._records.scan(_KIND):
            yield decode(stored.document, Request, where=stored.key)

    def _close(self, request: Request, why: str) -> None:
        self._write(msgspec.structs.replace(request, closed=why))

    def _write(self, request: Request, *, over: Request | None = None) -> None:
        """Store `request`; with `over`, only where that still stands: of two approvals at once neither is lost.

        Raises:
            Busy: somebody else has answered meanwhile.

        """
        key = request.statement.request
        stored = self._records.get(_KIND, key)
        if over is not None and (stored is None or stored.document != encode(over)):
            raise Busy("somebody else has answered this request meanwhile", where=key, remedy="Repeat the command.")
        expect = 0 if stored is None else stored.version
        self._records.apply([Change(kind=_KIND, key=key, expect=expect, document=encode(request))])

    def _bench(self, request: Request, policy: Policy) -> Bench:
        """Return what the request is judged by."""
        people = {one.name: one.certificate for one in self._people.everybody()}
        names = {request.statement.wanted.requester, *(one.approver for one in request.approvals)}
        keys = {name: self._people.roll.keys(name) for name in names & people.keys()}
        return Bench(home=self._home, people=people, keys=keys, policy=policy, now=self._journal.now())

    def _is_pinned(self, request: Request) -> bool:
        entry = next(self._journal.ledger.find(claim=f"requested:{request.statement.request}"), None)
        return entry is not None and entry.event.detail.get("statement") == digest(request.statement)


def _with(request: Request, approval: Approval) -> Request:
    kept = tuple(one for one in request.approvals if one.approver != approval.approver)
    return msgspec.structs.replace(request, approvals=(*kept, approval))


def _meaning(wanted: Wanted) -> Wanted:
    return msgspec.structs.replace(wanted, digest="")
