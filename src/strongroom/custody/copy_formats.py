"""The documents of ``strongroom/copy@1``: docs/formats/copy-1.md is the contract, this is its types."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from strongroom.access.keys import PublicKeys
from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput
from strongroom.core.ids import CheckpointName
from strongroom.custody.formats import MANIFEST, SIGNATURE, Envelope, Hex32, Id, Version
from strongroom.custody.recipients import Kind
from strongroom.ports.marks import PerplexityCost

COPY: Final = "copy.json"
COPY_SIGNATURE: Final = "copy.sig"
BESIDE: Final = (COPY, COPY_SIGNATURE)
COPY_TYPE: Final = "application/vnd.strongroom.copy.v1+json"
SHARE_TYPE: Final = "application/vnd.strongroom.release-share.v1+json"
DOCUMENT_LIMIT: Final = 65536
PURPOSE_LIMIT: Final = 1000
DEFAULT_LICENCE: Final = "commercial-restricted"
_LICENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,99}")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

Day = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
Licence = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+-]{0,99}\Z")]
Key32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Ed25519 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class CopyRecipient(Record, frozen=True, kw_only=True):
    """Whom a copy is for; `key` is the fingerprint of their public keys."""

    name: Id
    kind: Kind
    key: Hex32


class CopyIssuer(Record, frozen=True, kw_only=True):
    """Who signed a copy."""

    name: Id
    keys: PublicKeys


class CopyMark(Record, frozen=True, kw_only=True):
    """What may be told of a copy's mark. The commitment binds chips and code without showing them."""

    scheme: Annotated[str, msgspec.Meta(max_length=100)]
    commitment: Hex32
    segments: Annotated[int, msgspec.Meta(ge=257, le=1 << 20)]
    units: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]  # of the weights of all matrices
    alpha: float
    retained: float


class CopyTerms(Record, frozen=True, kw_only=True):
    """What copy.json and the ledger's deed both say."""

    copy: Id
    home: Id
    checkpoint: Id
    name: Id
    tag: Id
    version: Version
    recipient: CopyRecipient
    licence: Licence
    purpose: Annotated[str, msgspec.Meta(max_length=PURPOSE_LIMIT)]
    issued: Annotated[str, msgspec.Meta(max_length=40)]
    embargo: Day | None
    expires: Day | None
    share: Hex32 | None  # which release share opens it; null without an embargo
    manifest: Hex32
    issuer: CopyIssuer
    mark: CopyMark
    perplexity: PerplexityCost | None

    @property
    def title(self) -> CheckpointName:
        """The name and tag of the checkpoint that it is a copy of."""
        return CheckpointName(self.name, self.tag)


class Copy(CopyTerms, frozen=True, kw_only=True):
    """What ``copy.json`` says."""

    format: Literal["strongroom/copy@1"] = "strongroom/copy@1"
    envelope: Envelope


class CopySignature(Record, frozen=True, kw_only=True):
    """What ``copy.sig`` says."""

    format: Literal["strongroom/copy-signature@1"] = "strongroom/copy-signature@1"
    signer: Id
    signature: Ed25519


class IssuedCopy(CopyTerms, frozen=True, kw_only=True):
    """What the ledger's deed says of a copy, from before it left."""

    format: Literal["strongroom/issued-copy@1"] = "strongroom/issued-copy@1"
    request: str  # the approved request
    host: str
    path: str
    log10_p: float  # of the copy's own code, when it was read back
    digest: Hex32  # SHA-256 of copy.json

    @property
    def destination(self) -> str:
        """What was approved, by what the deed says."""
        return destination(
            self.recipient, licence=self.licence, embargo=self.embargo, expires=self.expires, path=self.path
        )


class Share(Record, frozen=True, kw_only=True):
    """The share of one checkpoint version."""

    checkpoint: Id
    version: Version
    share: Key32


class ReleaseShare(Record, frozen=True, kw_only=True):
    """What is published when an embargo is over: it opens every copy of these versions under that date."""

    format: Literal["strongroom/release-share@1"] = "strongroom/release-share@1"
    home: Id
    name: Id
    tag: Id
    embargo: Day
    released: Annotated[str, msgspec.Meta(max_length=40)]
    issuer: CopyIssuer
    shares: Annotated[list[Share], msgspec.Meta(min_length=1, max_length=1000)]


class SignedShare(Record, frozen=True, kw_only=True):
    """The file that is published: the shares, and the signature of whoever released them."""

    released: ReleaseShare
    signature: Ed25519


def sealed_and_beside(names: list[str]) -> list[str]:
    """Return the names of everything that the folder of a copy holds, given its sealed files'."""
    return [*names, MANIFEST, SIGNATURE, *BESIDE]


def destination(to: CopyRecipient, *, licence: str, embargo: str | None, expires: str | None, path: Path | str) -> str:
    """Return what is approved of a copy, in one line; the path comes last, since it alone may hold anything."""
    return (
        f"{to.name} ({to.kind}, key {to.key[:16]}), licence {licence}, "
        f"embargo {embargo or 'none'}, expires {expires or 'never'}, at {path}"
    )


def read_day(text: str, *, what: str) -> dt.datetime:
    """Return the midnight, in UTC, that a day such as ``2027-01-31`` begins with.

    Raises:
        BadInput: it is no such day.

    """
    refusal = BadInput("no day: write YYYY-MM-DD", where=what)
    if not _DAY.fullmatch(text):
        raise refusal
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
    except ValueError:
        raise refusal from None


def check_licence(text: str) -> str:
    """Return `text` if it may name a licence: it is shown to whoever approves, in a line with other words.

    Raises:
        BadInput: it is empty, too long, or has a space or another character that an id has not.

    """
    if not _LICENCE.fullmatch(text):
        raise BadInput("no licence id: letters, digits and . _ : / + -, at most 100", where="licence")
    return text


def notes(terms: CopyTerms) -> list[str]:
    """Return what whoever issues or receives the copy should know."""
    said: list[str] = []
    if terms.embargo:
        said.append(
            f"embargo until {terms.embargo}: it opens only with the release share of that day, which the issuer's "
            "custodians and owners can make earlier; the date alone stops nobody"
        )
    if terms.expires:
        said.append(
            f"expires on {terms.expires}: this binds an honest client only; whoever has the key can decrypt it later"
        )
    if terms.perplexity is None:
        said.append("what the mark costs in perplexity was not measured")
    return said
