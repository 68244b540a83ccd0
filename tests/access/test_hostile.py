"""What somebody does who can write the records, or even the log, or who was trusted once."""

from __future__ import annotations

import base64
from collections.abc import Callable

import msgspec
import pytest

from strongroom.access.desk import Matter
from strongroom.access.directory import Entrant
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring
from strongroom.access.lockers import Lockers
from strongroom.access.people import Certificate, Person, certify
from strongroom.access.policy import Question, default_text
from strongroom.access.requests import Request, requested_bytes
from strongroom.access.roll import ADOPTED, CERTIFIED, Roll
from strongroom.access.rules import Rules
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    AlreadyExists,
    ApprovalAltered,
    ApprovalExpired,
    ApprovalNeeded,
    BadInput,
    Busy,
    EntryTooLarge,
    NotPermitted,
    PolicyInvalid,
    PrincipalAltered,
    PrincipalDisabled,
    StrongroomError,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail
from strongroom.ports.records import Change
from tests.access.office import Office
from tests.clock import StepClock

EXPORT = Question("custody.export", CheckpointName("chat", "v1"), "hand-over")
MATTER = Matter(digest="d" * 64, destination="/out/chat")


@pytest.fixture
def carla(office: Office) -> Identity:
    return office.add("carla", "custodian")


def ask(office: Office, who: Identity) -> str:
    with pytest.raises(ApprovalNeeded) as caught:
        office.desk.demand(who, EXPORT, MATTER)
    return caught.value.where


def put(office: Office, kind: str, key: str, document: bytes) -> None:
    stored = office.records.get(kind, key)
    office.records.apply([Change(kind, key, 0 if stored is None else stored.version, document)])


def enter(office: Office, person: Person, *, by: str) -> None:
    """Enter a certificate as whoever holds the log's key can: without our code's judgement."""
    office.desk.people.roll.store(person)
    certificate = person.certificate
    detail: Detail = {"digest": certificate.digest(), "serial": certificate.serial, "status": certificate.status}
    office.journal.record(Act(by, CERTIFIED, f"person:{certificate.name}"), "done", detail=detail)


# ── people who were trusted once ─────────────────────────────────────────────────────────────────────────────────────
def test_an_identity_from_before_is_worth_nothing_once_disabled(office: Office, carla: Identity) -> None:
    olga = office.add("olga", "owner")
    request = ask(office, carla)
    office.desk.disable("carla", office.owner)
    office.desk.disable("olga", office.owner)
    with pytest.raises(PrincipalDisabled):
        office.desk.demand(carla, Question("custody.seal", CheckpointName("x", "y")))
    with pytest.raises(PrincipalDisabled):
        office.desk.require(carla, Question("registry.read"))
    with pytest.raises(PrincipalDisabled):
        office.desk.add(Entrant("ghost", "owner", Secret(b"x")), olga)
    with pytest.raises(StrongroomError):
        office.desk.approve(request, olga)


def test_whoever_set_the_first_passphrase_keeps_no_key_that_works(office: Office, carla: Identity) -> None:
    kept = carla.keyring
    own = office.desk.change_passphrase(carla.name, Secret(b"carla"), Secret(b"mine"))
    assert own.keyring.public != kept.public
    with pytest.raises(PrincipalAltered):
        office.desk.resume("carla", kept.seed)
    with pytest.raises(PrincipalAltered):
        office.desk.demand(Identity(carla.certificate, kept), Question("custody.seal", CheckpointName("x", "y")))
    assert office.desk.authenticate("carla", Secret(b"mine")).keyring.public == own.keyring.public
    again = office.desk.change_passphrase(own.name, Secret(b"mine"), Secret(b"mine2"))
    assert again.keyring.public != own.keyring.public
    with pytest.raises(BadInput):
        office.desk.change_passphrase(own.name, Secret(b"mine2"), Secret(b"mine2"))


def test_keys_renewed_by_their_owner_are_in_the_recovery_key_too(office: Office, carla: Identity) -> None:
    from strongroom.access.recovery import recovery_keyring

    own = office.desk.change_passphrase(carla.name, Secret(b"carla"), Secret(b"mine"))
    office.desk.recover("carla", recovery_keyring(office.recovery), Secret(b"back"))
    assert office.desk.authenticate("carla", Secret(b"back")).keyring.public != own.keyring.public
    assert office.desk.people.passphrase_set_by("carla") == "recovery"


