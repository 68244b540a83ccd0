"""Receiving a copy: no home, no ledger, no network; the folder, the recipient's key and perhaps a release share.

What a copy must prove to be stands in its own copy.json, which its issuer signed. Whose keys those are nobody here can
know: whoever receives compares the issuer's fingerprint with one that came another way, and pins it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from strongroom.access.keys import Keyring
from strongroom.core.canonical import decode
from strongroom.core.copy_errors import CopyExpired, Embargoed
from strongroom.core.errors import (
    BadInput,
    ManifestAltered,
    ManifestMissing,
    SignatureInvalid,
    WrongKey,
)
from strongroom.core.secrets import Secret
from strongroom.custody.copy_formats import (
    BESIDE,
    COPY,
    COPY_SIGNATURE,
    COPY_TYPE,
    DOCUMENT_LIMIT,
    Copy,
    CopySignature,
    read_day,
)
from strongroom.custody.formats import pae
from strongroom.custody.judge import Expected
from strongroom.custody.keys import unwrap_key
from strongroom.custody.read import Progress, SealedReader, Verified, verify
from strongroom.custody.release import read_share, released_key
from strongroom.ports.blobs import Blob, Folders

_FOLDER = "copy"  # a shelf holds one folder and needs no name for it


class Shelf:
    """One folder, under whatever name it is asked for: who receives a copy may have renamed it."""

    def __init__(self, folders: Folders, folder: str) -> None:
        """Stand for `folder` of `folders`."""
        self._folders = folders
        self._folder = folder

    def names(self, folder: str) -> Sequence[str] | None:
        """Return the names in the folder."""
        del folder
        return self._folders.names(self._folder)

    def open(self, folder: str, name: str) -> Blob | None:
        """Return a file of the folder, or None."""
        del folder
        return self._folders.open(self._folder, name)


@dataclass(frozen=True, slots=True)
class Received:
    """A copy whose copy.json its issuer signed. Its payload is judged as it is read."""

    copy: Copy
    shelf: Shelf

    @property
    def issuer(self) -> str:
        """The fingerprint of the issuer's keys: to be compared with one that came another way."""
        return self.copy.issuer.keys.fingerprint()

    @property
    def expected(self) -> Expected:
        """What the sealed folder must prove to be."""
        one = self.copy
        return Expected(
            checkpoint=one.copy,
            name=one.title,
            version=one.version,
            manifest=one.manifest,
            signer=one.issuer.name,
            key=one.issuer.keys,
            beside=BESIDE,
        )

    def verify(self, *, progress: Progress | None = None) -> Verified:
        """Check every byte of the folder. Needs no key, decrypts nothing.

        Raises:
            TamperError: the leaf of the first check that fails (sealed-1.md, section 8).

        """
        return verify(self.shelf, self.copy.copy, expected=self.expected, progress=progress)

    def data_key(self, seed: Secret, share: bytes | None) -> Secret | None:
        """Return the copy's data key; None while the release share of its embargo is not given.

        Raises:
            WrongKey: the key is not the recipient's, or the share is another one.
            BadInput: the share is none, or the copy needs none.

        """
        one = self.copy
        keyring = Keyring(one.recipient.name, seed)
        if keyring.public.fingerprint() != one.recipient.key:
            raise WrongKey(
                f"the key is not that of {one.recipient.name}, whom this copy was issued to",
                where=one.copy,
                remedy="Give the secret key whose public half the issuer was given.",
            )
        wrapped = unwrap_key(one.envelope, keyring, checkpoint=one.copy, version=one.version)
        if one.embargo is None:
            if share is not None:
                wrapped.wipe()
                raise BadInput("this copy has no embargo, and needs no release share", where="share")
            return wrapped
        try:
            return None if share is None else released_key(wrapped, read_share(share, one, where="share"), one.copy)
        finally:
            wrapped.wipe()

    def open(self, seed: Secret, share: bytes | None, *, now: dt.datetime) -> SealedReader:
        """Open the copy for reading in memory.

        Raises:
            CopyExpired: its term is over.
            Embargoed: it needs a release share.
            WrongKey: the key is not the recipient's, or the share is another one.
            TamperError: the folder is not what was issued.

        """
        one = self.copy
        if self.is_expired(now):
            raise CopyExpired(f"its term ended on {one.expires}", where=one.copy)
        key = self.data_key(seed, share)
        if key is None:
            raise Embargoed(f"under an embargo until {one.embargo}: it needs the release share", where=one.copy)
        try:
            return SealedReader(self.shelf, one.copy, expected=self.expected, data_key=key)
        finally:
            key.wipe()

    def is_expired(self, now: dt.datetime) -> bool:
        """Whether the copy's term is over."""
        return self.copy.expires is not None and now >= read_day(self.copy.expires, what="expires")


def receive(shelf: Shelf, *, issuer: str | None = None) -> Received:
    """Read and judge what a folder says of itself.

    With `issuer`, a fingerprint of 64 hexadecimal digits, only that issuer's signature counts.

    Raises:
        ManifestMissing: there is no copy.json.
        ManifestAltered: copy.json does not parse.
        SignatureInvalid: the issuer that it names did not sign it, or is not the pinned one.

    """
    raw = _small(shelf, COPY)
    if raw is None:
        raise ManifestMissing("no copy was issued here: there is no copy.json", where=COPY)
    try:
        copy = decode(raw, Copy, where=COPY)
        for day in (copy.embargo, copy.expires):
            read_day(day or "2000-01-01", what=COPY)
    except BadInput as error:
        raise ManifestAltered(error.message, where=COPY) from None
    if (copy.embargo is None) != (copy.share is None):
        raise ManifestAltered("an embargo without a share, or a share without one", where=COPY)
    _judge_signature(copy, raw, _small(shelf, COPY_SIGNATURE))
    found = copy.issuer.keys.fingerprint()
    if issuer is not None and _pin(issuer) != found:
        raise SignatureInvalid(f"issued by {found}, which is not the pinned issuer", where=COPY_SIGNATURE)
    return Received(copy, shelf)


def _judge_signature(copy: Copy, raw: bytes, signature: bytes | None) -> None:
    if signature is None:
        raise SignatureInvalid("the signature is missing", where=COPY_SIGNATURE)
    try:
        document = decode(signature, CopySignature, where=COPY_SIGNATURE)
    except BadInput as error:
        raise SignatureInvalid(error.message, where=COPY_SIGNATURE) from None
    if document.signer != copy.issuer.name:
        raise SignatureInvalid(f"signed by {document.signer}, not by {copy.issuer.name}", where=COPY_SIGNATURE)
    copy.issuer.keys.verify(document.signature, pae(COPY_TYPE, raw), where=COPY_SIGNATURE)


def _pin(text: str) -> str:
    """Return a fingerprint as it was given, spaces and colons left out.

    Raises:
        BadInput: it is none.

    """
    plain = text.replace(":", "").replace(" ", "").lower()
    if len(plain) != hashlib.sha256().digest_size * 2 or not set(plain) <= set("0123456789abcdef"):
        raise BadInput("no fingerprint: 64 hexadecimal digits", where="issuer")
    return plain


def _small(shelf: Shelf, name: str) -> bytes | None:
    """Return a whole small file, cut one byte beyond the limit: longer ones then fail their check."""
    blob = shelf.open(_FOLDER, name)
    if blob is None:
        return None
    with closing(blob):
        buffer = bytearray(min(blob.size, DOCUMENT_LIMIT + 1))
        return bytes(buffer[: blob.read_into(0, memoryview(buffer))])
