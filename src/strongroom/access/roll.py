"""The roll of a home: everybody's certificates, as the ledger tells them.

A certificate becomes true when the ledger says so: its record is stored first, inert, and the ledger entry that names
its digest makes it count. A crash between the two leaves the old state; a record put back from an old copy is refused.
Who certified whom is judged as of the entry: an owner who was disabled later has still let in whom they let in before,
and nobody after.
"""

from __future__ import annotations

import msgspec

from strongroom.access.keys import PublicKeys
from strongroom.access.people import Certificate, Person
from strongroom.access.settle import settle
from strongroom.core.canonical import decode, encode
from strongroom.core.errors import (
    AlreadyClaimed,
    BadInput,
    Busy,
    PrincipalAltered,
    SignatureInvalid,
    UnknownPrincipal,
)
from strongroom.core.ids import check_name
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Records

FOUNDED = "home.init"  # the ledger's first entry: pins the founder's keys and the recovery key
CERTIFIED = "access.certificate"  # makes a certificate the current one
ADOPTED = "access.policy.adopted"  # makes a policy the one in force

_KIND = "person"


class Roll:
    """Who is in the home, and who let them in."""

    def __init__(self, records: Records, journal: Journal) -> None:
        """Read certificates from `records`, believe what the ledger behind `journal` names."""
        self._records = records
        self._journal = journal
        self._verified: set[tuple[int, bytes]] = set()  # ledger entry and signature

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

    def moment(self) -> int:
        """Return how many times people or policy have changed. Read it first, judge, then `enter` under it."""
        ledger = self._journal.ledger
        return len([*ledger.find(action=CERTIFIED), *ledger.find(action=ADOPTED)])

    def enter(self, person: Person, *, by: str, moment: int) -> None:
        """Make `person`'s certificate the current one, if nothing about people or policy has changed since `moment`.

        Raises:
            Busy: something has; judge again.
            PrincipalAltered: whoever signed it is not entitled to.

        """
        certificate, name = person.certificate, person.name
        earlier = self.history(name)
        if self.moment() != moment or certificate.serial != len(earlier) + 1:
            raise Busy("people or policy have changed meanwhile", where=name, remedy="Repeat the command.")
        self._verify(person, self._checked(name, earlier) if earlier else None, before=None)
        self.store(person)
        detail: Detail = {
            "digest": certificate.digest(),
            "serial": certificate.serial,
            "role": certificate.role,
            "status": certificate.status,
        }
        act = Act(by, CERTIFIED, subject(name))
        record_standing(self._journal, act, detail=detail, moment=moment)

    def store(self, person: Person) -> None:
        """Store a certificate, inert until it is entered."""
        settle(self._records, _KIND, put={f"{person.name}/{person.certificate.digest()}": encode(person)})

    def certificates(self, name: str) -> list[Certificate]:
        """Return the certificates that `name` has had, oldest first."""
        return [self._stored(name, entry).certificate for entry in self.history(name)]

    def forget_recovery(self, name: str) -> None:
        """Throw away all of `name`'s keys under the recovery key, those of certificates that never counted, too."""
        for stored in self._records.scan(_KIND, f"{name}/"):
            person = decode(stored.document, Person, where=stored.key)
            settle(self._records, _KIND, put={stored.key: encode(msgspec.structs.replace(person, recovery=None))})

    def keys(self, name: str) -> list[PublicKeys]:
        """Return the keys that `name` has had, newest first."""
        newest_first = reversed(self.certificates(name))
        return list({one.keys.fingerprint(): one.keys for one in newest_first}.values())

    def _checked(self, name: str, entries: list[Entry]) -> Person:
        """Return the newest of `entries`' certificates, each signed by whoever was entitled to when it was entered.

        What was verified once is not verified again: an entry never changes, and names its certificate by digest.
        """
        persons = [self._stored(name, entries[-1])]
        if (entries[-1].index, persons[-1].signature) not in self._verified:
            persons = [self._stored(name, entry) for entry in entries]
            earlier: Person | None = None
            for person, entry in zip(persons, entries, strict=True):
                if (entry.index, person.signature) not in self._verified:
                    self._verify(person, earlier, before=entry.index)
                    self._verified.add((entry.index, person.signature))
                earlier = person
        return persons[-1]

    def _verify(self, person: Person, earlier: Person | None, *, before: int | None) -> None:
        certificate, name = person.certificate, person.name
        try:
            self._signer(person, earlier, before=before).verify(
                person.signature, certificate.signed_bytes(), where=name
            )
        except SignatureInvalid:
            raise PrincipalAltered("the certificate's signature does not verify", where=name) from None

    def _signer(self, person: Person, earlier: Person | None, *, before: int | None) -> PublicKeys:
        """Return the keys that must have signed: the founder's own, the person's earlier ones, or an active owner's."""
        certificate, name = person.certificate, person.name
        if certificate.issuer != name:
            issuer = self.find(certificate.issuer, before=before).certificate
            if issuer.role != "owner" or issuer.status != "active":
                raise PrincipalAltered("the issuer of the certificate was no active owner", where=name)
            return issuer.keys
        if earlier is None:
            if certificate.keys.fingerprint() != self._founder():
                raise PrincipalAltered("certified by itself, but not the home's founder", where=name)
            return certificate.keys
        last = earlier.certificate
        if _standing(last) != _standing(certificate) or last.status != "active":
            raise PrincipalAltered("somebody gave themselves another standing", where=name)
        return last.keys

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


def record_standing(journal: Journal, act: Act, *, detail: Detail, moment: int) -> None:
    """Enter a change of people or policy that was judged at `moment`.

    All such changes claim the same count, so of two that were judged at the same moment one must be judged again: no
    two owners disable each other, and nobody is let in by a key that is being renewed.

    Raises:
        Busy: another change came first.

    """
    try:
        journal.record(act, "done", detail=detail, claim=f"standing:{moment}")
    except AlreadyClaimed:
        raise Busy("people or policy have changed meanwhile", where=act.object, remedy="Repeat the command.") from None


def subject(name: str) -> str:
    """Return how the ledger names a principal as the object of an act."""
    return f"person:{name}"


def _standing(certificate: Certificate) -> tuple[str, str, str, str, str]:
    """Return what a person can't change with a key of their own."""
    return certificate.home, certificate.name, certificate.role, certificate.purpose, certificate.status
