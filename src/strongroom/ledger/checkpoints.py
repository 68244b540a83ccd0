"""Signed log checkpoints (https://c2sp.org/tlog-checkpoint): origin, size and root of the tree, signed by the log."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from strongroom.core.errors import BadInput
from strongroom.ledger.merkle import HASH_BYTES
from strongroom.ledger.notes import Note, Signer, Verifier, unbase64

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_LINES = 3


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A log checkpoint whose signature is verified (or was just made): size, root, and the signed note's bytes."""

    origin: str
    size: int
    root: bytes
    text: bytes


def sign(size: int, root: bytes, signer: Signer) -> SignedCheckpoint:
    """Return the log checkpoint of a tree, signed; the key's name is the origin."""
    origin = signer.verifier.name
    body = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    return SignedCheckpoint(origin, size, root, Note(body, (signer.sign(body),)).encode())


def parse(data: bytes, verifier: Verifier, *, where: str) -> SignedCheckpoint:
    """Read a log checkpoint that `verifier` has signed, of the log that has the verifier's name.

    Raises:
        BadInput: it is malformed, or of another log.
        SignatureInvalid: `verifier` has not signed it.

    """
    note = Note.parse(data, where=where)
    verifier.check(note, where=where)
    found = body(note, where=where)
    if found.origin != verifier.name:
        raise BadInput("the log checkpoint is of another log", where=where)
    return found


def body(note: Note, *, where: str) -> SignedCheckpoint:
    """Read the text of a note as a log checkpoint. The caller has verified, or will verify, a signature.

    Raises:
        BadInput: it is malformed.

    """
    lines = note.text[:-1].split("\n")
    if len(lines) < _LINES or not all(lines) or not _SIZE.fullmatch(lines[1]):
        raise BadInput("not a log checkpoint", where=where)
    root = unbase64(lines[2], where=where)
    if len(root) != HASH_BYTES:
        raise BadInput("the root is not 32 bytes", where=where)
    return SignedCheckpoint(lines[0], int(lines[1]), root, note.encode())
