"""The people of a home: founded, added, disabled, given new passphrases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from strongroom.access.keys import Keyring, PublicKeys, new_seed
from strongroom.access.lockbox import unlock
from strongroom.access.lockers import Lockers
from strongroom.access.people import Certificate, Person, Role, certify, label
from strongroom.access.roll import CERTIFIED, FOUNDED, Roll
from strongroom.core.canonical import decode, encode
from strongroom.core.clock import parse_stamp, stamp
from strongroom.core.errors import (
    AlreadyExists,
    Busy,
    NotPermitted,
    PrincipalAltered,
    PrincipalDisabled,
    WrongKey,
    WrongRecoveryKey,
)
from strongroom.core.ids import check_name
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.ports.records import Change, Records

Prepare = Callable[[Keyring, Keyring], None]

_HOME, _RECOVERY = "home", "recovery"
_ATTEMPTS = 8


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
        self._lockers = Lockers(records)
        self.roll = Roll(records, journal)

    # ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def find(self, name: str, *, before: int | None = None) -> Person:
        """Return the principal as it was before ledger entry `before` (None: now); see `Roll.find`."""
        return self.roll.find(name, before=before)

    def everybody(self) -> list[Person]:
        """Return every principal by name, disabled ones included."""
        return self.roll.everybody()

    def passphrase_set_by(self, name: str) -> str:
        """Return the ledger's name of whoever last set this principal's passphrase."""
        return self.find(name).certificate.passphrase_by

    def last_disabled(self) -> dt.datetime | None:
        """Return when somebody was last disabled, or None."""
        entries = self._journal.ledger.find(action=CERTIFIED)
        times = [parse_stamp(one.event.at) for one in entries if one.event.detail.get("status") == "disabled"]
        return max(times, default=None)

    def unlock(self, name: str, passphrase: Secret) -> tuple[Person, Secret]:
        """Return the principal and its seed.

        Raises:
            WrongPassphrase: the passphrase does not open the keys.
            PrincipalDisabled: the principal may not act any more.

        """
        person = self._active(name)
        return person, fitting(person, unlock(self._lockers.box(person.certificate), passphrase, name=name))

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
        self._records.apply([Change(_HOME, _RECOVERY, 0, encode(recovery))])
        self._journal.record(Act(label(entrant.name, "owner"), FOUNDED, "home"), "done", detail=pins)
        box = self._lockers.put(entrant.name, seed, entrant.passphrase)
        founder = self._entering(entrant, seed, box, issuer=keyring)
        self.roll.enter(founder, by=founder.label, moment=self.roll.moment())
        return keyring

    def add(self, entrant: Entrant, *, issuer: Keyring) -> Person:
        """Add `entrant`, certified by the owner `issuer`, who counts as having set the passphrase until it is changed.

        Raises:
            AlreadyExists: somebody of that name is, or was, in the home.
            Busy: people or policy have changed meanwhile.

        """
        check_name(entrant.name, what="principal")
        seed = new_seed()
        box = self._lockers.put(entrant.name, seed, entrant.passphrase)

        def judged() -> Person:
            self._still_owner(issuer)
            if self.roll.history(entrant.name):
                raise AlreadyExists("somebody of that name is or was in the home", where=entrant.name)
            return self._entering(entrant, seed, box, issuer=issuer)

        return self._enter(judged, by=label(issuer.name, "owner"))

    def disable(self, name: str, *, issuer: Keyring) -> Person:
        """End `name`'s rights at once: certify as disabled, and throw away the locked keys. Harmless when repeated.

        Raises:
            NotPermitted: it is oneself, so that there is always an owner left.
            Busy: people or policy have changed meanwhile.

        """
        if issuer.name == name:
            raise NotPermitted("nobody disables themselves: another owner must", where=name)
        old = self.find(name)

        def judged() -> Person:
            self._still_owner(issuer)
            return self._renewed(self.find(name), issuer, {"status": "disabled", "lockbox": ""})

        if old.active:
            self._enter(judged, by=label(issuer.name, "owner"))
        self.roll.forget_recovery(name)
        self._lockers.drop_all(name)
        return self.find(name)

    def renew(self, person: Person, seed: Secret, passphrase: Secret, *, by: str, prepare: Prepare) -> Secret:
        """Give `person` new keys under a new passphrase chosen by `by`; return the new seed.

        New keys each time, because whoever knew the old passphrase may have kept the seed that it unlocked. `prepare`
        is called with the old and the new keys before the new ones count: nothing that the old keys open is lost.

        Raises:
            Busy: people or policy have changed meanwhile.

        """
        old = Keyring(person.name, fitting(self._active(person.name), seed))
        new = new_seed()
        box = self._lockers.put(person.name, new, passphrase)
        changes = {"keys": Keyring(person.name, new).public, "lockbox": box, "passphrase_by": by}
        recovery = self._for_recovery(person.name, new)

        def judged() -> Person:
            now = self._active(person.name)
            if now.certificate.keys != old.public:
                raise AlreadyExists("somebody else has changed this passphrase meanwhile", where=person.name)
            return msgspec.structs.replace(self._renewed(now, old, changes), recovery=recovery)

        prepare(old, Keyring(person.name, new))
        former = self.find(person.name).certificate
        self._enter(judged, by=by)
        self._lockers.drop(former)
        return new

    def recover(self, name: str, recovery: Keyring, passphrase: Secret, *, prepare: Prepare) -> None:
        """Give `name` a new passphrase and keys with the home's recovery key; it counts as set by somebody else.

        Raises:
            WrongRecoveryKey: the key is not this home's.

        """
        person = self._active(name)
        try:
            seed = recovery.unwrap(person.recovery or b"", info=self._recovery_info(name), where=name)
        except WrongKey:
            raise WrongRecoveryKey("the recovery key does not open the keys", where=name) from None
        self.renew(person, seed, passphrase, by="recovery", prepare=prepare)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _enter(self, judged: Callable[[], Person], *, by: str) -> Person:
        """Judge and enter a change; where another change came in between, judge again.

        Raises:
            Busy: people or policy kept changing.

        """
        for _ in range(_ATTEMPTS):
            moment = self.roll.moment()
            person = judged()
            try:
                self.roll.enter(person, by=by, moment=moment)
            except Busy:
                continue
            return person
        raise Busy("people or policy kept changing meanwhile", where="home", remedy="Repeat the command.")

    def _still_owner(self, issuer: Keyring) -> None:
        certificate = self.find(issuer.name).certificate
        standing = (certificate.role, certificate.status, certificate.keys)
        if standing != ("owner", "active", issuer.public):
            raise NotPermitted(f"{issuer.name} is no active owner with these keys any more", where=issuer.name)

    def _entering(self, entrant: Entrant, seed: Secret, box: str, *, issuer: Keyring) -> Person:
        certificate = Certificate(
            format="strongroom/certificate@1",
            home=self._home,
            name=entrant.name,
            role=entrant.role,
            purpose=entrant.purpose,
            keys=Keyring(entrant.name, seed).public,
            lockbox=box,
            passphrase_by=label(issuer.name, "owner"),
            status="active",
            serial=1,
            issued=stamp(self._journal.clock.now()),
            issuer=issuer.name,
        )
        recovery = self._for_recovery(entrant.name, seed)
        return Person(certificate=certificate, signature=certify(certificate, issuer), recovery=recovery)

    def _active(self, name: str) -> Person:
        person = self.find(name)
        if not person.active:
            raise PrincipalDisabled("this principal was disabled", where=name)
        return person

    def _renewed(self, old: Person, issuer: Keyring, changes: Mapping[str, PublicKeys | str]) -> Person:
        certificate = msgspec.structs.replace(
            old.certificate,
            serial=old.certificate.serial + 1,
            issued=stamp(self._journal.clock.now()),
            issuer=issuer.name,
            **changes,
        )
        return Person(certificate=certificate, signature=certify(certificate, issuer), recovery=None)

    def _for_recovery(self, name: str, seed: Secret) -> bytes:
        """Return `seed` wrapped to the home's recovery key.

        Raises:
            PrincipalAltered: the recovery public key is not the one that the ledger's first entry names.

        """
        stored = self._records.get(_HOME, _RECOVERY)
        pinned = self._journal.ledger.entry(0).event.detail.get("recovery")
        keys = None if stored is None else decode(stored.document, PublicKeys, where="recovery key")
        if keys is None or keys.fingerprint() != pinned:
            raise PrincipalAltered("the recovery public key is not the one that the ledger names", where="recovery key")
        return keys.wrap(seed, info=self._recovery_info(name))

    def _recovery_info(self, name: str) -> bytes:
        return f"strongroom recovery v1\n{self._home}\n{name}".encode()


def no_envelopes(_old: Keyring, _new: Keyring) -> None:
    """Prepare nothing: for a principal who holds nothing under the old keys."""


def fitting(person: Person, seed: Secret) -> Secret:
    """Return `seed` if it is the seed of the certified keys.

    Raises:
        PrincipalAltered: it makes other keys than the certificate names.

    """
    if Keyring(person.name, seed).public != person.certificate.keys:
        raise PrincipalAltered("the locked keys are not the certified ones", where=person.name)
    return seed
