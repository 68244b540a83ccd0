"""The one desk where everybody shows who they are and asks whether they may.

Every answer is in the ledger before it is given: a grant, because nothing is released without its entry (rule 1), and a
refusal, because refusals are what an auditor looks for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from strongroom.access.approvals import Approvals, Terms
from strongroom.access.directory import Entrant, People
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring, PublicKeys
from strongroom.access.people import Person
from strongroom.access.policy import (
    CHECKPOINT_ACTIONS,
    HOME_ACTIONS,
    Policy,
    Question,
    default_text,
)
from strongroom.access.requests import Request, Wanted
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    NotPermitted,
    PolicyInvalid,
    PrincipalAltered,
    PrincipalDisabled,
    PurposeMismatch,
    StrongroomError,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

_POLICY, _HOME = "policy", "home"


@dataclass(frozen=True, slots=True)
class Matter:
    """What a grant is about, beyond the question: the object's digest, where it goes, what the ledger says."""

    digest: str = ""
    destination: str = ""
    detail: Detail = field(default_factory=dict[str, str | int | bool])


@dataclass(frozen=True, slots=True)
class Grant:
    """A yes that stands in the ledger. Whoever releases a key asks for one."""

    identity: Identity
    question: Question
    index: int  # of the ledger entry
    request: str  # the approved request that it consumed; empty where one person suffices


