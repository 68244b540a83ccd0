"""The tokenizers that texts were written with, kept so that a text can be recognised without opening any checkpoint.

They are kept encrypted (AES-256-GCM, a key derived from the mark master): whoever may ask whose text it is holds that
master, and nobody else needs to know what a closed model's tokenizer looks like.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.settle import settle
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import RecordAltered
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NoTokenizer
from strongroom.ports.records import Records

_KIND: Final = "tokenizer"
_NONCE: Final = 12


class _Kept(Record, frozen=True, kw_only=True):
    """A tokenizer at rest."""

    format: Literal["strongroom/tokenizer@1"] = "strongroom/tokenizer@1"
    nonce: bytes
    sealed: bytes


class Tokenizers:
    """The tokenizers of one home, by the checkpoints that use them."""

    def __init__(self, records: Records, master: Secret) -> None:
        """Keep them in `records`, under a key derived from `master`."""
        self._records = records
        info = b"strongroom/tokenizer@1"
        self._key = AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(master.reveal()))

    def keep(self, checkpoint: str, raw: bytes) -> None:
        """Keep the ``tokenizer.json`` of ``NAME:TAG``."""
        name = f"{checkpoint}/{hashlib.sha256(raw).hexdigest()}"
        if self._records.get(_KIND, name) is None:
            nonce = secrets.token_bytes(_NONCE)
            sealed = self._key.encrypt(nonce, raw, name.encode())
            settle(self._records, _KIND, put={name: encode(_Kept(nonce=nonce, sealed=sealed))})

    def all(self, checkpoint: str | None = None) -> dict[str, bytes]:
        """Return every kept tokenizer, or those of one ``NAME:TAG``, by SHA-256.

        Raises:
            NoTokenizer: none is kept.
            RecordAltered: one does not decrypt.

        """
        found = dict[str, bytes]()
        for stored in self._records.scan(_KIND, "" if checkpoint is None else f"{checkpoint}/"):
            kept = decode(stored.document, _Kept, where=stored.key)
            try:
                raw = self._key.decrypt(kept.nonce, kept.sealed, stored.key.encode())
            except InvalidTag:
                raise RecordAltered("it does not decrypt", where=f"tokenizer {stored.key}") from None
            found[stored.key.rpartition("/")[2]] = raw
        if not found:
            raise NoTokenizer("no tokenizer is kept", where=checkpoint or "home")
        return found
