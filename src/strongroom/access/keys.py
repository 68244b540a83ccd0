"""A principal's keys: Ed25519 to sign, X25519 + ML-KEM-768 to receive.

Composed of published parts only: Ed25519 (RFC 8032); HPKE (RFC 9180) in base mode with the hybrid KEM MLKEM768-X25519
(draft-ietf-hpke-pq, also called X-Wing), HKDF-SHA-256 and AES-256-GCM, all from ``cryptography``. Every signature and
every envelope names what it is for, so that one made for one purpose is worth nothing for another.
"""

from __future__ import annotations

import hashlib
import secrets

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from strongroom.core.canonical import Record
from strongroom.core.errors import SignatureInvalid, WrongKey
from strongroom.core.secrets import Secret

_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_SIGN, _X25519, _MLKEM = 32, 32, 64  # bytes of each private seed, in this order
SEED_BYTES = _SIGN + _X25519 + _MLKEM
_MLKEM_PUBLIC = 1184


class PublicKeys(Record, frozen=True):
    """What everybody may know of a principal: 32 bytes to verify with, 1,216 bytes to encrypt to."""

    sign: bytes
    receive: bytes

    def fingerprint(self) -> str:
        """Return the hexadecimal SHA-256 of both keys."""
        return hashlib.sha256(self.sign + self.receive).hexdigest()

    def verify(self, signature: bytes, message: bytes, *, where: str) -> None:
        """Return if `signature` is this principal's over `message`.

        Raises:
            SignatureInvalid: it is not.

        """
        try:
            Ed25519PublicKey.from_public_bytes(self.sign).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise SignatureInvalid("the signature does not verify under the signer's key", where=where) from None

    def wrap(self, secret: Secret, *, info: bytes) -> bytes:
        """Return `secret` encrypted to this principal, bound to `info` (HPKE base mode: enc || ciphertext).

        Raises:
            WrongKey: the public key is malformed.

        """
        try:
            mlkem = MLKEM768PublicKey.from_public_bytes(self.receive[:_MLKEM_PUBLIC])
            x25519 = X25519PublicKey.from_public_bytes(self.receive[_MLKEM_PUBLIC:])
            return _SUITE.encrypt(secret.reveal(), MLKEM768X25519PublicKey(mlkem, x25519), info)
        except ValueError:
            raise WrongKey("the receiving key is malformed", where=self.fingerprint()) from None


class Keyring:
    """A principal's private keys, unlocked. Lives in memory only."""

    def __init__(self, name: str, seed: Secret) -> None:
        """Rebuild `name`'s keys from the 128-byte `seed` that `new_seed` drew."""
        raw = seed.reveal()
        self.seed = seed
        if len(raw) != SEED_BYTES:
            raise WrongKey("the key material has the wrong length", where=name)
        self.name = name
        self._sign = Ed25519PrivateKey.from_private_bytes(raw[:_SIGN])
        x25519 = X25519PrivateKey.from_private_bytes(raw[_SIGN : _SIGN + _X25519])
        mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[_SIGN + _X25519 :])
        self._receive = MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public = PublicKeys(
            sign=self._sign.public_key().public_bytes_raw(),
            receive=mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw(),
        )

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over `message`."""
        return self._sign.sign(message)

    def unwrap(self, envelope: bytes, *, info: bytes, where: str) -> Secret:
        """Return the secret in an `envelope` that was wrapped to this principal for `info`.

        Raises:
            WrongKey: the envelope is for somebody else, for something else, or was altered.

        """
        try:
            return Secret(_SUITE.decrypt(envelope, self._receive, info))
        except (InvalidTag, ValueError):
            raise WrongKey(f"the envelope does not open with {self.name}'s key", where=where) from None


def new_seed() -> Secret:
    """Draw a fresh 128-byte seed: Ed25519 (32), X25519 (32) and ML-KEM-768 (64) private seeds, in this order."""
    return Secret(secrets.token_bytes(SEED_BYTES))
