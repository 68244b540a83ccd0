"""The one desk where everybody shows who they are and asks whether they may.

Every answer is in the ledger before it is given: a grant, because nothing is released without its entry (rule 1), and a
refusal, because refusals are what an auditor looks for.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from strongroom.access.approvals import Approvals, Terms
from strongroom.access.directory import Entrant, People, Prepare, fitting, no_envelopes
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring, PublicKeys
from strongroom.access.people import Certificate, Person, label
from strongroom.access.policy import (
    CHECKPOINT_ACTIONS,
    HOME_ACTIONS,
    Policy,
    Question,
    default_text,
)
from strongroom.access.requests import Request, Wanted
from strongroom.access.rules import Rules
from strongroom.core.errors import (
    BadInput,
    BadName,
    NotPermitted,
    PrincipalDisabled,
    PurposeMismatch,
    RecordAltered,
    RefusedError,
    SignatureInvalid,
    StrongroomError,
    UnknownPrincipal,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Records

Classify = Callable[[CheckpointName], str]


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
        self.rules = Rules(records, journal, self.people, home=home)
        self.classify: Classify = _unclassified  # what finds a checkpoint's class; custody sets it
        self.approvals = Approvals(records, journal, self.people, home=home, terms=terms)

    # ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    def authenticate(self, name: str, passphrase: Secret) -> Identity:
        """Return who it is. A wrong passphrase, an unknown or a disabled principal is refused and logged."""
        with self._refusals(Act(f"claimed:{name}", "access.authenticate", f"person:{name}")):
            person, seed = self.people.unlock(name, passphrase)
        return Identity(person.certificate, Keyring(name, seed))

    def resume(self, name: str, seed: Secret) -> Identity:
        """Return who it is, from the seed that a session of `access login` holds; a disabled principal is refused."""
        with self._refusals(Act(f"claimed:{name}", "access.authenticate", f"person:{name}")):
            person = self.people.find(name)
            if not person.active:
                raise PrincipalDisabled("this principal was disabled", where=name)
            fitting(person, seed)
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
            who, policy, needed = self._judged(who, question)
            if needed:
                wanted = self._wanted(who, question, about)
                receipt, request = self.approvals.redeem(wanted, who, policy=policy, needed=needed)
                return Grant(who, question, receipt.index, request)
        detail: Detail = {**about.detail}
        if about.digest:
            detail["digest"] = about.digest
        return Grant(who, question, self._journal.record(act, "granted", detail=detail).index, "")

    def require(self, who: Identity, question: Question, *, alone: bool = True) -> None:
        """Refuse, and log it, unless `who` may do `question`, `alone` or with approvals. A yes is not logged."""
        with self._refusals(Act(who.label, question.action, object_of(question), question.purpose)):
            _, _, needed = self._judged(who, question)
            if alone and needed:
                raise NotPermitted(f"{who.name} may not do this alone", where=object_of(question))

    def _judged(self, who: Identity, question: Question) -> tuple[Identity, Policy, int]:
        """Return who it is by now, the policy in force, and how many approvals it takes; refuse where none suffice."""
        person = self.people.find(who.name)
        if not person.active:
            raise PrincipalDisabled("this principal was disabled", where=who.name)
        now, policy = Identity(person.certificate, who.keyring), self.rules.current()
        fitting(person, who.keyring.seed)
        question = self._classified(question)
        needed = policy.approvals_needed(now.certificate, question)
        if needed is None:
            raise _refusal(now, question, policy)
        return now, policy, needed

    def may(self, who: Identity, question: Question) -> int | None:
        """Return how many approvals `who` would need (0: none), or None where the policy says no. Nothing is logged."""
        return self.needed(who.certificate, question)

    def needed(self, who: Certificate, question: Question) -> int | None:
        """Return the same of somebody who need not be here."""
        return self.rules.current().approvals_needed(who, self._classified(question))

    def rights(self, who: Identity, checkpoint: CheckpointName | None) -> dict[str, int]:
        """Return everything that `who` may do, on the home or on `checkpoint`, with the approvals that it takes."""
        actions = HOME_ACTIONS if checkpoint is None else CHECKPOINT_ACTIONS
        purpose = who.certificate.purpose
        asked = {action: self.may(who, Question(action, checkpoint, purpose)) for action in actions}
        return {action: needed for action, needed in asked.items() if needed is not None}

    def approve(self, request_id: str, approver: Identity) -> Request:
        """Approve an open request; a refusal is logged."""
        with self._refusals(Act(approver.label, "access.approve", f"request:{request_id}")):
            person = self.people.find(approver.name)
            now = Identity(person.certificate, approver.keyring)
            fitting(person, approver.keyring.seed)
            return self.approvals.approve(request_id, now, policy=self.rules.current())

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def found(self, entrant: Entrant, recovery: PublicKeys) -> Identity:
        """Begin a home: its first ledger entry, its first owner, the recovery key's public half, the default policy."""
        keyring = self.people.found(entrant, recovery=recovery)
        owner = Identity(self.people.find(entrant.name).certificate, keyring)
        self.rules.adopt(default_text(), owner, why="the policy that a new home starts with")
        return owner

    def add(self, entrant: Entrant, by: Identity) -> Person:
        """Add somebody; the passphrase counts as set by `by` until its owner changes it."""
        question = Question("access.add", purpose=f"{entrant.role} {entrant.name}")
        self._owner(by, question)
        self.demand(by, question)
        return self.people.add(entrant, issuer=by.keyring)

    def disable(self, name: str, by: Identity) -> Person:
        """End somebody's rights at once. Harmless when repeated."""
        question = Question("access.disable", purpose=name)
        self._owner(by, question)
        self.demand(by, question)
        return self.people.disable(name, issuer=by.keyring)

    def change_passphrase(self, name: str, old: Secret, new: Secret, *, prepare: Prepare = no_envelopes) -> Identity:
        """Give `name` a new passphrase of their own, and new keys; return the identity from now on.

        The old passphrase is asked for: a session is not enough. `prepare` wraps what the old keys open for the new.
        """
        with self._refusals(Act(f"claimed:{name}", "access.passwd", f"person:{name}")):
            person, seed = self.people.unlock(name, old)
            if new == old:
                raise BadInput("the new passphrase is the old one", where="passphrase", remedy="Choose another.")
            seed = self.people.renew(person, seed, new, by=person.label, prepare=prepare)
        return Identity(self.people.find(name).certificate, Keyring(name, seed))

    def recover(self, name: str, recovery: Keyring, passphrase: Secret, *, prepare: Prepare = no_envelopes) -> None:
        """Set a lost passphrase anew with the recovery key; refusals are logged."""
        with self._refusals(Act("recovery", "access.recover", f"person:{name}")):
            self.people.recover(name, recovery, passphrase, prepare=prepare)

    def was_entitled(self, entry: Entry, question: Question, *, keys: str) -> bool:
        """Whether whoever made a ledger entry might do `question` then, with the keys of the fingerprint `keys`.

        Raises:
            RecordAltered: it can't be judged, for a person's or the policy's record is gone or altered. That is not a
                no: or whoever deletes a record would bring back what stood before the entry.

        """
        name = entry.event.who.partition(":")[2]
        try:
            certificate = self.people.find(name, before=entry.index).certificate
            policy = self.rules.current(before=entry.index)
        except (UnknownPrincipal, BadName):
            return False
        except RefusedError as error:
            raise RecordAltered(f"it can't be judged: {error.message}", where=f"ledger entry {entry.index}") from None
        own = (label(name, certificate.role), certificate.keys.fingerprint()) == (entry.event.who, keys)
        return own and policy.approvals_needed(certificate, question) is not None

    def was_signed(self, entry: Entry, message: bytes, *questions: Question) -> bool:
        """Whether whoever made a ledger entry might do any of `questions` then, and signed `message` in it.

        Raises:
            RecordAltered: it can't be judged, as `was_entitled` says.

        """
        detail, name = entry.event.detail, entry.event.who.partition(":")[2]
        if not any(self.was_entitled(entry, question, keys=str(detail.get("key"))) for question in questions):
            return False
        keys = self.people.find(name, before=entry.index).certificate.keys
        try:
            keys.verify(base64.b64decode(str(detail.get("signature"))), message, where=entry.event.object)
        except (SignatureInvalid, ValueError):  # no base 64, or no ASCII even: somebody wrote what they liked
            return False
        return True

    def _owner(self, who: Identity, question: Question) -> None:
        """Refuse what only an owner's signature makes valid, whatever the policy in force may say."""
        if who.certificate.role != "owner":
            with self._refusals(Act(who.label, question.action, "home", question.purpose)):
                raise NotPermitted(f"{who.name} is no owner: only owners certify people", where=question.action)

    # ── policy ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def set_policy(self, text: str, by: Identity, *, why: str) -> Policy:
        """Change the policy, with a second owner's approval; a sole owner waits out the delay (docs/access.md)."""
        policy = Policy(text)
        grant = self.demand(by, Question("access.policy", purpose=why), Matter(digest=policy.digest))
        return self.rules.adopt(text, grant.identity, why=why, request=grant.request)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _classified(self, question: Question) -> Question:
        if question.checkpoint is None:
            return question
        return dataclasses.replace(question, classification=self.classify(question.checkpoint))

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
            self._journal.record_failure(act, "refused", detail={"code": error.code, "at": error.where})
            raise


def _unclassified(title: CheckpointName) -> str:
    del title
    return ""


def object_of(question: Question) -> str:
    """Return how the ledger names what a question is about."""
    return "home" if question.checkpoint is None else f"checkpoint:{question.checkpoint}"


def _refusal(who: Identity, question: Question, policy: Policy) -> StrongroomError:
    """Return why not: because of the purpose alone, or at all."""
    fitting = dataclasses.replace(question, purpose=who.certificate.purpose)
    if policy.approvals_needed(who.certificate, fitting) is not None:
        return PurposeMismatch(f"{who.name} was added for another purpose", where=question.action)
    return NotPermitted(f"{who.name} ({who.certificate.role}) may not {question.action}", where=object_of(question))
