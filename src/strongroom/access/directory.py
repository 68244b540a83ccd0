"""The people of a home: found, added, disabled, given new passphrases.

A record becomes true when the ledger says so: it is stored first, inert, and the ledger entry that names its digest
makes it count. A crash between the two leaves the old state; a record put back from an old copy is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from strongroom.access.keys import Keyring, PublicKeys, new_seed
from strongroom.access.lockbox import Lockbox, lock, unlock
from strongroom.access.people import Certificate, Person, Role, certify, label
from strongroom.core.canonical import decode, digest, encode
from strongroom.core.clock import stamp
from strongroom.core.errors import (
    AlreadyClaimed,
    AlreadyExists,
    BadInput,
    PrincipalAltered,
    PrincipalDisabled,
    SignatureInvalid,
    UnknownPrincipal,
    WrongKey,
    WrongRecoveryKey,
)
from strongroom.core.ids import check_name
from strongroom.core.secrets import Secret
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

FOUNDED = "home.init"  # the ledger's first entry: pins the first owner's keys and the recovery key
CERTIFIED = "access.certificate"  # makes a certificate the current one
PASSPHRASE_SET = "access.passphrase"  # says who set whose passphrase  # noqa: S105 - the name of an act

_KIND, _LOCKBOX = "person", "lockbox"


@dataclass(frozen=True, slots=True)
class Entrant:
    """Somebody to be added: the role, the passphrase to start with, and for a service, what it is for."""

    name: str
    role: Role
    passphrase: Secret
    purpose: str = ""


class People:
    """The directory of one home."""

    def __init__(self, records: Records, journal: Journal, *, home: str) -> None:
        """Keep the people of the home with the id `home`."""
        self._records = records
        self._journal = journal
        self._home = home

    # ── finding ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def find(self, name: str) -> Person:
        """Return the principal, its certificate checked against the ledger and its issuer's key.

        Raises:
            UnknownPrincipal: nobody of that name was ever certified.
            PrincipalAltered: the stored record is not the one that the ledger names, or no owner signed it.

        """
        check_name(name, what="principal")
        person = self._pinned(name, self._journal.ledger.latest(CERTIFIED, _object(name)))
        self._check_chain(person, trail=())
        return person

    def everybody(self) -> list[Person]:
        """Return every principal by name, disabled ones included."""
        names = {stored.key.rpartition("/")[0] for stored in self._records.scan(_KIND)}
        return [self.find(name) for name in sorted(names) if self._journal.ledger.latest(CERTIFIED, _object(name))]

    def passphrase_set_by(self, name: str) -> str:
        """Return the ledger's name of whoever last set this principal's passphrase (``""``: nobody yet)."""
        entry = self._journal.ledger.latest(PASSPHRASE_SET, _object(name))
        return "" if entry is None else entry.event.who

    # ── changing ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def found(self, entrant: Entrant, *, recovery: PublicKeys) -> Keyring:
        """Write the ledger's first entry and make `entrant` the first owner, certified by itself; return the keys."""
        seed = new_seed()
        keyring = Keyring(entrant.name, seed)
        pins: Detail = {
            "home": self._home,
            "owner": entrant.name,
            "fingerprint": keyring.public.fingerprint(),
            "recovery": recovery.fingerprint(),
        }
        self._journal.record(Act(label(entrant.name, "owner"), FOUNDED, "home"), "done", detail=pins)
        self._admit(entrant, seed, issuer=keyring, recovery=recovery)
        return keyring

    def add(self, entrant: Entrant, *, issuer: Keyring, recovery: PublicKeys) -> Person:
        """Add `entrant`, certified by the owner `issuer`, who counts as having set the passphrase until it is changed.

        Raises:
            AlreadyExists: somebody of that name is, or was, in the home.

        """
        check_name(entrant.name, what="principal")
        if self._journal.ledger.latest(CERTIFIED, _object(entrant.name)):
            raise AlreadyExists("somebody of that name is or was in the home", where=entrant.name)
        return self._admit(entrant, new_seed(), issuer=issuer, recovery=recovery)

    def disable(self, name: str, *, issuer: Keyring) -> Person:
        """End `name`'s rights at once: certify as disabled, and throw away the locked keys."""
        old = self.find(name)
        if not old.active:
            raise PrincipalDisabled("already disabled", where=name)
        certificate = msgspec.structs.replace(
            old.certificate,
            status="disabled",
            serial=old.certificate.serial + 1,
            issued=stamp(self._journal.clock.now()),
            issuer=issuer.name,
        )
        gone = Person(certificate=certificate, signature=certify(certificate, issuer), recovery=None)
        self._write(gone)
        self._pin(gone, by=issuer)
        self._write(msgspec.structs.replace(old, recovery=None))
        self._drop_boxes(name)
        return gone

    def change_passphrase(self, person: Person, seed: Secret, *, passphrase: Secret, by: str) -> None:
        """Lock `person`'s seed under a new passphrase; the ledger names who set it before it counts."""
        self._lock(person.name, self.fitting(person, seed), passphrase, by=by)

    def unlock(self, name: str, passphrase: Secret) -> tuple[Person, Secret]:
        """Return the principal and its seed.

        Raises:
            WrongPassphrase: the passphrase does not open the keys.
            PrincipalDisabled: the principal may not act any more.

        """
        person = self.find(name)
        if not person.active:
            raise PrincipalDisabled("this principal was disabled", where=name)
        return person, self.fitting(person, unlock(self._box(name), passphrase, name=name))

    def recover(self, name: str, recovery: Keyring, *, passphrase: Secret) -> None:
        """Give `name` a new passphrase with the home's recovery key; it counts as set by somebody else.

        Raises:
            WrongRecoveryKey: the key is not this home's.

        """
        person = self.find(name)
        if not person.active or person.recovery is None:
            raise PrincipalDisabled("this principal was disabled", where=name)
        try:
            seed = recovery.unwrap(person.recovery, info=self._recovery_info(name), where=name)
        except WrongKey:
            raise WrongRecoveryKey("the recovery key does not open the keys", where=name) from None
        self.change_passphrase(person, seed, passphrase=passphrase, by="recovery")

    @staticmethod
    def fitting(person: Person, seed: Secret) -> Secret:
        """Return `seed` if it is the seed of the certified keys.

        Raises:
            PrincipalAltered: it makes other keys than the certificate names.

        """
        if Keyring(person.name, seed).public != person.certificate.keys:
            raise PrincipalAltered("the locked keys are not the certified ones", where=person.name)
        return seed

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _admit(self, entrant: Entrant, seed: Secret, *, issuer: Keyring, recovery: PublicKeys) -> Person:
        certificate = Certificate(
            format="strongroom/certificate@1",
            home=self._home,
            name=entrant.name,
            role=entrant.role,
            purpose=entrant.purpose,
            keys=Keyring(entrant.name, seed).public,
            status="active",
            serial=1,
            issued=stamp(self._journal.clock.now()),
            issuer=issuer.name,
        )
        person = Person(
            certificate=certificate,
            signature=certify(certificate, issuer),
            recovery=recovery.wrap(seed, info=self._recovery_info(entrant.name)),
        )
        self._write(person)
        self._lock(entrant.name, seed, entrant.passphrase, by=label(issuer.name, "owner"))
        self._pin(person, by=issuer)
        return person

    def _write(self, person: Person) -> None:
        """Store a certificate, inert until the ledger names its digest."""
        self._put(_KIND, f"{person.name}/{person.certificate.digest()}", encode(person))

    def _lock(self, name: str, seed: Secret, passphrase: Secret, *, by: str) -> None:
        """Lock `seed` under a new passphrase. The new box is stored first, inert; the ledger's entry makes it count."""
        box = lock(seed, passphrase, name=name)
        self._put(_LOCKBOX, f"{name}/{digest(box)}", encode(box))
        self._journal.record(Act(by, PASSPHRASE_SET, _object(name)), "done", detail={"lockbox": digest(box)})
        self._drop_boxes(name, keep=digest(box))

    def _box(self, name: str) -> Lockbox:
        """Return the box that the ledger's newest entry names: one with an earlier passphrase opens nothing more."""
        entry = self._journal.ledger.latest(PASSPHRASE_SET, _object(name))
        key = "" if entry is None else f"{name}/{entry.event.detail.get('lockbox')}"
        stored = self._records.get(_LOCKBOX, key)
        if stored is None:
            raise PrincipalAltered("the locked keys that the ledger names are gone", where=name)
        box = decode(stored.document, Lockbox, where=name)
        if f"{name}/{digest(box)}" != key:
            raise PrincipalAltered("the locked keys are not the ones that the ledger names", where=name)
        return box

    def _drop_boxes(self, name: str, *, keep: str = "") -> None:
        old = [one for one in self._records.scan(_LOCKBOX, f"{name}/") if one.key != f"{name}/{keep}"]
        self._records.apply([Change(_LOCKBOX, one.key, one.version, None) for one in old])

    def _put(self, kind: str, key: str, document: bytes) -> None:
        stored = self._records.get(kind, key)
        self._records.apply([Change(kind, key, 0 if stored is None else stored.version, document)])

    def _pin(self, person: Person, *, by: Keyring) -> None:
        certificate = person.certificate
        detail: Detail = {
            "digest": certificate.digest(),
            "serial": certificate.serial,
            "role": certificate.role,
            "status": certificate.status,
        }
        act = Act(label(by.name, "owner"), CERTIFIED, _object(person.name))
        try:
            self._journal.record(act, "done", detail=detail, claim=f"certificate:{person.name}/{certificate.serial}")
        except AlreadyClaimed:
            raise AlreadyExists("somebody else certified this name meanwhile", where=person.name) from None

    def _check_chain(self, person: Person, *, trail: tuple[str, ...]) -> None:
        """Follow the issuers' first certificates up to the founder, whose keys the ledger's first entry pins.

        First certificates, because a later one may be issued by somebody whom its owner once let in.
        """
        certificate, name = person.certificate, person.name
        if certificate.issuer == name and certificate.keys.fingerprint() != self._founder():
            raise PrincipalAltered("certified by itself, but not the home's founder", where=name)
        issuer = person
        if certificate.issuer != name:
            issuer = self._first(certificate.issuer)
            if issuer.name in trail:
                raise PrincipalAltered("certified in a circle", where=name)
            self._check_chain(issuer, trail=(*trail, issuer.name))
        if issuer.certificate.role != "owner":
            raise PrincipalAltered("the issuer of the certificate is no owner", where=name)
        try:
            issuer.certificate.keys.verify(person.signature, certificate.signed_bytes(), where=name)
        except SignatureInvalid:
            raise PrincipalAltered("the certificate's signature does not verify", where=name) from None

    def _first(self, name: str) -> Person:
        return self._pinned(name, next(self._journal.ledger.find(action=CERTIFIED, object=_object(name)), None))

    def _pinned(self, name: str, entry: Entry | None) -> Person:
        """Return the record that a ledger entry about `name` points to."""
        if entry is None:
            raise UnknownPrincipal("nobody of that name is in the home", where=name)
        stored = self._records.get(_KIND, f"{name}/{entry.event.detail.get('digest')}")
        if stored is None:
            raise PrincipalAltered("the record that the ledger names is gone", where=name)
        try:
            person = decode(stored.document, Person, where=name)
        except BadInput as error:
            raise PrincipalAltered(error.message, where=name) from None
        if person.certificate.digest() != entry.event.detail.get("digest"):
            raise PrincipalAltered("the record is not the one that the ledger names", where=name)
        return person

    def _founder(self) -> str:
        return str(self._journal.ledger.entry(0).event.detail.get("fingerprint", ""))

    def _recovery_info(self, name: str) -> bytes:
        return f"strongroom recovery v1\n{self._home}\n{name}".encode()


def _object(name: str) -> str:
    return f"person:{name}"
