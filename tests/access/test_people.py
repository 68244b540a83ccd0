"""Who is in the home, and what happens to those who should not be."""

from __future__ import annotations

import msgspec
import pytest

from strongroom.access.directory import Entrant
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


def test_a_disabled_person_is_out_at_once_and_for_good(office: Office) -> None:
    carla = office.add("carla", "custodian")
    old = office.records.get("person", "carla/000001")
    office.desk.disable("carla", office.owner)
    with pytest.raises(PrincipalDisabled):
        office.desk.authenticate("carla", Secret(b"carla"))
    with pytest.raises(NotPermitted):  # a session that was open keeps nothing alive
        office.desk.resume("carla", carla.keyring.seed)
    stored = office.records.get("person", "carla/000001")
    assert decode(stored.document, Person, where="t").lockbox is None
    # the old record put back from a copy changes nothing: the ledger names the newer one
    office.records.apply([Change("person", "carla/000001", stored.version, old.document)])
    office.records.apply([Change("person", "carla/000002", 1, None)])
    with pytest.raises(PrincipalAltered):
        office.desk.authenticate("carla", Secret(b"carla"))


def test_a_planted_owner_is_refused(office: Office) -> None:
    office.add("carla", "custodian")
    stored = office.records.get("person", "carla/000001")
    person = decode(stored.document, Person, where="t")
    forged = msgspec.structs.replace(person.certificate, role="owner")
    planted = msgspec.structs.replace(person, certificate=forged)
    office.records.apply([Change("person", "carla/000001", stored.version, encode(planted))])
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
        person = Person(certificate=certificate, signature=certify(certificate, mallory), lockbox=None, recovery=None)
        stored = office.records.get("person", "mallory/000001")
        version = 0 if stored is None else stored.version
        office.records.apply([Change("person", "mallory/000001", version, encode(person))])
        office.desk.people._pin(person, by=office.owner.keyring)
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
    office.desk.change_passphrase(carla, Secret(b"carla"), Secret(b"mine"))
    assert office.desk.people.passphrase_set_by("carla") == "person:carla"
    assert office.desk.authenticate("carla", Secret(b"mine")).name == "carla"
    with pytest.raises(WrongPassphrase):
        office.desk.authenticate("carla", Secret(b"carla"))


def test_changing_asks_for_the_old_passphrase(office: Office) -> None:
    with pytest.raises(WrongPassphrase):
        office.desk.change_passphrase(office.owner, Secret(b"wrong"), Secret(b"new"))


def test_the_recovery_key_sets_a_new_passphrase_and_that_shows(office: Office) -> None:
    office.desk.recover("owner", recovery_keyring(office.recovery), Secret(b"fresh"))
    assert office.desk.authenticate("owner", Secret(b"fresh")).keyring.public == office.owner.keyring.public
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
