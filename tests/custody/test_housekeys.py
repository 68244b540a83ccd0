"""Keys of the house: made once, wrapped to everybody who may use them, pinned by the ledger."""

from __future__ import annotations

import hashlib

import pytest

from strongroom.access.policy import Question
from strongroom.access.settle import settle
from strongroom.core.canonical import encode
from strongroom.core.errors import NotPermitted, WrongKey
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import MARK_MASTER, HouseKeys
from strongroom.custody.keys import wrap_key
from strongroom.custody.registry import Registry
from strongroom.ledger.journal import Act
from tests.access import conftest
from tests.access.office import Office

office = conftest.office
ASK = Question("watermark.detect")


@pytest.fixture
def house(office: Office) -> HouseKeys:
    registry = Registry(office.records, office.journal, entitled=lambda _entry, _name: True)
    return HouseKeys(office.desk, office.journal, registry)


def test_everybody_who_may_gets_the_same_key_and_nobody_else_any(house: HouseKeys, office: Office) -> None:
    people = {name: office.add(name, role) for name, role in (("carla", "custodian"), ("ada", "auditor"))}
    rosa = office.add("rosa", "researcher")
    first = house.obtain(people["carla"], MARK_MASTER, ASK)
    assert [house.obtain(one, MARK_MASTER, ASK) for one in (people["ada"], office.owner)] == [first, first]
    with pytest.raises(NotPermitted):
        house.obtain(rosa, MARK_MASTER, ASK)
    assert len(first.reveal()) == 32


def test_the_ledger_says_so_before_the_key_is_given(house: HouseKeys, office: Office) -> None:
    house.obtain(office.owner, MARK_MASTER, ASK)
    actions = [one.event.action for one in office.log()]
    assert actions.index(ASK.action) < actions.index("custody.housekey")
    house.obtain(office.owner, MARK_MASTER, ASK)
    assert office.last().event.action == ASK.action


def test_whoever_comes_later_gets_it_by_a_rewrap(house: HouseKeys, office: Office) -> None:
    assert not house.exists(MARK_MASTER)
    assert not house.rewrap(office.owner, MARK_MASTER)
    key = house.obtain(office.owner, MARK_MASTER, ASK)
    ada = office.add("ada", "auditor")
    with pytest.raises(WrongKey, match="nobody wrapped"):
        house.obtain(ada, MARK_MASTER, ASK)
    assert house.rewrap(office.owner, MARK_MASTER)
    assert house.obtain(ada, MARK_MASTER, ASK) == key
    assert not house.rewrap(office.owner, MARK_MASTER)


def test_a_disabled_person_loses_the_envelope(house: HouseKeys, office: Office) -> None:
    office.add("ada", "auditor")
    house.obtain(office.owner, MARK_MASTER, ASK)
    office.desk.disable("ada", office.owner)
    assert house.rewrap(office.owner, MARK_MASTER)
    assert not [one for one in office.records.scan("envelope") if "/ada/" in one.key]


def test_another_key_put_in_its_place_is_refused(house: HouseKeys, office: Office) -> None:
    house.obtain(office.owner, MARK_MASTER, ASK)
    [stored] = office.records.scan("envelope")
    ident, public = stored.key.split("/")[0], office.owner.keyring.public
    forged = wrap_key(Secret(b"x" * 32), public, person="owner", checkpoint=ident, version=1)
    settle(office.records, "envelope", put={stored.key: encode(forged)})
    with pytest.raises(WrongKey, match="not the key that the ledger names"):
        house.obtain(office.owner, MARK_MASTER, ASK)


def test_the_log_keys_holder_plants_no_key_before_the_first_is_made(house: HouseKeys, office: Office) -> None:
    known = Secret(b"k" * 32)
    commitment = hashlib.sha256(b"strongroom housekey v1\x00" + known.reveal()).hexdigest()
    wrapped = wrap_key(known, office.owner.keyring.public, person="owner", checkpoint="housekey_evil", version=1)
    settle(office.records, "envelope", put={f"housekey_evil/owner/{wrapped.key[:32]}": encode(wrapped)})
    detail = {"id": "housekey_evil", "digest": commitment, "key": office.owner.keyring.public.fingerprint()}
    act = Act(office.owner.label, "custody.housekey", "housekey:mark-master")
    office.journal.record(act, "done", detail={**detail, "signature": "AAAA"})
    assert house.obtain(office.owner, MARK_MASTER, ASK) != known


def test_of_two_who_make_it_at_once_one_counts(house: HouseKeys, office: Office) -> None:
    first = house.obtain(office.owner, MARK_MASTER, ASK)
    carla = office.add("carla", "custodian")
    house.rewrap(office.owner, MARK_MASTER)
    house._make(carla, MARK_MASTER)
    assert house.obtain(carla, MARK_MASTER, ASK) == house.obtain(office.owner, MARK_MASTER, ASK) == first
    assert len({one.key.split("/")[0] for one in office.records.scan("envelope")}) == 1
