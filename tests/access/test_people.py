"""Who is in the home, and what happens to those who should not be."""

from __future__ import annotations

import msgspec
import pytest

from strongroom.access.directory import CERTIFIED, Entrant
from strongroom.access.keys import Keyring, new_seed
from strongroom.access.people import Person, certify
from strongroom.access.recovery import new_recovery_key, recovery_keyring
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    AlreadyExists,
    NotPermitted,
    PrincipalAltered,
    PrincipalDisabled,
    UnknownPrincipal,
    WrongPassphrase,
    WrongRecoveryKey,
)
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail
from strongroom.ports.records import Change
from tests.access.office import Office


def test_a_wrong_passphrase_is_refused_and_logged(office: Office) -> None:
    with pytest.raises(WrongPassphrase):
        office.desk.authenticate("owner", Secret(b"guess"))
    event = office.last().event
    assert (event.action, event.outcome, event.object) == ("access.authenticate", "refused", "person:owner")
    assert "guess" not in str(event)


def test_an_unknown_name_is_refused_and_logged(office: Office) -> None:
    with pytest.raises(UnknownPrincipal):
        office.desk.authenticate("mallory", Secret(b"x"))
    assert office.last().event.detail["code"] == "access.unknown_principal"


def test_only_an_owner_adds_people(office: Office) -> None:
    custodian = office.add("carla", "custodian")
    with pytest.raises(NotPermitted):
        office.desk.add(Entrant("eve", "owner", Secret(b"x")), custodian)
    assert office.last().event.outcome == "refused"


def test_a_name_is_used_once_even_after_disabling(office: Office) -> None:
    office.add("carla", "custodian")
    office.desk.disable("carla", office.owner)
    with pytest.raises(AlreadyExists):
        office.add("carla", "custodian")


def kept(office: Office, kind: str, name: str) -> dict[str, bytes]:
    return {stored.key: stored.document for stored in office.records.scan(kind, f"{name}/")}


def put_back(office: Office, kind: str, documents: dict[str, bytes]) -> None:
    for key, document in documents.items():
        stored = office.records.get(kind, key)
        office.records.apply([Change(kind, key, 0 if stored is None else stored.version, document)])


def test_a_disabled_person_is_out_at_once_and_for_good(office: Office) -> None:
    carla = office.add("carla", "custodian")
    people, boxes = kept(office, "person", "carla"), kept(office, "lockbox", "carla")
    office.desk.disable("carla", office.owner)
    assert kept(office, "lockbox", "carla") == {}
    for _ in range(2):
        with pytest.raises(PrincipalDisabled):
            office.desk.authenticate("carla", Secret(b"carla"))
        with pytest.raises(PrincipalDisabled):  # a session that was open keeps nothing alive
            office.desk.resume("carla", carla.keyring.seed)
        put_back(office, "person", people)  # records put back from a copy change nothing
        put_back(office, "lockbox", boxes)


def test_an_earlier_passphrase_put_back_opens_nothing(office: Office) -> None:
    carla = office.add("carla", "custodian")
    boxes = kept(office, "lockbox", "carla")
    office.desk.change_passphrase(carla.name, Secret(b"carla"), Secret(b"mine"))
    put_back(office, "lockbox", boxes)
    with pytest.raises(WrongPassphrase):
        office.desk.authenticate("carla", Secret(b"carla"))
    ((now, _),) = [one for one in kept(office, "lockbox", "carla").items() if one[0] not in boxes]
    (old,) = boxes.values()
    put_back(office, "lockbox", {now: old})
    with pytest.raises(PrincipalAltered):
        office.desk.authenticate("carla", Secret(b"carla"))


def test_a_planted_owner_is_refused(office: Office) -> None:
    office.add("carla", "custodian")
    ((key, document),) = kept(office, "person", "carla").items()
    person = decode(document, Person, where="t")
    forged = msgspec.structs.replace(person.certificate, role="owner")
    put_back(office, "person", {key: encode(msgspec.structs.replace(person, certificate=forged))})
    with pytest.raises(PrincipalAltered):
        office.desk.people.find("carla")


def test_a_planted_owner_with_a_forged_ledger_entry_is_refused(office: Office) -> None:
    """Whoever can write the log (its key has no passphrase) still can't sign as an owner."""
    mallory = Keyring("mallory", new_seed())
    owner = office.desk.people.find("owner")
    for issuer in ("mallory", "owner"):
        certificate = msgspec.structs.replace(
            owner.certificate, name="mallory", keys=mallory.public, issuer=issuer, serial=1
        )
        person = Person(certificate=certificate, signature=certify(certificate, mallory), recovery=None)
        put_back(office, "person", {f"mallory/{certificate.digest()}": encode(person)})
        detail: Detail = {"digest": certificate.digest(), "serial": 1, "role": "owner", "status": "active"}
        office.journal.record(Act("person:owner", CERTIFIED, "person:mallory"), "done", detail=detail)
        with pytest.raises(PrincipalAltered):
            office.desk.people.find("mallory")


def test_a_second_owner_may_disable_the_first(office: Office) -> None:
    second = office.add("olga", "owner")
    office.desk.disable("owner", second)
    assert not office.desk.people.find("owner").active
    assert office.desk.people.find("olga").active
    office.owner = second
    assert office.add("rosa", "researcher").certificate.issuer == "olga"


def test_a_passphrase_set_by_somebody_else_counts_so_until_changed(office: Office) -> None:
    carla = office.add("carla", "custodian")
    assert office.desk.people.passphrase_set_by("carla") == "person:owner"
    office.desk.change_passphrase(carla.name, Secret(b"carla"), Secret(b"mine"))
    assert office.desk.people.passphrase_set_by("carla") == "person:carla"
    assert office.desk.authenticate("carla", Secret(b"mine")).name == "carla"
    with pytest.raises(WrongPassphrase):
        office.desk.authenticate("carla", Secret(b"carla"))


def test_changing_asks_for_the_old_passphrase(office: Office) -> None:
    with pytest.raises(WrongPassphrase):
        office.desk.change_passphrase("owner", Secret(b"wrong"), Secret(b"new"))


def test_the_recovery_key_sets_a_new_passphrase_and_that_shows(office: Office) -> None:
    office.desk.recover("owner", recovery_keyring(office.recovery), Secret(b"fresh"))
    assert office.desk.authenticate("owner", Secret(b"fresh")).keyring.public != office.owner.keyring.public
    assert office.desk.people.passphrase_set_by("owner") == "recovery"


def test_another_recovery_key_is_refused_and_logged(office: Office) -> None:
    with pytest.raises(WrongRecoveryKey):
        office.desk.recover("owner", recovery_keyring(new_recovery_key()), Secret(b"fresh"))
    assert office.last().event.outcome == "refused"


@pytest.mark.parametrize("slip", ["drop", "swap", "word"])
def test_a_slip_of_the_pen_in_a_recovery_key_is_named(slip: str) -> None:
    text = new_recovery_key().reveal().decode()
    wrong = {"drop": text[:-1], "swap": text[:5] + ("A" if text[5] != "A" else "B") + text[6:], "word": "passphrase"}
    with pytest.raises(WrongRecoveryKey):
        recovery_keyring(Secret(wrong[slip].encode()))


def test_a_recovery_key_may_be_typed_in_small_letters_with_spaces() -> None:
    key = new_recovery_key()
    typed = key.reveal().decode().lower().replace("-", " ")
    assert recovery_keyring(Secret(typed.encode())).public == recovery_keyring(key).public
