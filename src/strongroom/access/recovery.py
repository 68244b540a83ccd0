"""The recovery key: drawn at `init`, printed once, kept by nobody but whoever wrote it down.

Every principal's seed is also wrapped to the recovery public key, so that a lost passphrase can be replaced. Whoever
holds the recovery key can become anybody: keep it on paper, in a safe, split between two people.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.keys import SEED_BYTES, Keyring
from strongroom.core.errors import WrongRecoveryKey
from strongroom.core.secrets import Secret

_PREFIX = "SR1"
_RAW, _CHECK, _GROUP = 32, 3, 7  # bytes drawn, bytes of checksum, letters in a printed group


def new_recovery_key() -> Secret:
    """Draw a recovery key as it is printed: ``SR1-…`` in base 32, with a checksum against slips of the pen."""
    raw = os.urandom(_RAW)
    letters = base64.b32encode(raw + _checksum(raw)).decode()
    groups = [letters[at : at + _GROUP] for at in range(0, len(letters), _GROUP)]
    return Secret("-".join([_PREFIX, *groups]).encode())


def recovery_keyring(key: Secret) -> Keyring:
    """Return the key pair behind a printed recovery key. Case, spaces and dashes don't matter.

    Raises:
        WrongRecoveryKey: it is not of the printed form, or the checksum finds a slip.

    """
    try:
        text = key.reveal().decode("ascii").upper()
        letters = "".join(text.split()).replace("-", "").removeprefix(_PREFIX)
        both = base64.b32decode(letters)
    except (UnicodeDecodeError, binascii.Error):
        raise WrongRecoveryKey("not a recovery key: letters are missing or wrong", where="recovery key") from None
    raw, check = both[:_RAW], both[_RAW:]
    if len(raw) != _RAW or check != _checksum(raw):
        raise WrongRecoveryKey("not a recovery key: its checksum does not fit", where="recovery key")
    seed = HKDF(hashes.SHA256(), SEED_BYTES, salt=None, info=b"strongroom recovery v1").derive(raw)
    return Keyring("recovery", Secret(seed))


def _checksum(raw: bytes) -> bytes:
    return hashlib.sha256(b"strongroom recovery checksum" + raw).digest()[:_CHECK]
