"""The documents of ``strongroom/sealed@1``: docs/formats/sealed-1.md is the contract, this is its types."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import BadInput

FORMAT: Final = "strongroom/sealed@1"
SUITE: Final = "FLOE-AES-256-GCM-HKDF-SHA-384+HKDF-SHA-256+BLAKE3+Ed25519"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
MANIFEST_TYPE: Final = "application/vnd.strongroom.sealed.v1+json"
JOURNAL_TYPE: Final = "application/vnd.strongroom.seal-journal.v1+json"
MANIFEST_LIMIT: Final = 256 << 20
SIGNATURE_LIMIT: Final = 4096
FILES_LIMIT: Final = 100_000
SEGMENT: Final = 1 << 20  # measured: docs/decisions/0003-floe-segments.md
SEGMENT_LEAST, SEGMENT_MOST = 4096, 16 << 20
HASH_BYTES: Final = 32
_PATH_LIMIT = 1024

Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Hex32 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]


class SealedFile(Record, frozen=True, kw_only=True):
    """One encrypted file as the manifest names it."""

    name: str
    size: Count
    header: Hex32
    segments: bytes


class Manifest(Record, frozen=True, kw_only=True):
    """What is signed: identity, and a hash of every ciphertext byte."""

    format: Literal["strongroom/sealed@1"] = FORMAT
    suite: Literal["FLOE-AES-256-GCM-HKDF-SHA-384+HKDF-SHA-256+BLAKE3+Ed25519"] = SUITE
    checkpoint: Id
    name: Id
    tag: Id
    version: Version
    parent: Id | None
    created: Annotated[str, msgspec.Meta(max_length=40)]
    segment: Annotated[int, msgspec.Meta(ge=SEGMENT_LEAST, le=SEGMENT_MOST)]
    files: Annotated[list[SealedFile], msgspec.Meta(min_length=1, max_length=FILES_LIMIT)]


class Signature(Record, frozen=True, kw_only=True):
    """Who signed the manifest, and how."""

    format: Literal["strongroom/sealed-signature@1"] = "strongroom/sealed-signature@1"
    signer: Id
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Content(Record, frozen=True, kw_only=True):
    """One file of the model, as the encrypted table of contents names it."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=_PATH_LIMIT)]
    size: Count
    file: Annotated[int, msgspec.Meta(ge=1, le=FILES_LIMIT)]
    kind: Literal["safetensors", "other"]


class Contents(Record, frozen=True, kw_only=True):
    """The table of contents: the plaintext of file 0."""

    format: Literal["strongroom/sealed-toc@1"] = "strongroom/sealed-toc@1"
    files: Annotated[list[Content], msgspec.Meta(min_length=1, max_length=FILES_LIMIT)]


class Envelope(Record, frozen=True, kw_only=True):
    """A data key, wrapped to one person."""

    format: Literal["strongroom/envelope@1"] = "strongroom/envelope@1"
    checkpoint: Id
    version: Version
    person: Id
    key: Hex32
    wrapped: bytes


class Journal(Record, frozen=True, kw_only=True):
    """What a resumed sealing must know: the identity and the wrapped data key, before the first encrypted byte."""

    format: Literal["strongroom/seal-journal@1"] = "strongroom/seal-journal@1"
    checkpoint: Id
    name: Id
    tag: Id
    version: Version
    parent: Id | None
    created: Annotated[str, msgspec.Meta(max_length=40)]
    segment: Annotated[int, msgspec.Meta(ge=SEGMENT_LEAST, le=SEGMENT_MOST)]
    contents: Hex32
    envelope: Envelope
    replaced: tuple[Id, ...]  # published by attempts at this version that had another source; in nobody's ledger


class SignedJournal(Record, frozen=True, kw_only=True):
    """A journal and its custodian's signature: a planted data key is refused."""

    journal: Journal
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


def pae(kind: str, body: bytes) -> bytes:
    """Return the DSSE pre-authentication encoding: what is signed names its type."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def sealed_name(index: int) -> str:
    """Return the name of sealed file `index`."""
    return f"{index:06d}.sealed"


def associated(checkpoint: str, version: int, index: int) -> bytes:
    """Return the FLOE associated data of file `index`."""
    return encode({"checkpoint": checkpoint, "file": index, "format": FORMAT, "version": version})


def read_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest strictly.

    Raises:
        BadInput: it is not canonical, has unknown members, or its files are not named and counted as they must be.

    """
    manifest = decode(data, Manifest, where=where)
    if manifest.segment & (manifest.segment - 1):
        raise BadInput("the segment length is no power of two", where=where)
    for index, file in enumerate(manifest.files):
        if file.name != sealed_name(index) or len(file.segments) % HASH_BYTES:
            raise BadInput(f"file {index} is not described as it must be", where=where)
    return manifest


def read_contents(data: bytes, *, where: str) -> Contents:
    """Read a table of contents strictly.

    Raises:
        BadInput: files out of order, or a path that is unsafe, twice there, or a folder of another.

    """
    contents = decode(data, Contents, where=where)
    seen: set[str] = set()
    folders: set[str] = set()
    for place, entry in enumerate(contents.files, start=1):
        check_path(entry.path, where=where)
        if entry.file != place or entry.path in seen:
            raise BadInput(f"entry {place} is out of order or names a path twice", where=where)
        seen.add(entry.path)
        parts = entry.path.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if folders & seen:
        raise BadInput("a path is a folder of another", where=where)
    return contents


def check_path(path: str, *, where: str) -> None:
    """Return if `path` is relative, without dots, and plain enough to be made a link's name.

    Raises:
        BadInput: it is not.

    """
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise BadInput("a path that is not UTF-8", where=where) from None
    bad_part = any(part in {"", ".", ".."} for part in path.split("/"))
    if bad_part or size > _PATH_LIMIT or "\\" in path or not path.isprintable():
        raise BadInput("a path that is not relative and plain", where=where)
