"""The key files of a recipient: text, one line of it the key, so that a public one goes into a letter.

``FILE`` (mode 0600; two lines say what it is) holds the 128-byte seed, ``FILE.pub`` the public keys. Each has a
checksum, so that what was mistyped or cut off is noticed here and not when a copy can't be opened.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.access.keys import SEED_BYTES, Keyring, PublicKeys, new_seed
from strongroom.core.errors import AlreadyExists, BadInput, StrongroomError, WrongKey
from strongroom.core.secrets import Secret
from strongroom.custody.landing import write_new

SECRET_PREFIX: Final = "STRONGROOM-SECRET-KEY-1:"  # noqa: S105 - what a secret's line begins with
PUBLIC_PREFIX: Final = "strongroom-recipient-1:"
_LIMIT: Final = 8192
_CHECKSUM: Final = 8
_SIGN: Final = 32
_OTHERS: Final = 0o077
_PUBLIC_BYTES: Final = 1248
_ABOUT: Final = (
    "# Strongroom: the secret key of a recipient. Whoever has it opens every copy issued to it. Its public half:\n"
)


def make_keys(place: Path) -> PublicKeys:
    """Draw a recipient's keys; write the secret ones to `place` and the public ones beside it, to ``NAME.pub``.

    Raises:
        AlreadyExists: one of the files is there; nothing is written then.
        StorageError: the disk said no.

    """
    public_place = public_file(place)
    if os.path.lexists(public_place):
        raise AlreadyExists("there is a file of that name", where=str(public_place))
    seed = new_seed()
    keys = Keyring("recipient", seed).public
    text = f"{_ABOUT}# {keys.fingerprint()}\n{_line(SECRET_PREFIX, seed.reveal())}\n"
    write_new(place, text.encode(), mode=0o600)
    try:
        write_new(public_place, f"{public_text(keys)}\n".encode(), mode=0o644)
    except StrongroomError:
        with suppress(OSError):
            place.unlink()
        raise
    finally:
        seed.wipe()
    return keys


def public_file(place: Path) -> Path:
    """Return where the public half of the keys in `place` is kept."""
    return place.with_name(f"{place.name}.pub")


def public_text(keys: PublicKeys) -> str:
    """Return the line that a recipient hands to whoever issues copies."""
    return _line(PUBLIC_PREFIX, keys.sign + keys.receive)


def read_public(place: Path) -> PublicKeys:
    """Return the public keys in the file `place`.

    Raises:
        BadInput: it can't be read, holds a secret key, or no key that can be encrypted to.

    """
    text, _ = _text(place)
    if SECRET_PREFIX in text:
        raise BadInput(
            "this is a secret key: it was not read, and nobody but the recipient should have it",
            where=str(place),
            remedy="Give the public half, FILE.pub. If the secret was sent to you, have the recipient make new keys.",
        )
    raw = _raw(text, PUBLIC_PREFIX, size=_PUBLIC_BYTES, where=str(place))
    keys = PublicKeys(sign=raw[:_SIGN], receive=raw[_SIGN:])
    try:
        keys.wrap(Secret(b"a trial"), info=b"")
    except WrongKey:
        raise BadInput("nothing can be encrypted to this key", where=str(place)) from None
    return keys


def read_seed(place: Path) -> Secret:
    """Return the secret in the file `place`.

    Raises:
        BadInput: it can't be read, others than its owner can read it too, or it holds no secret key.

    """
    text, mode = _text(place)
    if SECRET_PREFIX not in text and PUBLIC_PREFIX in text:
        raise BadInput("this is a public key: opening needs the secret one", where=str(place))
    if SECRET_PREFIX in text and mode & _OTHERS:
        raise BadInput(
            f"others than its owner can read or change this secret key (mode {mode & 0o777:04o})",
            where=str(place),
            remedy=f"chmod 600 {shlex.quote(str(place))}; if others had access to it, make new keys.",
        )
    return Secret(_raw(text, SECRET_PREFIX, size=SEED_BYTES, where=str(place)))


def _text(place: Path) -> tuple[str, int]:
    """Return what the file says, and the mode of the very file that was read."""
    try:
        with place.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            raw = stream.read(_LIMIT + 1)
    except OSError as error:
        raise BadInput(f"the key file can't be read ({error.strerror})", where=str(place)) from None
    if len(raw) > _LIMIT:
        raise BadInput(f"over {_LIMIT} bytes: no key file", where=str(place))
    return raw.decode("ascii", "replace"), mode


def _raw(text: str, prefix: str, *, size: int, where: str) -> bytes:
    """Return the bytes in the one line that is no comment."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1 or not lines[0].startswith(prefix):
        raise BadInput(f"no key file: one line that begins with {prefix}", where=where)
    try:
        whole = base64.b64decode(lines[0].removeprefix(prefix), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("the key is cut off or mistyped", where=where) from None
    raw, check = whole[:size], whole[size:]
    if len(raw) != size or check != _checksum(prefix, raw):
        raise BadInput("the key is cut off or mistyped", where=where)
    return raw


def _line(prefix: str, raw: bytes) -> str:
    return prefix + base64.b64encode(raw + _checksum(prefix, raw)).decode()


def _checksum(prefix: str, raw: bytes) -> bytes:
    return hashlib.sha256(prefix.encode() + raw).digest()[:_CHECKSUM]