def test_nobody_gives_themselves_another_role_while_renewing_keys(office: Office, carla: Identity) -> None:
    old = office.desk.people.find("carla")
    raised = msgspec.structs.replace(old.certificate, role="owner", serial=2, issuer="carla")
    person = Person(certificate=raised, signature=certify(raised, carla.keyring), recovery=None)
    enter(office, person, by="person:carla")
    with pytest.raises(PrincipalAltered):
        office.desk.people.find("carla")


def test_a_disabled_owner_lets_nobody_in_any_more(office: Office) -> None:
    olga = office.add("olga", "owner")
    office.desk.disable("olga", office.owner)
    ghost = Keyring("ghost", Secret(b"g" * 128))
    certificate = msgspec.structs.replace(
        olga.certificate, name="ghost", keys=ghost.public, issuer="olga", serial=1, issued="2026-11-23T00:00:00.000Z"
    )
    person = Person(certificate=certificate, signature=certify(certificate, olga.keyring), recovery=None)
    enter(office, person, by="person:olga")
    with pytest.raises(PrincipalAltered, match="no active owner"):
        office.desk.people.find("ghost")


def test_an_old_certificate_is_not_entered_again(office: Office, carla: Identity) -> None:
    office.desk.disable("carla", office.owner)
    detail: Detail = {"digest": carla.certificate.digest(), "serial": 1, "role": "custodian", "status": "active"}
    office.journal.record(Act("person:owner", CERTIFIED, "person:carla"), "done", detail=detail)
    with pytest.raises(PrincipalAltered, match="count up"):
        office.desk.people.find("carla")


def test_hiding_somebodys_records_does_not_hide_them(office: Office) -> None:
    office.add("olga", "owner")
    for stored in office.records.scan("person", "olga/"):
        office.records.apply([Change("person", stored.key, stored.version, None)])
    with pytest.raises(PrincipalAltered):
        office.desk.people.everybody()


def test_an_owner_is_always_left_since_nobody_disables_themselves(office: Office) -> None:
    olga = office.add("olga", "owner")
    with pytest.raises(NotPermitted):
        office.desk.disable("owner", office.owner)
    office.desk.disable("owner", olga)
    with pytest.raises(NotPermitted):
        office.desk.disable("olga", olga)
    with pytest.raises(NotPermitted):
        office.desk.people.disable("olga", issuer=office.owner.keyring)


def test_who_let_the_requester_in_shows_on_the_approval_for_good(office: Office) -> None:
    puppet = office.add("puppet", "custodian")
    puppet = office.desk.change_passphrase(puppet.name, Secret(b"puppet"), Secret(b"still mine"))
    request = ask(office, puppet)
    approved = office.desk.approve(request, office.owner)
    assert office.desk.approvals.notes(approved) == ["owner, who approved, is also the one who let puppet in"]
    office.desk.demand(puppet, EXPORT, MATTER)
    assert "let puppet in" in str(office.last().event.detail["notes"])


