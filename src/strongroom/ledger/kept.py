"""The state index as kept in a file: a signed note that names the document's digest, an empty line, the document."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Literal

import msgspec

from strongroom.core.canonical import Record, decode
from strongroom.core.errors import BadInput, SignatureInvalid
from strongroom.ledger.keys import LogKey
from strongroom.ledger.notes import Note

_TYPE = "strongroom/state@3"
_MAX_FILE = 1 << 28


class Mark(Record, frozen=True, array_like=True):
    """An entry that decisions rest on: where it is, its leaf hash, and what it is looked up by."""

    index: int
    leaf: bytes
    action: str
    object: str
    claim: str | None


class Kept(Record, frozen=True, kw_only=True):
    """The state index of a log's first `size` entries, and the frontier of their tree."""

    type: Literal["strongroom/state@3"] = _TYPE
    size: int
    frontier: list[bytes]
    marks: list[Mark]


def write(file: Path, kept: Kept, key: LogKey) -> bool:
    """Replace the file, signed with the log's key; return whether that went well.

    Nothing is synced: the signature of a torn file does not verify.
    """
    temporary = file.with_name(f"{file.name}.tmp")
    document = msgspec.json.encode(kept, order="sorted")
    text = _text(key.origin, document)
    data = Note(text, (key.signer.sign(text),)).encode() + b"\n" + document
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as stream:
            stream.write(data)
        temporary.replace(file)
    except OSError:
        return False
    return True


def read(file: Path, key: LogKey) -> Kept | None:
    """Return what the log's key has signed, or None: whatever is wrong with the file, the log itself can be read."""
    try:
        above, _, document = _bytes(file).rpartition(b"\n\n")  # the document holds no newline
        note = Note.parse(above + b"\n", where=_TYPE)
        key.verifier.check(note, where=_TYPE)
        if note.text != _text(key.origin, document):
            return None
        kept = decode(document, Kept, where=_TYPE, canonical=False)
    except (OSError, BadInput, SignatureInvalid):
        return None
    return kept if len(kept.frontier) == kept.size.bit_count() else None


def _text(origin: str, document: bytes) -> str:
    """Return what the log's key signs. Its second line is no number: it can't be taken for a log checkpoint."""
    return f"{_TYPE}\nof {origin}\n{hashlib.sha256(document).hexdigest()}\n"


def _bytes(file: Path) -> bytes:
    """Read an ordinary file of moderate size; anything else is no bytes."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as stream:
        status = os.fstat(stream.fileno())
        return stream.read() if stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_FILE else b""
