"""Two people: requests, approvals, and every way of getting around them."""

from __future__ import annotations

import threading

import msgspec
import pytest

from strongroom.access.desk import Matter
from strongroom.access.identity import Identity
from strongroom.access.policy import Question, default_text
from strongroom.access.requests import Request, approve
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    ApprovalAltered,
    ApprovalConsumed,
    ApprovalExpired,
    ApprovalNeeded,
    NoSuchRequest,
    NotPermitted,
    SelfApproval,
    StrongroomError,
)
from strongroom.core.ids import CheckpointName
from strongroom.ports.records import Change
from tests.access.office import Office
from tests.clock import StepClock

EXPORT = Question("custody.export", CheckpointName("chat", "v1"), "hand-over")
MATTER = Matter(digest="d" * 64, destination="/out/chat")


def ask(office: Office, who: Identity, matter: Matter = MATTER) -> str:
    with pytest.raises(ApprovalNeeded) as caught:
        office.desk.demand(who, EXPORT, matter)
    return caught.value.where


def read(office: Office, request_id: str) -> tuple[int, Request]:
    stored = office.records.get("request", request_id)
    return stored.version, decode(stored.document, Request, where="t")


def plant(office: Office, request_id: str, request: Request) -> None:
    version, _ = read(office, request_id)
    office.records.apply([Change("request", request_id, version, encode(request))])


@pytest.fixture
def carla(office: Office) -> Identity:
    return office.add("carla", "custodian")


