"""Checkpoints' signatures: made when a checkpoint is sealed, kept encrypted, read by whoever may trace.

A signature is a piece of the weights, so it is encrypted (AES-256-GCM) by a key of its own, derived from the house's
lineage secret. One that is missing, for the checkpoint is older or its sealer might not, is made when it is first
asked for.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Annotated, Final, Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, decode, encode
from strongroom.core.errors import Busy, RecordAltered, RefusedError
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import LINEAGE_MASTER
from strongroom.custody.marked import ReaderTensors
from strongroom.custody.read import Reader
from strongroom.custody.registry import Registered
from strongroom.custody.vault import Purpose
from strongroom.lineage.keys import derive
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.signature import LIMIT, Signature, sign
from strongroom.lineage.vocabulary import tokens_of
from strongroom.ports.marks import Progress
from strongroom.ports.records import Change, Records
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import Home

_KIND: Final = "signature"
_TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_LIMIT: Final = 256 << 20
_NONCE: Final = 12


class KeptSignature(Record, frozen=True, kw_only=True):
    """A signature as it is stored."""

    format: Literal["strongroom/kept-signature@1"] = "strongroom/kept-signature@1"
    checkpoint: str
    nonce: Annotated[bytes, msgspec.Meta(min_length=_NONCE, max_length=_NONCE)]
    sealed: Annotated[bytes, msgspec.Meta(max_length=LIMIT + 16)]


class Signatures:
    """The signatures of a home's checkpoints, for one who may trace."""

    def __init__(self, home: Home, who: Identity) -> None:
        """Get the house's lineage secret for `who`.

        Raises:
            NotPermitted: the policy does not let `who` ask whose copy a file is.

        """
        self._home, self._who = home, who
        question = Question("lineage.decode", purpose="signatures of checkpoints")
        self.master = premises_of(home).housekeys.obtain(who, LINEAGE_MASTER, question)

    def of(self, record: Registered, *, progress: Progress | None = None) -> Signature:
        """Return a checkpoint's signature, making it if there is none yet.

        Raises:
            RecordAltered: what is stored was not made by this house, or for another checkpoint.
            NotPermitted: there is none, and the policy does not let its owner open the checkpoint.

        """
        kept = get_signature(self._home.records, self.master, record.checkpoint)
        if kept is None:
            with opened_model(self._home, self._who, record, why="make its signature") as model:
                kept = sign(model, progress=progress)
            put_signature(self._home.records, self.master, record.checkpoint, signature=kept)
        return kept


def get_signature(records: Records, master: Secret, checkpoint: str) -> Signature | None:
    """Return the signature of the checkpoint with an id, or None if there is none.

    Raises:
        RecordAltered: what is stored was not made by this house, or for another checkpoint.

    """
    stored = records.get(_KIND, checkpoint)
    if stored is None:
        return None
    where = f"signature of {checkpoint}"
    kept = decode(stored.document, KeptSignature, where=where, canonical=False)
    try:
        raw = _cipher(master, checkpoint).decrypt(kept.nonce, kept.sealed, checkpoint.encode())
    except InvalidTag:
        raise RecordAltered("the signature is not what was stored", where=where) from None
    return decode(raw, Signature, where=where, canonical=False)


def put_signature(records: Records, master: Secret, checkpoint: str, *, signature: Signature) -> None:
    """Encrypt a signature and store it; another's, stored meanwhile, stays."""
    nonce = os.urandom(_NONCE)
    sealed = _cipher(master, checkpoint).encrypt(nonce, encode(signature), checkpoint.encode())
    kept = KeptSignature(checkpoint=checkpoint, nonce=nonce, sealed=sealed)
    with suppress(Busy):
        records.apply([Change(_KIND, checkpoint, 0, encode(kept))])


def _cipher(master: Secret, checkpoint: str) -> AESGCM:
    return AESGCM(derive(master, "signature", checkpoint).reveal())


def keep_signature(home: Home, who: Identity, record: Registered, *, progress: Progress | None = None) -> bool:
    """Make the signature of a checkpoint that was just sealed; return whether there is one now.

    Without the right to it there is none: it is made when somebody who may traces a suspect.
    """
    try:
        Signatures(home, who).of(record, progress=progress)
    except RefusedError:
        return False
    return True


@contextmanager
def opened_model(home: Home, who: Identity, record: Registered, *, why: str) -> Generator[Model]:
    """Open a sealed checkpoint as a model; the ledger says so, and why."""
    with home.vault.open(who, record.title, Purpose(why, {"for": "lineage"})) as reader:
        yield model_of(ReaderTensors(reader), _tokens(reader))


def _tokens(reader: Reader) -> tuple[str, ...] | None:
    """Return the strings of the checkpoint's tokens, if a tokenizer is sealed with it."""
    entry = next((one for one in reader.contents.files if one.path == _TOKENIZER), None)
    if entry is None or entry.size > _TOKENIZER_LIMIT:
        return None
    raw = bytearray(entry.size)
    reader.read_into(entry.file, 0, memoryview(raw))
    tokens = tokens_of(bytes(raw))
    return None if tokens is None else tuple(tokens)
