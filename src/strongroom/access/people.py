"""Who is in the home: certificates, and the records that hold them.

A certificate says who somebody is (name, role, keys, status) and is signed by the owner who issued it; the first
owner's is signed by itself and pinned by the ledger's first entry. The ledger also holds the digest of everybody's
newest certificate, so that an older one (say, from before somebody was disabled) is refused.
"""

from __future__ import annotations

from typing import Literal, get_args

from strongroom.access.keys import Keyring, PublicKeys
from strongroom.core.canonical import Record, digest, encode
from strongroom.core.errors import BadName

Role = Literal["owner", "custodian", "researcher", "auditor", "service"]
ROLES: tuple[Role, ...] = get_args(Role)


class Certificate(Record, frozen=True):
    """What an owner states about a principal."""

    format: Literal["strongroom/certificate@1"]
    home: str
    name: str
    role: Role
    purpose: str  # what a service may open checkpoints for; empty for people
    keys: PublicKeys
    lockbox: str  # SHA-256 of the locked keys that go with it; empty once disabled
    passphrase_by: str  # the ledger's name of whoever chose the passphrase
    status: Literal["active", "disabled"]
    serial: int
    issued: str
    issuer: str

    def signed_bytes(self) -> bytes:
        """Return the bytes that the issuer signs: a domain line, then the canonical certificate."""
        return b"strongroom certificate v1\n" + encode(self)

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 that the ledger records."""
        return digest(self)


class Person(Record, frozen=True):
    """A principal as stored: the certificate, its signature, and the keys under the recovery key."""

    certificate: Certificate
    signature: bytes
    recovery: bytes | None  # the seed, wrapped to the home's recovery key; None once disabled

    @property
    def name(self) -> str:
        """The principal's name."""
        return self.certificate.name

    @property
    def label(self) -> str:
        """How the ledger names the principal: ``person:NAME`` or ``service:NAME``."""
        return label(self.certificate.name, self.certificate.role)

    @property
    def active(self) -> bool:
        """Whether the principal may act at all."""
        return self.certificate.status == "active"


def label(name: str, role: Role) -> str:
    """Return how the ledger names a principal of that role."""
    return f"{'service' if role == 'service' else 'person'}:{name}"


def check_role(text: str) -> Role:
    """Return `text` as a role.

    Raises:
        BadName: there is no such role.

    """
    for role in ROLES:
        if role == text:
            return role
    raise BadName(f"no role {text[:40]!r}; the roles are {', '.join(ROLES)}", where="role")


def certify(certificate: Certificate, issuer: Keyring) -> bytes:
    """Return the issuer's signature over `certificate`."""
    return issuer.sign(certificate.signed_bytes())