def test_alone_is_refused_and_by_two_works_once(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    assert office.last().event.outcome == "refused"
    office.desk.approve(request, office.owner)
    grant = office.desk.demand(carla, EXPORT, MATTER)
    event = office.journal.ledger.entry(grant.index).event
    assert (event.outcome, event.claim) == ("granted", f"request:{request}")
    assert event.detail["approvers"] == "owner"
    assert ask(office, carla) != request


def test_asking_again_names_the_same_request(office: Office, carla: Identity) -> None:
    assert ask(office, carla) == ask(office, carla)
    assert len(office.desk.approvals.open_requests()) == 1


def test_nobody_approves_their_own_request(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    with pytest.raises(SelfApproval):
        office.desk.approve(request, carla)
    assert office.last().event.detail["code"] == "access.self_approval"


def test_a_self_signed_approval_in_the_records_is_refused_at_use(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    _, stored = read(office, request)
    twin = msgspec.structs.replace(
        approve(stored.statement, office.owner.keyring, at="2026-11-23T08:00:00.000Z"), approver="carla"
    )
    plant(office, request, msgspec.structs.replace(stored, approvals=(twin,)))
    with pytest.raises(SelfApproval):
        office.desk.demand(carla, EXPORT, MATTER)


def test_a_researcher_can_neither_request_nor_approve(office: Office, carla: Identity) -> None:
    rosa = office.add("rosa", "researcher")
    request = ask(office, carla)
    with pytest.raises(NotPermitted):
        office.desk.approve(request, rosa)
    with pytest.raises(NotPermitted):
        office.desk.demand(rosa, EXPORT, MATTER)


def test_an_approval_expires(office: Office, carla: Identity, clock: StepClock) -> None:
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    clock.step(hours=24)
    with pytest.raises(ApprovalExpired):
        office.desk.demand(carla, EXPORT, MATTER)
    with pytest.raises(NoSuchRequest):
        office.desk.approve(request, office.owner)


def test_an_expired_request_is_not_approved(office: Office, carla: Identity, clock: StepClock) -> None:
    request = ask(office, carla)
    clock.step(days=2)
    assert office.desk.approvals.open_requests() == []
    with pytest.raises(ApprovalExpired):
        office.desk.approve(request, office.owner)


def test_a_moved_tag_voids_the_approval(office: Office, carla: Identity) -> None:
    office.desk.approve(ask(office, carla), office.owner)
    with pytest.raises(ApprovalAltered, match="digest"):
        office.desk.demand(carla, EXPORT, Matter(digest="e" * 64, destination="/out/chat"))


def test_another_destination_is_another_request(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    assert ask(office, carla, Matter(digest="d" * 64, destination="/elsewhere")) != request


@pytest.mark.parametrize("field", ["destination", "purpose", "requester", "host", "digest"])
def test_an_altered_statement_is_refused_by_its_signatures(office: Office, carla: Identity, field: str) -> None:
    request = ask(office, carla, Matter(digest="0" * 64, destination="/harmless"))
    office.desk.approve(request, office.owner)
    _, stored = read(office, request)
    wanted = msgspec.structs.replace(stored.statement.wanted, digest="d" * 64, destination="/out/chat")
    changed = msgspec.structs.replace(stored.statement, wanted=wanted)
    plant(office, request, msgspec.structs.replace(stored, statement=changed))
    with pytest.raises(ApprovalAltered, match="not the one that was made"):
        office.desk.demand(carla, EXPORT, MATTER)
    assert field in type(wanted).__struct_fields__


def test_a_prolonged_expiry_is_refused(office: Office, carla: Identity, clock: StepClock) -> None:
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    _, stored = read(office, request)
    later = msgspec.structs.replace(stored.statement, expires="2036-01-01T00:00:00.000Z")
    plant(office, request, msgspec.structs.replace(stored, statement=later))
    clock.step(days=2)
    with pytest.raises(ApprovalAltered):
        office.desk.demand(carla, EXPORT, MATTER)


def test_a_used_approval_put_back_from_a_copy_is_refused(office: Office, carla: Identity) -> None:
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    _, approved = read(office, request)
    office.desk.demand(carla, EXPORT, MATTER)
    plant(office, request, approved)
    with pytest.raises(ApprovalConsumed):
        office.desk.demand(carla, EXPORT, MATTER)


def test_an_approval_is_used_once_by_many_at_once(office: Office, carla: Identity) -> None:
    office.desk.approve(ask(office, carla), office.owner)
    outcomes: list[str] = []

    def use() -> None:
        try:
            office.desk.demand(carla, EXPORT, MATTER)
            outcomes.append("granted")
        except StrongroomError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert outcomes.count("granted") == 1, outcomes


def test_a_crash_between_claim_and_record_does_not_give_it_back(
    office: Office, carla: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.desk.approve(ask(office, carla), office.owner)
    monkeypatch.setattr(office.desk.approvals, "_close", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        office.desk.demand(carla, EXPORT, MATTER)
    monkeypatch.undo()
    with pytest.raises(ApprovalConsumed):
        office.desk.demand(carla, EXPORT, MATTER)


def test_an_approver_who_was_disabled_no_longer_counts(office: Office, carla: Identity) -> None:
    carl = office.add("carl", "custodian")
    request = ask(office, carla)
    office.desk.approve(request, carl)
    office.desk.disable("carl", office.owner)
    assert ask(office, carla) == request


def test_a_new_policy_voids_approvals_under_the_old_one(office: Office, carla: Identity) -> None:
    second = office.add("olga", "owner")
    office.desk.approve(ask(office, carla), office.owner)
    text = default_text() + "// stricter\n"
    with pytest.raises(ApprovalNeeded) as caught:
        office.desk.set_policy(text, office.owner, why="test")
    office.desk.approve(caught.value.where, second)
    office.desk.set_policy(text, office.owner, why="test")
    with pytest.raises(ApprovalAltered, match="policy"):
        office.desk.demand(carla, EXPORT, MATTER)


def test_the_same_approver_twice_counts_once(office: Office, carla: Identity) -> None:
    second = office.add("olga", "owner")
    text = default_text().replace(
        "resource\n) when { context.approvals >= 1 }",
        "resource\n) when { context.approvals >= 2 }",
    )
    assert text != default_text()
    with pytest.raises(ApprovalNeeded) as caught:
        office.desk.set_policy(text, office.owner, why="three people")
    office.desk.approve(caught.value.where, second)
    office.desk.set_policy(text, office.owner, why="three people")
    request = ask(office, carla)
    office.desk.approve(request, office.owner)
    office.desk.approve(request, office.owner)
    assert ask(office, carla) == request
    office.desk.approve(request, second)
    assert office.desk.demand(carla, EXPORT, MATTER).request == request


def test_a_sole_owner_changes_policy_alone_only_after_the_delay(
    office: Office, carla: Identity, clock: StepClock
) -> None:
    text = default_text() + "// mine\n"
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(text, office.owner, why="alone")
    clock.step(hours=23)
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(text, office.owner, why="alone")
    clock.step(hours=2)
    assert office.desk.set_policy(text, office.owner, why="alone").text == text
    granted = [one.event for one in office.log() if one.event.action == "access.policy" and one.event.claim]
    assert granted[-1].detail["sole_owner"] is True


def test_an_owner_who_is_not_alone_gains_nothing_by_waiting(office: Office, clock: StepClock) -> None:
    office.add("olga", "owner")
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(default_text() + "// x\n", office.owner, why="w")
    clock.step(hours=30)
    with pytest.raises(ApprovalNeeded):
        office.desk.set_policy(default_text() + "// x\n", office.owner, why="w")


def test_a_passphrase_set_by_somebody_else_shows_on_the_approval(office: Office, carla: Identity) -> None:
    from strongroom.core.secrets import Secret

    request = ask(office, carla)
    approved = office.desk.approve(request, office.owner)
    assert any("carla's passphrase was set by person:owner" in note for note in office.desk.approvals.notes(approved))
    assert "carla's passphrase" in str(office.last().event.detail["notes"])
    office.desk.change_passphrase(carla.name, Secret(b"carla"), Secret(b"own"))
    assert office.desk.approvals.notes(approved) == ["owner, who approved, is also the one who let carla in"]


def test_an_altered_policy_text_stops_everything(office: Office, carla: Identity) -> None:
    digest = office.desk.rules.current().digest
    stored = office.records.get("policy", digest)
    text = encode("permit(principal, action, resource);")
    office.records.apply([Change("policy", digest, stored.version, text)])
    office.desk.rules._read.clear()  # as a new process starts
    with pytest.raises(StrongroomError) as caught:
        office.desk.demand(carla, Question("custody.open", CheckpointName("chat", "v1")))
    assert caught.value.code == "access.policy_invalid"
