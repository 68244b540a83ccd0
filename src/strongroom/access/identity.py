"""Somebody whose passphrase was right."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.keys import Keyring
from strongroom.access.people import Certificate, label


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated principal: the certificate and the unlocked keys."""

    certificate: Certificate
    keyring: Keyring

    @property
    def name(self) -> str:
        """The principal's name."""
        return self.certificate.name

    @property
    def label(self) -> str:
        """How the ledger names the principal."""
        return label(self.certificate.name, self.certificate.role)