class Desk:
    """Authentication, decisions, people and policy of one home."""

    def __init__(self, records: Records, journal: Journal, *, home: str, terms: Terms) -> None:
        """Open the desk of the home with the id `home`."""
        self._records = records
        self._journal = journal
        self._home = home
        self.people = People(records, journal, home=home)
        self.approvals = Approvals(records, journal, self.people, home=home, terms=terms)

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def authenticate(self, name: str, passphrase: Secret) -> Identity:
        """Return who it is. A wrong passphrase, an unknown or a disabled principal is refused and logged."""
        with self._refusals(Act(f"claimed:{name[:64]}", "access.authenticate", f"person:{name[:64]}")):
            person, seed = self.people.unlock(name, passphrase)
        return Identity(person.certificate, Keyring(name, seed))

    def resume(self, name: str, seed: Secret) -> Identity:
        """Return who it is, from the seed that a session of `access login` holds; a disabled principal is refused."""
        with self._refusals(Act(f"claimed:{name[:64]}", "access.authenticate", f"person:{name[:64]}")):
            person = self.people.find(name)
            if not person.active:
                raise PrincipalDisabled("this principal was disabled", where=name)
            self.people.fitting(person, seed)
        return Identity(person.certificate, Keyring(name, seed))

    def record_login(self, who: Identity, *, until: str) -> None:
        """Note in the ledger that `who` begins a session."""
        self._journal.record(Act(who.label, "access.login", f"person:{who.name}"), "done", detail={"until": until})

    # ── may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def demand(self, who: Identity, question: Question, matter: Matter | None = None) -> Grant:
        """Return the grant for `question`, its ledger entry durable; with a second person's approval where needed.

        Raises:
            NotPermitted: the policy says no, whoever approves.
            PurposeMismatch: a service asked for another purpose than its own.
            ApprovalNeeded: a second person must approve; the request's id is in ``where``.

        """
        about = matter or Matter()
        act = Act(who.label, question.action, object_of(question), question.purpose)
        with self._refusals(act):
            policy = self.policy()
            needed = policy.approvals_needed(who.certificate, question)
            if needed is None:
                raise _refusal(who, question, policy)
            if needed:
                wanted = self._wanted(who, question, about)
                receipt, request = self.approvals.redeem(wanted, who, policy=policy, needed=needed)
                return Grant(who, question, receipt.index, request)
        detail: Detail = {**about.detail}
        if about.digest:
            detail["digest"] = about.digest
        return Grant(who, question, self._journal.record(act, "granted", detail=detail).index, "")

    def require(self, who: Identity, question: Question) -> None:
        """Refuse, and log it, unless `who` may do `question` alone. For what needs no key: a yes is not logged."""
        with self._refusals(Act(who.label, question.action, object_of(question), question.purpose)):
            policy = self.policy()
            if policy.approvals_needed(who.certificate, question) != 0:
                raise _refusal(who, question, policy)

    def may(self, who: Identity, question: Question) -> int | None:
        """Return how many approvals `who` would need (0: none), or None where the policy says no. Nothing is logged."""
        return self.policy().approvals_needed(who.certificate, question)

    def rights(self, who: Identity, checkpoint: CheckpointName | None) -> dict[str, int]:
        """Return everything that `who` may do, on the home or on `checkpoint`, with the approvals that it takes."""
        actions = HOME_ACTIONS if checkpoint is None else CHECKPOINT_ACTIONS
        purpose = who.certificate.purpose
        asked = {action: self.may(who, Question(action, checkpoint, purpose)) for action in actions}
        return {action: needed for action, needed in asked.items() if needed is not None}

    def approve(self, request_id: str, approver: Identity) -> Request:
        """Approve an open request; a refusal is logged."""
        with self._refusals(Act(approver.label, "access.approve", f"request:{request_id[:64]}")):
            return self.approvals.approve(request_id, approver, policy=self.policy())

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def found(self, entrant: Entrant, recovery: PublicKeys) -> Identity:
        """Begin a home: its first ledger entry, its first owner, the recovery key's public half, the default policy."""
        keyring = self.people.found(entrant, recovery=recovery)
        self._records.apply([Change(kind=_HOME, key="recovery", expect=0, document=encode(recovery))])
        owner = Identity(self.people.find(entrant.name).certificate, keyring)
        self._adopt(default_text(), owner, why="the policy that a new home starts with")
        return owner

    def add(self, entrant: Entrant, by: Identity) -> Person:
        """Add somebody; the passphrase counts as set by `by` until its owner changes it."""
        self.demand(by, Question("access.add", purpose=f"{entrant.role} {entrant.name}"))
        return self.people.add(entrant, issuer=by.keyring, recovery=self._recovery())

    def disable(self, name: str, by: Identity) -> Person:
        """End somebody's rights at once."""
        self.demand(by, Question("access.disable", purpose=name))
        return self.people.disable(name, issuer=by.keyring)

    def change_passphrase(self, who: Identity, old: Secret, new: Secret) -> None:
        """Give `who` a new passphrase, set by its owner. The old one is asked for again: a session is not enough."""
        person, seed = self.people.unlock(who.name, old)
        self.people.change_passphrase(person, seed, passphrase=new, by=person.label)

    def recover(self, name: str, recovery: Keyring, passphrase: Secret) -> None:
        """Set a lost passphrase anew with the recovery key; refusals are logged."""
        with self._refusals(Act("recovery", "access.recover", f"person:{name[:64]}")):
            self.people.recover(name, recovery, passphrase=passphrase)

    # ── policy ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def policy(self) -> Policy:
        """Return the policy in force: the text whose digest the ledger's newest adoption names.

        Raises:
            PolicyInvalid: that text is gone or altered; nobody may anything until it is back.

        """
        entry = self._journal.ledger.latest("access.policy.adopted", "home")
        digest = "" if entry is None else str(entry.event.detail.get("digest", ""))
        stored = self._records.get(_POLICY, digest)
        policy = None if stored is None else Policy(decode(stored.document, str, where="policy"))
        if policy is None or policy.digest != digest:
            raise PolicyInvalid("the policy that the ledger names is gone or altered", where="policy")
        return policy

    def set_policy(self, text: str, by: Identity, *, why: str) -> Policy:
        """Change the policy, with a second owner's approval; a sole owner waits out the delay (docs/access.md)."""
        policy = Policy(text)
        question = Question("access.policy", purpose=why)
        self.demand(by, question, Matter(digest=policy.digest))
        return self._adopt(text, by, why=why)

    def _adopt(self, text: str, by: Identity, *, why: str) -> Policy:
        policy = Policy(text)
        if self._records.get(_POLICY, policy.digest) is None:
            self._records.apply([Change(kind=_POLICY, key=policy.digest, expect=0, document=encode(text))])
        act = Act(by.label, "access.policy.adopted", "home", why)
        self._journal.record(act, "done", detail={"digest": policy.digest})
        return policy

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _recovery(self) -> PublicKeys:
        stored = self._records.get(_HOME, "recovery")
        pinned = self._journal.ledger.entry(0).event.detail.get("recovery")
        keys = None if stored is None else decode(stored.document, PublicKeys, where="recovery key")
        if keys is None or keys.fingerprint() != pinned:
            raise PrincipalAltered("the recovery public key is not the one that the ledger names", where="recovery key")
        return keys

    def _wanted(self, who: Identity, question: Question, about: Matter) -> Wanted:
        return Wanted(
            requester=who.name,
            action=question.action,
            object=object_of(question),
            digest=about.digest,
            destination=about.destination,
            purpose=question.purpose,
            host=self._journal.host,
        )

    @contextmanager
    def _refusals(self, act: Act) -> Generator[None]:
        """Log whatever stops `act` before it is told."""
        try:
            yield
        except StrongroomError as error:
            detail: Detail = {"code": error.code, "at": error.where[:200]}
            self._journal.record(act, "refused", detail=detail)
            raise


def object_of(question: Question) -> str:
    """Return how the ledger names what a question is about."""
    return "home" if question.checkpoint is None else f"checkpoint:{question.checkpoint}"


def _refusal(who: Identity, question: Question, policy: Policy) -> StrongroomError:
    """Return why not: because of the purpose alone, or at all."""
    fitting = dataclasses.replace(question, purpose=who.certificate.purpose)
    if policy.approvals_needed(who.certificate, fitting) is not None:
        return PurposeMismatch(f"{who.name} was added for another purpose", where=question.action)
    return NotPermitted(f"{who.name} ({who.certificate.role}) may not {question.action}", where=object_of(question))
