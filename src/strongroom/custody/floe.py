"""FLOE, the random-access authenticated encryption of C2SP, over caller's buffers.

Every operation names position and last-flag, and buffers are filled in place: a segment is encrypted or decrypted
straight into the memory that it is wanted in, with the interpreter lock released.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from strongroom.core.errors import BadInput, SegmentForged, WrongKey
from strongroom.core.secrets import Secret

IV_BYTES = 32
HEADER_BYTES = 10 + IV_BYTES + 32
_WORD, _NONCE, _TAG = 4, 12, 16
OVERHEAD = _WORD + _NONCE + _TAG
_BODY = _WORD + _NONCE
_MORE = b"\xff\xff\xff\xff"
_KDF_KEY = 48
ROTATION_BITS = 20


@dataclass(frozen=True, slots=True)
class Layout:
    """How many bytes of plaintext make how many segments of which length, and back."""

    segment: int

    @property
    def payload(self) -> int:
        """Return the plaintext bytes in a segment that is not the last."""
        return self.segment - OVERHEAD

    def count(self, plain: int) -> int:
        """Return the number of segments of `plain` bytes."""
        return max(1, -(-plain // self.payload))

    def sealed(self, plain: int) -> int:
        """Return the size of the whole ciphertext of `plain` bytes."""
        return HEADER_BYTES + plain + OVERHEAD * self.count(plain)

    def plain(self, sealed: int, *, where: str) -> int:
        """Return the plaintext's size from the ciphertext's.

        Raises:
            BadInput: no plaintext has a ciphertext of that size.

        """
        body = sealed - HEADER_BYTES
        size = body - OVERHEAD * max(1, -(-body // self.segment))
        if size < 0 or self.sealed(size) != sealed:
            raise BadInput("a size that no sealed file has", where=where)
        return size

    def span(self, index: int, plain: int) -> tuple[int, int]:
        """Return the plaintext range of segment `index` in a file of `plain` bytes."""
        return index * self.payload, min((index + 1) * self.payload, plain)

    def place(self, index: int) -> int:
        """Return where segment `index` starts in the ciphertext."""
        return HEADER_BYTES + index * self.segment


def parameters(segment: int) -> bytes:
    """Return PARAM_ENCODE: AES-256-GCM, HKDF-Expand-SHA-384, the segment length, the IV length."""
    return b"\x00\x00" + segment.to_bytes(4, "big") + IV_BYTES.to_bytes(4, "big")


class Floe:
    """One ciphertext's state: derived keys, ready for any segment in any order, from any thread."""

    def __init__(self, key: Secret, *, segment: int, iv: bytes, aad: bytes, rotation: int = ROTATION_BITS) -> None:
        """Derive the message key. `rotation` differs from 20 in known-answer tests only."""
        self._context = parameters(segment) + iv
        self._aad = aad
        self._rotation = rotation
        self._header = self._context + self._derive(key, b"HEADER_TAG:", 32)
        self._message_key = Secret(self._derive(key, b"MESSAGE_KEY:", _KDF_KEY))
        self._ciphers: dict[int, AESGCM] = {}
        self.segment = segment

    @classmethod
    def start(cls, key: Secret, *, segment: int, aad: bytes) -> Floe:
        """Begin a new ciphertext under a random IV."""
        return cls(key, segment=segment, iv=os.urandom(IV_BYTES), aad=aad)

    @classmethod
    def resume(cls, key: Secret, header: bytes, *, aad: bytes, where: str, rotation: int = ROTATION_BITS) -> Floe:
        """Take up a ciphertext from its header.

        Raises:
            WrongKey: the header's tag does not fit key and associated data.

        """
        segment = int.from_bytes(header[2:6], "big")
        state = cls(key, segment=segment, iv=header[10 : 10 + IV_BYTES], aad=aad, rotation=rotation)
        if not hmac.compare_digest(state.header, header):
            raise WrongKey("the header's tag does not fit the key", where=where)
        return state

    @property
    def header(self) -> bytes:
        """Return the 74 header bytes."""
        return self._header

    def encrypt_into(self, plain: memoryview, sealed: memoryview, *, index: int, last: bool) -> None:
        """Encrypt one segment into `sealed`, whose length is that of `plain` and 32 bytes."""
        nonce = os.urandom(_NONCE)
        sealed[:_WORD] = len(sealed).to_bytes(_WORD, "big") if last else _MORE
        sealed[_WORD:_BODY] = nonce
        self._cipher(index).encrypt_into(nonce, plain, self._place(index, last=last), sealed[_BODY:])

    def decrypt_into(self, sealed: memoryview, plain: memoryview, *, index: int, last: bool, where: str) -> None:
        """Decrypt one segment into `plain`; on failure `plain` holds rubbish that must not be used.

        Raises:
            SegmentForged: the length word or the tag is not this segment's.

        """
        word = len(sealed).to_bytes(_WORD, "big") if last else _MORE
        if bytes(sealed[:_WORD]) != word or len(plain) != len(sealed) - OVERHEAD:
            raise SegmentForged("the length word is not this segment's", where=where)
        nonce = bytes(sealed[_WORD:_BODY])
        try:
            self._cipher(index).decrypt_into(nonce, sealed[_BODY:], self._place(index, last=last), plain)
        except InvalidTag:
            raise SegmentForged("the tag does not fit key, index and last-flag", where=where) from None

    def _cipher(self, index: int) -> AESGCM:
        """Return the cipher of the segment's key; a key serves 2^rotation segments."""
        first = index >> self._rotation << self._rotation
        cipher = self._ciphers.get(first)
        if cipher is None:
            cipher = AESGCM(self._derive(self._message_key, b"DEK:" + first.to_bytes(8, "big"), 32))
            self._ciphers[first] = cipher  # two threads may both make it: the same key, no harm
        return cipher

    def _derive(self, key: Secret, purpose: bytes, length: int) -> bytes:
        info = self._context + purpose + self._aad
        return HKDFExpand(algorithm=SHA384(), length=length, info=info).derive(key.reveal())

    @staticmethod
    def _place(index: int, *, last: bool) -> bytes:
        return index.to_bytes(8, "big") + (b"\x01" if last else b"\x00")

    def wipe(self) -> None:
        """Forget the keys."""
        self._message_key.wipe()
        self._ciphers.clear()
