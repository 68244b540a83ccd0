"""Proof bundles: one text file that shows a stranger, offline, that an entry is in the log.

The form is https://c2sp.org/tlog-proof (version 1); the entry's bytes travel in its ``extra`` line, and are believed
only because their hash is the leaf that the proof leads from.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.ledger import checkpoints, events
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.events import Entry
from strongroom.ledger.merkle import HASH_BYTES, check_inclusion, leaf_hash
from strongroom.ledger.notes import LOG_KEY, WITNESS_KEY, Note, Verifier, unbase64

_MAGIC = "c2sp.org/tlog-proof@v1"
MAX_BUNDLE = 2 << 20  # bytes
_MAX_PROOF = 63
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,17})")
_HEADER_LINES = 3


def write_bundle(entry: Entry, proof: Sequence[bytes], checkpoint: SignedCheckpoint) -> bytes:
    """Return the proof bundle of an entry under a log checkpoint."""
    lines = [_MAGIC, f"extra {base64.b64encode(entry.raw).decode()}", f"index {entry.index}"]
    lines += [base64.b64encode(sibling).decode() for sibling in proof]
    return "\n".join(lines).encode() + b"\n\n" + checkpoint.text


def verify_bundle(bundle: bytes, vkey: str, *, witnesses: Sequence[str] = ()) -> Entry:
    """Return the entry that `bundle` proves to be in the log whose verifier key is `vkey`.

    With `witnesses` (cosigner vkeys), each of them must have cosigned the log checkpoint.

    Raises:
        ProofInvalid: the bundle is malformed, of another log, not signed, not cosigned, or proves nothing.
        BadInput: a given key is none.

    """
    log = _verifier(vkey, LOG_KEY)
    cosigners = [_verifier(text, WITNESS_KEY) for text in witnesses]
    try:
        entry, proof, text = _parse(bundle)
        checkpoint = checkpoints.parse(text, log, where="bundle")
        for cosigner in cosigners:
            cosigner.check(Note.parse(text, where="bundle"), where="bundle")
    except (BadInput, SignatureInvalid) as error:
        raise ProofInvalid(error.message, where="bundle") from None
    check_inclusion(leaf_hash(entry.raw), entry.index, checkpoint.size, proof=proof, root=checkpoint.root)
    return entry


def _verifier(vkey: str, kind: int) -> Verifier:
    """Read a vkey of one type."""
    verifier = Verifier.parse(vkey)
    if verifier.kind != kind:
        raise BadInput("the key is of another type", where="vkey")
    return verifier


def _parse(bundle: bytes) -> tuple[Entry, list[bytes], bytes]:
    """Take a bundle apart: the entry it claims, the proof, the log checkpoint's bytes. Nothing is verified yet."""
    if len(bundle) > MAX_BUNDLE:
        raise BadInput("the bundle is over 2 MiB", where="bundle")
    above, blank, text = bundle.partition(b"\n\n")
    try:
        lines = above.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise BadInput("the bundle is not text", where="bundle") from None
    if not blank or len(lines) < _HEADER_LINES or lines[0] != _MAGIC or not lines[1].startswith("extra "):
        raise BadInput("not a proof bundle with an entry", where="bundle")
    index = _INDEX.fullmatch(lines[2])
    if index is None:
        raise BadInput("the index is malformed", where="bundle")
    raw = unbase64(lines[1].removeprefix("extra "), where="bundle")
    entry = Entry(int(index[1]), events.decode(raw, where="bundle"), raw)
    return entry, _siblings(lines[_HEADER_LINES:]), text


def _siblings(lines: Sequence[str]) -> list[bytes]:
    """Read the lines of the inclusion proof."""
    proof = [unbase64(line, where="bundle") for line in lines]
    if len(proof) > _MAX_PROOF or any(len(sibling) != HASH_BYTES for sibling in proof):
        raise BadInput("the inclusion proof is malformed", where="bundle")
    return proof
