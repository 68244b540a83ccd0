"""The files of a window index and what binds them together (docs/formats/windows-1.md)."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from blake3 import blake3
from msgspec import Meta

from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import BadInput, WrongKey
from strongroom.core.privacy_errors import IndexAltered, NoSuchIndex
from strongroom.core.secrets import Secret

FORMAT: Final = "strongroom/windows@1"
HEADER: Final = "index.json"
SOURCES: Final = "sources.jsonl"
KEY_BYTES: Final = 32
PERSON_WINDOW: Final = b"strongroom-win"
PERSON_VALUE: Final = b"strongroom-val"
PERSON_END: Final = b"strongroom-end"
END: Final = 4  # bytes that a value ends with
_PERSON_HEADER: Final = b"strongroom-idx"
_HEADER_LIMIT: Final = 1 << 20
_CHUNK: Final = 1 << 22
_Count = Annotated[int, Meta(ge=0, le=1 << 52)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
WRONG_KEY: Final = "Give the key that it was built with: that of the home, or the --key-file."


class Member(Record, frozen=True):
    """A file of the index."""

    bytes: _Count
    digest: Digest  # BLAKE3


class Shape(Record, frozen=True):
    """A table: how many fingerprints, and by how many bits they are found."""

    entries: _Count
    bits: Annotated[int, Meta(ge=0, le=32)]


class Header(Record, frozen=True):
    """What an index is."""

    format: Literal["strongroom/windows@1"]
    id: Annotated[str, Meta(pattern="^[0-9a-z_-]{8,80}$")]
    made: str
    window: Annotated[int, Meta(ge=2, le=64)]  # words
    stride: Annotated[int, Meta(ge=1, le=64)]  # words
    common: Annotated[int, Meta(ge=2)]  # documents: what so many have in common is left out
    documents: _Count
    corpus_bytes: _Count  # of the documents' text, UTF-8
    corpus: Digest  # SHA-256 over the digests of all documents' texts, in order
    owner_bytes: Literal[2, 4]
    start_bytes: Literal[4, 8]
    windows: Shape
    values: Shape
    ends: Shape
    members: dict[str, Member]


class Sealed(Record, frozen=True):
    """``index.json``: the header, and what says that somebody with the key wrote it."""

    header: Header
    mac: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # BLAKE2b-256 of the header's canonical bytes, keyed


def mac_of(header: Header, key: Secret) -> str:
    """Return the header's MAC."""
    return hashlib.blake2b(encode(header), key=key.reveal(), digest_size=32, person=_PERSON_HEADER).hexdigest()


def fingerprint(key: bytes, person: bytes) -> hashlib.blake2b:
    """Return the hash that has taken in the key: copy it, update it, and its digest is a fingerprint."""
    return hashlib.blake2b(key=key, digest_size=8, person=person)


def read_sealed(folder: Path) -> Sealed:
    """Read an index's header, unchecked: for its id, by which the key is found.

    Raises:
        NoSuchIndex: no index is there.
        IndexAltered: what stands there is none, or of another version.

    """
    try:
        with (folder / HEADER).open("rb") as stream:
            raw = stream.read(_HEADER_LIMIT)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchIndex("no window index is there", where=str(folder)) from None
    except OSError as error:
        raise IndexAltered(f"its header can't be read ({error.strerror})", where=str(folder)) from None
    try:
        return decode(raw, Sealed, where=str(folder))
    except BadInput:
        raise IndexAltered("its header is none of this version", where=str(folder)) from None


def checked_header(folder: Path, key: Secret) -> Header:
    """Return the header of the index in `folder`, once the key has vouched for it and every file is the one it names.

    Raises:
        NoSuchIndex: no index is there.
        WrongKey: the key is not the one that it was built with, or the header was changed: nobody can tell which.
        IndexAltered: a file is missing, cut or changed.

    """
    sealed = read_sealed(folder)
    if not hmac.compare_digest(mac_of(sealed.header, key), sealed.mac):
        raise WrongKey("the key does not vouch for this index", where=str(folder), remedy=WRONG_KEY)
    for name, member in sealed.header.members.items():
        if measured(folder / name) != member:
            raise IndexAltered(f"{name} is not the file that was built", where=str(folder))
    return sealed.header


def measured(file: Path) -> Member | None:
    """Return a file's size and digest; None where it can't be read."""
    hashing, size = blake3(), 0
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                hashing.update(chunk)
                size += len(chunk)
    except OSError:
        return None
    return Member(bytes=size, digest=hashing.hexdigest())


class Source(msgspec.Struct, frozen=True, array_like=True):
    """A line of ``sources.jsonl``: a file of the corpus, and the number of its first document."""

    first: int
    documents: int
    file: str
    records: bool  # whether its documents are records of it, and not the file as a whole
