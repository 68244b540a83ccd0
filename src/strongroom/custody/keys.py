"""Data keys and their envelopes: adding or removing a person re-wraps 32 bytes and touches no ciphertext."""

from __future__ import annotations

import secrets

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.keys import Keyring, PublicKeys
from strongroom.core.canonical import encode
from strongroom.core.errors import WrongKey
from strongroom.core.secrets import Secret
from strongroom.custody.formats import Envelope

KEY_BYTES = 32
_FILE_KEY = b"strongroom/sealed@1 file key\x00"


def new_data_key() -> Secret:
    """Draw the data key of one checkpoint version."""
    return Secret(secrets.token_bytes(KEY_BYTES))


def file_key(data_key: Secret, aad: bytes) -> Secret:
    """Return the key of the file whose associated data is `aad`."""
    info = _FILE_KEY + aad
    return Secret(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(data_key.reveal()))


def wrap_key(data_key: Secret, public: PublicKeys, *, person: str, checkpoint: str, version: int) -> Envelope:
    """Return the envelope of `data_key` for `person`, bound to checkpoint, version and person."""
    blank = Envelope(checkpoint=checkpoint, version=version, person=person, key=public.fingerprint(), wrapped=b"")
    wrapped = public.wrap(data_key, info=_bound(blank))
    return Envelope(checkpoint=checkpoint, version=version, person=person, key=blank.key, wrapped=wrapped)


def unwrap_key(envelope: Envelope, keyring: Keyring, *, checkpoint: str, version: int) -> Secret:
    """Return the data key in the keyring owner's `envelope`.

    Raises:
        WrongKey: it is for somebody else, for another checkpoint or version, or was altered.

    """
    where = f"envelope of {envelope.person} for {checkpoint}"
    if (envelope.checkpoint, envelope.version) != (checkpoint, version):
        raise WrongKey(f"it is for {envelope.checkpoint}, version {envelope.version}", where=where)
    if (envelope.person, envelope.key) != (keyring.name, keyring.public.fingerprint()):
        raise WrongKey(f"it is not for {keyring.name}'s present key", where=where)
    key = keyring.unwrap(envelope.wrapped, info=_bound(envelope), where=where)
    if len(key.reveal()) != KEY_BYTES:
        raise WrongKey("the wrapped key has the wrong length", where=where)
    return key


def rewrap_key(envelope: Envelope, keyring: Keyring, public: PublicKeys, *, person: str) -> Envelope:
    """Return an envelope for `person`, made from the keyring owner's own.

    Raises:
        WrongKey: the owner's envelope does not open.

    """
    checkpoint, version = envelope.checkpoint, envelope.version
    key = unwrap_key(envelope, keyring, checkpoint=checkpoint, version=version)
    try:
        return wrap_key(key, public, person=person, checkpoint=checkpoint, version=version)
    finally:
        key.wipe()


def _bound(envelope: Envelope) -> bytes:
    """Return HPKE's info: the envelope without what is wrapped."""
    return encode(
        {
            "checkpoint": envelope.checkpoint,
            "format": envelope.format,
            "key": envelope.key,
            "person": envelope.person,
            "version": envelope.version,
        }
    )
