"""What somebody does who can write the records, or even the log, or who was trusted once."""

from __future__ import annotations

import base64

import msgspec
import pytest

from strongroom.access.desk import Matter
from strongroom.access.directory import Entrant
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring
from strongroom.access.people import Person, certify
from strongroom.access.policy import Question, default_text
from strongroom.access.requests import Request, requested_bytes
from strongroom.access.roll import CERTIFIED
from strongroom.access.rules import ADOPTED
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    ApprovalAltered,
    ApprovalExpired,
    ApprovalNeeded,
    EntryTooLarge,
    LastOwner,
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
    own = office.desk.change_passphrase(carla, Secret(b"carla"), Secret(b"mine"))
    assert own.keyring.public != kept.public
    with pytest.raises(PrincipalAltered):
        office.desk.resume("carla", kept.seed)
    with pytest.raises(PrincipalAltered):
        office.desk.demand(Identity(carla.certificate, kept), Question("custody.seal", CheckpointName("x", "y")))
    assert office.desk.authenticate("carla", Secret(b"mine")).keyring.public == own.keyring.public
    again = office.desk.change_passphrase(own, Secret(b"mine"), Secret(b"mine2"))
    assert again.keyring.public == own.keyring.public


def test_keys_renewed_by_their_owner_are_in_the_recovery_key_too(office: Office, carla: Identity) -> None:
    from strongroom.access.recovery import recovery_keyring

    own = office.desk.change_passphrase(carla, Secret(b"carla"), Secret(b"mine"))
    office.desk.recover("carla", recovery_keyring(office.recovery), Secret(b"back"))
    assert office.desk.authenticate("carla", Secret(b"back")).keyring.public == own.keyring.public


def test_nobody_gives_themselves_another_role_while_renewing_keys(office: Office, carla: Identity) -> None:
    old = office.desk.people.find("carla")
    raised = msgspec.structs.replace(old.certificate, role="owner", serial=2, issuer="carla")
    person = Person(certificate=raised, signature=certify(raised, carla.keyring), recovery=None)
    office.desk.people.roll.store(person)
    office.desk.people.roll.pin(raised, by="person:carla")
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
    office.desk.people.roll.store(person)
    office.desk.people.roll.pin(certificate, by="person:olga")
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


def test_the_last_owner_stays(office: Office) -> None:
    with pytest.raises(LastOwner):
        office.desk.disable("owner", office.owner)
    olga = office.add("olga", "owner")
    office.desk.disable("owner", olga)
    with pytest.raises(LastOwner):
        office.desk.disable("olga", olga)


def test_who_let_the_requester_in_shows_on_the_approval_for_good(office: Office) -> None:
    puppet = office.add("puppet", "custodian")
    puppet = office.desk.change_passphrase(puppet, Secret(b"puppet"), Secret(b"still mine"))
    request = ask(office, puppet)
    approved = office.desk.approve(request, office.owner)
    assert office.desk.approvals.notes(approved) == ["owner, who approved, is also the one who let puppet in"]
    office.desk.demand(puppet, EXPORT, MATTER)
    assert "let puppet in" in str(office.last().event.detail["notes"])


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
    previous = forged.current().digest
    message = forged._signed(_digest(text), previous=previous, request="")
    keys = {"carla": carla.keyring, "olga, disabled": olga.keyring, "owner, for another text": office.owner.keyring}
    if signer.startswith("owner"):
        message = forged._signed("0" * 64, previous=previous, request="")
    signature = b"\0" * 64 if signer == "nobody" else keys[signer].sign(message)
    detail: Detail = {
        "digest": _digest(text),
        "previous": previous,
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
