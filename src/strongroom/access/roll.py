"""The roll of a home: everybody's certificates, as the ledger tells them.

A certificate becomes true when the ledger says so: its record is stored first, inert, and the ledger entry that names
its digest makes it count. A crash between the two leaves the old state; a record put back from an old copy is refused.
Who certified whom is judged as of the entry: an owner who was disabled later has still let in whom they let in before,
and nobody after.
"""

from __future__ import annotations

from strongroom.access.keys import PublicKeys
from strongroom.access.people import Certificate, Person
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    AlreadyClaimed,
    AlreadyExists,
    BadInput,
    PrincipalAltered,
    SignatureInvalid,
    UnknownPrincipal,
)
from strongroom.core.ids import check_name
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

FOUNDED = "home.init"  # the ledger's first entry: pins the founder's keys and the recovery key
CERTIFIED = "access.certificate"  # makes a certificate the current one

_KIND = "person"


class Roll:
    """Who is in the home, and who let them in."""

    def __init__(self, records: Records, journal: Journal) -> None:
        """Read certificates from `records`, believe what the ledger behind `journal` names."""
        self._records = records
        self._journal = journal

    def find(self, name: str, *, before: int | None = None) -> Person:
        """Return the principal as it was before ledger entry `before` (None: now).

        Raises:
            UnknownPrincipal: nobody of that name was certified by then.
            PrincipalAltered: the stored record is not the one that the ledger names, or nobody entitled signed it.

        """
        check_name(name, what="principal")
        entries = self.history(name, before=before)
        if not entries:
            raise UnknownPrincipal("nobody of that name is in the home", where=name)
        return self._checked(name, entries)

    def everybody(self) -> list[Person]:
        """Return every principal by name, disabled ones included. The ledger says who there is, not the records."""
        names = {entry.event.object.partition(":")[2] for entry in self._journal.ledger.find(action=CERTIFIED)}
        return [self.find(name) for name in sorted(names)]

    def first(self, name: str) -> Person:
        """Return the principal as it was let in: its issuer is the owner who did it."""
        return self._checked(name, self.history(name)[:1])

    def history(self, name: str, *, before: int | None = None) -> list[Entry]:
        """Return the ledger's entries about `name`'s certificates, oldest first.

        Raises:
            PrincipalAltered: their serials don't count up from 1: somebody certified an old state anew.

        """
        found = list(self._journal.ledger.find(action=CERTIFIED, object=subject(name)))
        if [entry.event.detail.get("serial") for entry in found] != list(range(1, len(found) + 1)):
            raise PrincipalAltered("the ledger's entries about the certificates don't count up", where=name)
        return [entry for entry in found if before is None or entry.index < before]

    def store(self, person: Person) -> None:
        """Store a certificate, inert until `pin`."""
        key = f"{person.name}/{person.certificate.digest()}"
        stored = self._records.get(_KIND, key)
        self._records.apply([Change(_KIND, key, 0 if stored is None else stored.version, encode(person))])

    def pin(self, certificate: Certificate, *, by: str, lockbox: str = "") -> None:
        """Make a stored certificate the current one, and with `lockbox` the digest of the locked keys that go with it.

        Raises:
            AlreadyExists: somebody else certified the same serial meanwhile.

        """
        detail: Detail = {
            "digest": certificate.digest(),
            "serial": certificate.serial,
            "role": certificate.role,
            "status": certificate.status,
        }
        if lockbox:
            detail["lockbox"] = lockbox
        name = certificate.name
        try:
            claim = f"certificate:{name}/{certificate.serial}"
            self._journal.record(Act(by, CERTIFIED, subject(name)), "done", detail=detail, claim=claim)
        except AlreadyClaimed:
            raise AlreadyExists("somebody else certified this name meanwhile", where=name) from None

    def _checked(self, name: str, entries: list[Entry]) -> Person:
        """Return the newest of `entries`' certificates, signed by whoever was entitled to when it was entered."""
        person = self._stored(name, entries[-1])
        certificate = person.certificate
        try:
            self._signer(person, entries).verify(person.signature, certificate.signed_bytes(), where=name)
        except SignatureInvalid:
            raise PrincipalAltered("the certificate's signature does not verify", where=name) from None
        return person

    def _signer(self, person: Person, entries: list[Entry]) -> PublicKeys:
        """Return the keys that must have signed: the founder's own, the person's earlier ones, or an active owner's."""
        certificate, name = person.certificate, person.name
        if certificate.issuer != name:
            issuer = self.find(certificate.issuer, before=entries[-1].index).certificate
            if issuer.role != "owner" or issuer.status != "active":
                raise PrincipalAltered("the issuer of the certificate was no active owner", where=name)
            return issuer.keys
        if len(entries) == 1:
            if certificate.keys.fingerprint() != self._founder():
                raise PrincipalAltered("certified by itself, but not the home's founder", where=name)
            return certificate.keys
        earlier = self._checked(name, entries[:-1]).certificate
        if _standing(earlier) != _standing(certificate) or earlier.status != "active":
            raise PrincipalAltered("somebody gave themselves another standing", where=name)
        return earlier.keys

    def _stored(self, name: str, entry: Entry) -> Person:
        stored = self._records.get(_KIND, f"{name}/{entry.event.detail.get('digest')}")
        if stored is None:
            raise PrincipalAltered("the record that the ledger names is gone", where=name)
        try:
            person = decode(stored.document, Person, where=name)
        except BadInput as error:
            raise PrincipalAltered(error.message, where=name) from None
        certificate = person.certificate
        pinned = (certificate.digest(), certificate.name, certificate.serial)
        if pinned != (entry.event.detail.get("digest"), name, entry.event.detail.get("serial")):
            raise PrincipalAltered("the record is not the one that the ledger names", where=name)
        return person

    def _founder(self) -> str:
        return str(self._journal.ledger.entry(0).event.detail.get("fingerprint", ""))


def subject(name: str) -> str:
    """Return how the ledger names a principal as the object of an act."""
    return f"person:{name}"


def _standing(certificate: Certificate) -> tuple[str, str, str, str, str]:
    """Return what a person can't change with a key of their own."""
    return certificate.home, certificate.name, certificate.role, certificate.purpose, certificate.status
