"""A principal's seed under a passphrase: Argon2id (RFC 9106) stretches it, AES-256-GCM seals.

The parameters are RFC 9106's second recommended set (64 MiB, 3 passes, 4 lanes). They are stored with the box, bounded
when they are read, and bound into the associated data with the owner's name, so a box can't be moved or weakened.
"""

from __future__ import annotations

import os
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.canonical import Record, encode
from strongroom.core.errors import PrincipalAltered, WrongPassphrase
from strongroom.core.secrets import Secret

_MEMORY_KIB, _PASSES, _LANES = 65_536, 3, 4
_MAX_MEMORY_KIB, _MAX_PASSES, _MAX_LANES = 1_048_576, 16, 16


class Parameters(Record, frozen=True):
    """How the passphrase is stretched, and for whom the box is."""

    format: Literal["strongroom/lockbox@1"]
    name: str
    salt: bytes
    memory_kib: int
    passes: int
    lanes: int


class Lockbox(Record, frozen=True):
    """A seed sealed under a passphrase."""

    parameters: Parameters
    nonce: bytes
    sealed: bytes


def lock(seed: Secret, passphrase: Secret, *, name: str) -> Lockbox:
    """Return `seed` sealed under `passphrase`, for the principal `name`."""
    parameters = Parameters(
        format="strongroom/lockbox@1",
        name=name,
        salt=os.urandom(16),
        memory_kib=_MEMORY_KIB,
        passes=_PASSES,
        lanes=_LANES,
    )
    nonce = os.urandom(12)
    sealed = AESGCM(_stretch(passphrase, parameters)).encrypt(nonce, seed.reveal(), encode(parameters))
    return Lockbox(parameters=parameters, nonce=nonce, sealed=sealed)


def unlock(box: Lockbox, passphrase: Secret, *, name: str) -> Secret:
    """Return the seed in `box`.

    Raises:
        PrincipalAltered: the box is somebody else's, or asks for parameters out of bounds.
        WrongPassphrase: the passphrase does not open it, or the box was altered.

    """
    asked = box.parameters
    bounded = (
        8 * asked.lanes <= asked.memory_kib <= _MAX_MEMORY_KIB
        and 1 <= asked.passes <= _MAX_PASSES
        and 1 <= asked.lanes <= _MAX_LANES
        and len(asked.salt) == 16  # noqa: PLR2004 - what lock() writes
    )
    if asked.name != name or not bounded:
        raise PrincipalAltered("the lockbox is not this principal's, or its parameters are out of bounds", where=name)
    try:
        return Secret(AESGCM(_stretch(passphrase, asked)).decrypt(box.nonce, box.sealed, encode(asked)))
    except (InvalidTag, ValueError):
        raise WrongPassphrase("the passphrase does not open the keys", where=name) from None


def _stretch(passphrase: Secret, parameters: Parameters) -> bytes:
    return Argon2id(
        salt=parameters.salt,
        length=32,
        iterations=parameters.passes,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    ).derive(passphrase.reveal())
