"""C2SP signed notes: a text, a blank line, signature lines; and the keys that make and check them.

https://c2sp.org/signed-note and https://c2sp.org/tlog-cosignature. Two signature types are known: Ed25519 (0x01), which
a log signs with, and the timestamped Ed25519 cosignature (0x04), which a witness signs with. Signatures of unknown keys
are ignored, as the specification asks; a signature of a known key that does not verify condemns the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from strongroom.core.errors import BadInput, SignatureInvalid
from strongroom.core.secrets import Secret

LOG_KEY = 0x01
WITNESS_KEY = 0x04
_PREFIX = "— "
_MAX_NOTE = 1 << 20
_MAX_SIGNATURES = 64
_ID_BYTES = 4
_KEY_BYTES = 32
_TIME_BYTES = 8
_VKEY = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)")
_PRIVATE = "PRIVATE+KEY+"


def unbase64(text: str, *, where: str) -> bytes:
    """Return the bytes of strict base64 (RFC 4648, section 4): one spelling per value.

    Raises:
        BadInput: it is not that.

    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("not base64", where=where) from None
    if base64.b64encode(data).decode() != text:
        raise BadInput("not canonical base64", where=where)
    return data


def check_key_name(name: str, *, where: str) -> str:
    """Return `name` if a key may be called so: not empty, no space, no plus, no control character.

    Raises:
        BadInput: it may not.

    """
    if not name or "+" in name or any(letter.isspace() or not letter.isprintable() for letter in name):
        raise BadInput("not a key name", where=where)
    return name


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, taken apart."""

    name: str
    key_id: bytes
    value: bytes

    def line(self) -> str:
        """Return it as a line of a note, with its newline."""
        return f"{_PREFIX}{self.name} {base64.b64encode(self.key_id + self.value).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text (its last newline included) and the signatures under it. Unverified until a `Verifier` has looked."""

    text: str
    signatures: tuple[Signature, ...]

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Note:
        """Read a signed note.

        Raises:
            BadInput: it is not one.

        """
        if len(data) > _MAX_NOTE:
            raise BadInput("the note is over 1 MiB", where=where)
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError:
            raise BadInput("the note is not UTF-8", where=where) from None
        if any(letter < " " and letter != "\n" for letter in whole):
            raise BadInput("the note has a control character", where=where)
        text, blank, below = whole.rpartition("\n\n")
        if not blank or not below.endswith("\n"):
            raise BadInput("the note has no signature lines", where=where)
        lines = below[:-1].split("\n")
        if len(lines) > _MAX_SIGNATURES:
            raise BadInput("the note has over 64 signatures", where=where)
        return cls(text + "\n", tuple(_signature(line, where=where) for line in lines))

    def encode(self) -> bytes:
        """Return the note's bytes."""
        return (self.text + "\n" + "".join(signature.line() for signature in self.signatures)).encode()


def _signature(line: str, *, where: str) -> Signature:
    """Take a signature line apart."""
    name, space, encoded = line.removeprefix(_PREFIX).partition(" ")
    if not line.startswith(_PREFIX) or not space:
        raise BadInput("a signature line is malformed", where=where)
    data = unbase64(encoded, where=where)
    if len(data) <= _ID_BYTES:
        raise BadInput("a signature is too short", where=where)
    return Signature(check_key_name(name, where=where), data[:_ID_BYTES], data[_ID_BYTES:])


def _cosigned(text: str, time: int) -> bytes:
    """Return what a witness signs: the header, the time and the text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name and signature type: what a vkey says."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Verifier:
        """Read a vkey.

        Raises:
            BadInput: it is not one, or of an unknown type, or its key id does not fit.

        """
        parts = _VKEY.fullmatch(vkey)
        if parts is None:
            raise BadInput("not a verifier key (NAME+ID+KEY)", where="vkey")
        data = unbase64(parts[3], where="vkey")
        if len(data) != 1 + _KEY_BYTES or data[0] not in {LOG_KEY, WITNESS_KEY}:
            raise BadInput("not an Ed25519 verifier key", where="vkey")
        found = cls(check_key_name(parts[1], where="vkey"), data[0], data[1:])
        if found.key_id.hex() != parts[2]:
            raise BadInput("the key id does not fit the key", where="vkey")
        return found

    @property
    def key_id(self) -> bytes:
        """The first four bytes of SHA-256(name || newline || type || key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The key as a vkey."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def check(self, note: Note, *, where: str) -> None:
        """Return if this key has signed `note`.

        Raises:
            SignatureInvalid: no signature of this key stands there, or one does and does not verify.

        """
        mine = [found for found in note.signatures if found.name == self.name and found.key_id == self.key_id]
        if not mine:
            raise SignatureInvalid(f"no signature of {self.name}", where=where)
        for signature in mine:
            self._check_one(note.text, signature.value, where=where)

    def _check_one(self, text: str, value: bytes, *, where: str) -> None:
        """Verify one signature value over `text`."""
        message = text.encode()
        if self.kind == WITNESS_KEY:
            message = _cosigned(text, int.from_bytes(value[:_TIME_BYTES], "big"))
            value = value[_TIME_BYTES:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, message)
        except (InvalidSignature, ValueError):
            raise SignatureInvalid(f"the signature of {self.name} does not verify", where=where) from None


class Signer:
    """An Ed25519 private key with its name and signature type."""

    def __init__(self, name: str, kind: int, seed: Secret) -> None:
        """Make one from a 32-byte `seed`.

        Raises:
            BadInput: the name is no key name, the type is unknown or the seed is not 32 bytes.

        """
        raw = seed.reveal()
        if len(raw) != _KEY_BYTES or kind not in {LOG_KEY, WITNESS_KEY}:
            raise BadInput("not an Ed25519 signing key", where="signing key")
        self._private = Ed25519PrivateKey.from_private_bytes(raw)
        self._seed = seed
        public = self._private.public_key().public_bytes_raw()
        self.verifier = Verifier(check_key_name(name, where="signing key"), kind, public)

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read what `encode` wrote.

        Raises:
            BadInput: it is not that.

        """
        parts = _VKEY.fullmatch(text.removeprefix(_PRIVATE))
        if not text.startswith(_PRIVATE) or parts is None:
            raise BadInput("not a signing key", where="signing key")
        data = unbase64(parts[3], where="signing key")
        found = cls(parts[1], data[0], Secret(data[1:]))
        if found.verifier.key_id.hex() != parts[2]:
            raise BadInput("the key id does not fit the key", where="signing key")
        return found

    def encode(self) -> Secret:
        """Return the key in the form of Go's ``sumdb/note``: ``PRIVATE+KEY+NAME+ID+base64(type || seed)``."""
        data = base64.b64encode(bytes([self.verifier.kind]) + self._seed.reveal()).decode()
        return Secret(f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{data}".encode())

    def sign(self, text: str) -> Signature:
        """Sign `text` as a log does (type 0x01)."""
        return Signature(self.verifier.name, self.verifier.key_id, self._private.sign(text.encode()))

    def cosign(self, text: str, time: int) -> Signature:
        """Sign `text` as a witness does at `time`, in seconds since 1970 (type 0x04)."""
        value = time.to_bytes(_TIME_BYTES, "big") + self._private.sign(_cosigned(text, time))
        return Signature(self.verifier.name, self.verifier.key_id, value)