# ── two at once ──────────────────────────────────────────────────────────────────────────────────────────────────────
def meanwhile(office: Office, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Have `act` done by somebody else between judging and entering, once."""
    roll, todo = office.desk.people.roll, [act]
    real = type(roll).enter

    def enter_late(self: Roll, person: Person, *, by: str, moment: int) -> None:
        if todo:
            todo.pop()()
        real(self, person, by=by, moment=moment)

    monkeypatch.setattr(type(roll), "enter", enter_late)


def test_two_owners_do_not_disable_each_other(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    olga = office.add("olga", "owner")
    meanwhile(office, monkeypatch, lambda: office.desk.disable("owner", olga))
    with pytest.raises(NotPermitted):
        office.desk.disable("olga", office.owner)
    assert office.desk.people.find("olga").active
    assert not office.desk.people.find("owner").active


def test_nobody_is_let_in_by_keys_that_are_being_renewed(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    renewing = lambda: office.desk.change_passphrase("owner", Secret(b"owner"), Secret(b"new"))  # noqa: E731
    meanwhile(office, monkeypatch, renewing)
    with pytest.raises(NotPermitted):
        office.desk.add(Entrant("x", "researcher", Secret(b"x")), office.owner)
    assert [one.name for one in office.desk.people.everybody()] == ["owner"]
    office.owner = office.desk.authenticate("owner", Secret(b"new"))
    assert office.add("x", "researcher").name == "x"


def test_of_two_new_passphrases_at_once_one_counts(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.add("carla", "custodian")
    meanwhile(office, monkeypatch, lambda: office.desk.change_passphrase("carla", Secret(b"carla"), Secret(b"one")))
    with pytest.raises(AlreadyExists):
        office.desk.change_passphrase("carla", Secret(b"carla"), Secret(b"two"))
    assert office.desk.authenticate("carla", Secret(b"one")).name == "carla"


def test_who_is_added_while_somebody_else_is_needs_no_second_try(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    meanwhile(office, monkeypatch, lambda: office.add("x", "researcher"))
    assert office.add("y", "researcher").name == "y"
    assert {one.name for one in office.desk.people.everybody()} == {"owner", "x", "y"}


def test_a_renewal_that_is_slow_to_clean_up_throws_away_no_box_in_force(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.add("carla", "custodian")
    real, todo = Lockers.drop, [1]

    def late(self: Lockers, certificate: Certificate) -> None:
        if todo:
            todo.clear()
            office.desk.change_passphrase("carla", Secret(b"one"), Secret(b"two"))
        real(self, certificate)

    monkeypatch.setattr(Lockers, "drop", late)
    office.desk.change_passphrase("carla", Secret(b"carla"), Secret(b"one"))
    assert office.desk.authenticate("carla", Secret(b"two")).name == "carla"


def test_hundreds_of_renewals_lock_nobody_out(office: Office, carla: Identity) -> None:
    seed, person = carla.keyring.seed, office.desk.people.find("carla")
    for number in range(400):
        renewed = office.desk.people._renewed(person, Keyring("carla", seed), {"passphrase_by": f"person:{number}"})
        office.desk.people.roll.store(renewed)
        enter(office, renewed, by="person:carla")
        person = renewed
    office.desk.people.roll._verified.clear()  # as a new process starts
    assert office.desk.people.find("carla").certificate.serial == 401


def test_a_policy_adopted_while_people_change_is_judged_again(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    rules, todo = office.desk.rules, [1]
    real = type(rules)._signed

    def signed_late(self: Rules, *args: object, **kwargs: object) -> bytes:
        if todo and not self._read.get(-1):
            todo.clear()
            office.desk.people.add(Entrant("x", "researcher", Secret(b"x")), issuer=office.owner.keyring)
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    rules.current()
    monkeypatch.setattr(type(rules), "_signed", signed_late)
    text = default_text() + "// newer\n"
    rules.adopt(text, office.owner, why="w")
    assert rules.current().text == text


def test_an_adoption_entered_again_is_none(office: Office) -> None:
    first = next(entry for entry in office.log() if entry.event.action == ADOPTED)
    office.desk.rules.adopt(default_text() + "// second\n", office.owner, why="w")
    event = first.event
    office.journal.record(Act(event.who, ADOPTED, "home"), "done", detail=dict(event.detail))
    with pytest.raises(PolicyInvalid):
        office.desk.rules.current()


def test_an_approval_answered_meanwhile_is_not_lost(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    before = office.desk.approvals._open(request)
    office.desk.approve(request, office.add("carl", "custodian"))
    with pytest.raises(Busy):
        office.desk.approvals._write(before, over=before)


def test_an_approval_with_keys_that_were_renewed_is_asked_for_again(office: Office, carla: Identity) -> None:
    carl = office.add("carl", "custodian")
    request = ask(office, carla)
    office.desk.approve(request, carl)
    carl = office.desk.change_passphrase("carl", Secret(b"carl"), Secret(b"own"))
    assert ask(office, carla) == request
    office.desk.approve(request, carl)
    assert office.desk.demand(carla, EXPORT, MATTER).request == request


def test_a_policy_gives_nobody_but_owners_the_power_to_certify(office: Office, carla: Identity) -> None:
    text = default_text() + 'permit(principal in Role::"custodian", action, resource);'
    office.desk.rules.adopt(text, office.owner, why="careless")
    with pytest.raises(NotPermitted):
        office.desk.add(Entrant("ghost", "owner", Secret(b"x")), carla)
    with pytest.raises(NotPermitted):
        office.desk.disable("owner", carla)
    with pytest.raises(NotPermitted):
        office.desk.set_policy(default_text(), carla, why="w")
    assert office.desk.rules.current().text == text


# ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_request_swapped_under_its_id_is_not_approved(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    stored = office.records.get("request", request)
    assert stored is not None
    before = decode(stored.document, Request, where="t")
    wanted = msgspec.structs.replace(before.statement.wanted, object="checkpoint:crown:v9")
    statement = msgspec.structs.replace(before.statement, wanted=wanted, expires="2999-01-01T00:00:00.000Z")
    swapped = Request(
        statement=statement, signature=carla.keyring.sign(requested_bytes(statement)), approvals=(), closed=""
    )
    put(office, "request", request, encode(swapped))
    with pytest.raises(ApprovalAltered):
        office.desk.approve(request, office.owner)
    put(office, "request", "req_other", encode(before))
    with pytest.raises(StrongroomError):
        office.desk.approve("req_other", office.owner)


def test_a_clock_set_back_revives_nothing(office: Office, carla: Identity, clock: StepClock) -> None:
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    clock.step(hours=25)
    office.journal.record(Act("os:0", "test.tick", "home"), "done")
    clock.step(hours=-25)
    with pytest.raises(ApprovalExpired):
        office.desk.demand(carla, EXPORT, MATTER)


def test_a_veto_is_not_removed_with_the_one_who_had_it(office: Office, clock: StepClock) -> None:
    office.add("olga", "owner")
    text = default_text() + "// mine\n"
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(text, office.owner, why="w")
    clock.step(hours=30)
    office.desk.disable("olga", office.owner)
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(text, office.owner, why="w")
    clock.step(hours=25)
    try:
        office.desk.set_policy(text, office.owner, why="w")
    except ApprovalExpired:  # the request was older than its life: a new one waits out the delay again
        with pytest.raises(ApprovalNeeded):
            office.desk.set_policy(text, office.owner, why="w")


@pytest.mark.parametrize("purpose", ["x" * 70_000, "\udcff", "\x1b[2J" * 20_000])
def test_no_words_keep_a_refusal_out_of_the_ledger(office: Office, purpose: str) -> None:
    rosa = office.add("rosa", "researcher")
    size = len(office.log())
    with pytest.raises(StrongroomError):
        office.desk.demand(rosa, Question("custody.export", CheckpointName("chat", "v1"), purpose), MATTER)
    assert len(office.log()) == size + 1
    assert office.last().event.outcome == "refused"
    with pytest.raises(StrongroomError):
        office.desk.authenticate(purpose, Secret(b"x"))
    assert len(office.log()) == size + 2


def test_a_grant_that_does_not_fit_into_an_entry_is_none(office: Office, carla: Identity) -> None:
    with pytest.raises(EntryTooLarge):
        office.desk.demand(carla, Question("custody.open", CheckpointName("chat", "v1"), "x" * 70_000))


# ── policy ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("signer", ["nobody", "carla", "olga, disabled", "owner, for another text"])
def test_a_policy_that_no_active_owner_signed_is_none(office: Office, carla: Identity, signer: str) -> None:
    olga = office.add("olga", "owner")
    office.desk.disable("olga", office.owner)
    text = "permit(principal, action, resource);"
    forged = office.desk.rules
    put(office, "policy", _digest(text), encode(text))
    previous = forged._adoptions()
    message = forged._signed(_digest(text), previous=previous, request="")
    keys = {"carla": carla.keyring, "olga, disabled": olga.keyring, "owner, for another text": office.owner.keyring}
    if signer.startswith("owner"):
        message = forged._signed("0" * 64, previous=previous, request="")
    signature = b"\0" * 64 if signer == "nobody" else keys[signer].sign(message)
    detail: Detail = {
        "digest": _digest(text),
        "request": "",
        "owner": "owner" if signer == "nobody" else signer.partition(",")[0],
        "signature": base64.b64encode(signature).decode(),
    }
    office.journal.record(Act("person:owner", ADOPTED, "home"), "done", detail=detail)
    with pytest.raises(PolicyInvalid):
        office.desk.demand(carla, Question("custody.open", CheckpointName("chat", "v1")))


def _digest(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()
