"""Everybody's locked keys. The certificate names the box that counts: an earlier passphrase opens nothing any more."""

from __future__ import annotations

from strongroom.access.lockbox import Lockbox, lock
from strongroom.access.people import Certificate
from strongroom.access.settle import settle
from strongroom.core.canonical import decode, digest, encode
from strongroom.core.errors import PrincipalAltered
from strongroom.core.secrets import Secret
from strongroom.ports.records import Records

_KIND = "lockbox"


class Lockers:
    """The boxes of one home."""

    def __init__(self, records: Records) -> None:
        """Keep boxes in `records`."""
        self._records = records

    def put(self, name: str, seed: Secret, passphrase: Secret) -> str:
        """Lock `seed` in a new box, inert until a certificate names it; return its digest."""
        box = lock(seed, passphrase, name=name)
        settle(self._records, _KIND, put={f"{name}/{digest(box)}": encode(box)})
        return digest(box)

    def box(self, certificate: Certificate) -> Lockbox:
        """Return the box that `certificate` names.

        Raises:
            PrincipalAltered: it is gone or another one.

        """
        name, key = certificate.name, f"{certificate.name}/{certificate.lockbox}"
        stored = self._records.get(_KIND, key)
        if stored is None:
            raise PrincipalAltered("the locked keys that the certificate names are gone", where=name)
        box = decode(stored.document, Lockbox, where=name)
        if digest(box) != certificate.lockbox:
            raise PrincipalAltered("the locked keys are not the ones that the certificate names", where=name)
        return box

    def drop_all(self, name: str) -> None:
        """Throw away every box of `name`, those that never came to count, too."""
        settle(self._records, _KIND, drop=[stored.key for stored in self._records.scan(_KIND, f"{name}/")])

    def drop(self, certificate: Certificate) -> None:
        """Throw away the box that a former `certificate` names."""
        settle(self._records, _KIND, drop=[f"{certificate.name}/{certificate.lockbox}"])
