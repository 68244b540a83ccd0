"""Whose copy it was: the first deed counts, if a second person approved what it says; no custodian changes it alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from strongroom.access.deeds import Deeds
from strongroom.access.desk import Grant, Matter
from strongroom.access.identity import Identity
from strongroom.access.policy import Question, default_text
from strongroom.core.copy_errors import NoSuchCopy
from strongroom.core.errors import AlreadyExists, ApprovalAltered, ApprovalNeeded, NotPermitted, RecordAltered
from strongroom.custody.copy_formats import CopyIssuer, IssuedCopy
from strongroom.custody.recipient_keys import public_file, read_public
from strongroom.custody.recipients import COPIES, RECIPIENTS, Recipient
from strongroom.ports.records import Change
from tests.access import conftest
from tests.access.office import Office
from tests.custody.issuing import HOME, NAME, Desk, set_up
from tests.custody.marking import UlpMark

office = conftest.office


@pytest.fixture
def desk(office: Office, tmp_path: Path) -> Desk:
    return set_up(office, tmp_path)


def deeds(desk: Desk) -> Deeds:
    """What a custodian with a program of their own writes with: signed and chained, but asked nothing else."""
    return Deeds(desk.office.records, desk.office.journal, desk.office.desk, series=COPIES, home=HOME)


def write(desk: Desk, deed: IssuedCopy, *, who: Identity | None = None, under: str = "") -> None:
    deeds(desk).enter(who or desk.carla, f"copy:{under or deed.copy}", deed, why="by hand")


def redeemed(desk: Desk, deed: IssuedCopy, *, who: Identity, other: Identity) -> Grant:
    """Have `who` ask for exactly what `deed` says, `other` approve it, and use the approval up."""
    question = Question("custody.issue", NAME, deed.purpose)
    matter = Matter(digest=desk.vault.registry.current(NAME).manifest, destination=deed.destination)
    with pytest.raises(ApprovalNeeded) as asked:
        desk.office.desk.demand(who, question, matter)
    desk.office.desk.approve(asked.value.where, other)
    return desk.office.desk.demand(who, question, matter)


def changed(deed: IssuedCopy, **more: object) -> IssuedCopy:
    return msgspec.structs.replace(deed, **more)


def test_a_second_deed_changes_nothing(desk: Desk) -> None:
    issued = desk.issue()
    rival = msgspec.structs.replace(issued.recipient, name="rival", key="ab" * 32)
    for other in (changed(issued, recipient=rival), changed(issued, request="", licence="free")):
        with pytest.raises(AlreadyExists):
            desk.premises.copies.enter(desk.carla, other)
        write(desk, other)
        assert desk.premises.copies.all() == [issued]
        assert desk.premises.copies.of(NAME) == [issued]
        assert desk.premises.copies.find(issued.copy) == issued
    first = next(desk.office.journal.ledger.find(action=COPIES.entered, object=f"copy:{issued.copy}"))
    assert desk.premises.copies.entry(issued.copy) == first


def test_a_second_deed_with_an_approval_of_its_own(desk: Desk) -> None:
    """Two custodians agreed on something new: still no copy is renamed afterwards."""
    issued = desk.issue()
    other = changed(issued, recipient=msgspec.structs.replace(issued.recipient, name="rival"))
    other = changed(other, request=redeemed(desk, other, who=desk.carla, other=desk.carl).request)
    write(desk, other)
    assert desk.premises.copies.all() == [issued]


@pytest.mark.parametrize("request_id", ["", "req_unheard"])
def test_a_deed_without_a_request(desk: Desk, request_id: str) -> None:
    issued = desk.issue()
    planted = changed(issued, copy="copy_planted", request=request_id)
    write(desk, planted)
    assert desk.premises.copies.all() == [issued]
    with pytest.raises(NoSuchCopy):
        desk.premises.copies.find("copy_planted")
    with pytest.raises(ApprovalAltered, match="nobody approved"):
        desk.premises.copies.enter(desk.carla, changed(planted, copy="copy_again"))


def test_a_deed_with_somebody_elses_request(desk: Desk) -> None:
    issued = desk.issue()
    fresh = changed(issued, copy="copy_fresh", request=redeemed(desk, issued, who=desk.carl, other=desk.carla).request)
    write(desk, fresh)
    assert desk.premises.copies.all() == [issued]
    own = changed(fresh, issuer=CopyIssuer(name="carl", keys=desk.carl.keyring.public))
    write(desk, own)  # it names another than who signs it
    assert desk.premises.copies.all() == [issued]
    write(desk, own, who=desk.carl)
    assert desk.premises.copies.all() == [issued, own]


def test_two_deeds_for_one_request(desk: Desk) -> None:
    issued = desk.issue()
    twin = changed(issued, copy="copy_twin")
    write(desk, twin)
    assert desk.premises.copies.all() == [issued]
    with pytest.raises(ApprovalAltered):
        desk.premises.copies.enter(desk.carla, changed(issued, copy="copy_triplet"))


def test_a_deed_says_what_was_approved(desk: Desk) -> None:
    issued = desk.issue()
    rival = msgspec.structs.replace(issued.recipient, name="rival")
    other_key = msgspec.structs.replace(issued.recipient, key="ab" * 32)
    request = redeemed(desk, issued, who=desk.carla, other=desk.carl).request
    true = changed(issued, copy="copy_true", request=request)
    for number, more in enumerate(
        ({"recipient": rival}, {"recipient": other_key}, {"licence": "free"}, {"embargo": "2031-01-01"},
         {"expires": "2031-01-01"}, {"path": "/elsewhere"}, {"purpose": "another"}, {"tag": "v2"})
    ):  # fmt: skip
        write(desk, changed(true, copy=f"copy_{number}", **more))
        assert desk.premises.copies.all() == [issued], more
    write(desk, true)
    assert desk.premises.copies.all() == [issued, true]


def test_an_export_is_no_approval_of_a_copy(desk: Desk) -> None:
    issued = desk.issue()
    question = Question("custody.export", NAME, issued.purpose)
    matter = Matter(digest=desk.vault.registry.current(NAME).manifest, destination=issued.destination)
    with pytest.raises(ApprovalNeeded) as asked:
        desk.office.desk.demand(desk.carla, question, matter)
    desk.office.desk.approve(asked.value.where, desk.carl)
    grant = desk.office.desk.demand(desk.carla, question, matter)
    write(desk, changed(issued, copy="copy_exported", request=grant.request))
    assert desk.premises.copies.all() == [issued]


def test_a_deed_before_its_approval_was_used(desk: Desk) -> None:
    issued = desk.issue()
    Path(issued.path).rename(desk.root / "taken")
    request = desk.approve(desk.order())
    write(desk, changed(issued, copy="copy_early", request=request))
    again = desk.issuer().issue(desk.carla, NAME, desk.order())
    assert again.request == request
    assert desk.premises.copies.all() == [issued, again]


def test_what_does_not_count_hides_nothing(desk: Desk) -> None:
    """Deeds planted under the id of a copy in the making, whoever learned it."""
    earlier = desk.issue(desk.order("one"))
    desk.approve(desk.order())
    real = desk.marks.prepare

    def spied(checkpoint: str, copy: str, *words: object, **more: object) -> UlpMark:
        lab = desk.premises.recipients.find("lab")
        deeds(desk).enter(desk.carl, f"copy:{copy}", lab, why="no deed of a copy at all")
        write(desk, changed(earlier, copy=copy, request="req_planted"))
        write(desk, earlier, under=copy)
        return real(checkpoint, copy, *words, **more)  # type: ignore[arg-type]

    desk.marks.prepare = spied  # type: ignore[method-assign]
    issued = desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.premises.copies.all() == [earlier, issued]
    assert desk.premises.copies.find(issued.copy) == issued


def test_a_deed_whose_document_is_gone_is_told(desk: Desk) -> None:
    """It may have been the first: so the second does not count silently."""
    issued = desk.issue()
    [stored] = [one for one in desk.office.records.scan("deed") if one.key.startswith("copy:")]
    desk.office.records.apply([Change(kind="deed", key=stored.key, expect=stored.version, document=None)])
    with pytest.raises(RecordAltered, match="gone"):
        desk.premises.copies.find(issued.copy)


def test_nobody_issues_alone_whatever_the_policy_says(desk: Desk) -> None:
    alone = 'permit (principal in Role::"custodian", action == Action::"custody.issue", resource);'
    second, text = desk.office.add("olga", "owner"), f"{default_text()}\n{alone}\n"
    with pytest.raises(ApprovalNeeded) as asked:
        desk.office.desk.set_policy(text, desk.office.owner, why="haste")
    desk.office.desk.approve(asked.value.where, second)
    desk.office.desk.set_policy(text, desk.office.owner, why="haste")
    with pytest.raises(NotPermitted, match="second person"):
        desk.issuer().issue(desk.carla, NAME, desk.order())
    assert desk.away == []
    assert desk.office.last().event.outcome == "failed"


def test_nobody_gives_a_recipient_another_key(desk: Desk) -> None:
    first = desk.premises.recipients.find("lab")
    file = desk.add_recipient("rival")
    other = Recipient(name="lab", kind="organisation", keys=read_public(public_file(file)))
    kept = Deeds(desk.office.records, desk.office.journal, desk.office.desk, series=RECIPIENTS, home=HOME)
    kept.enter(desk.carla, "recipient:lab", other, why="by hand")
    kept.enter(desk.carla, "recipient:alias", other, why="by hand")
    assert desk.premises.recipients.find("lab") == first
    assert [one.name for one in desk.premises.recipients.all()] == ["lab", "rival"]
