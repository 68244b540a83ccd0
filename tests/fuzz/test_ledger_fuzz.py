"""Every parser of foreign bytes in the ledger: it returns a value or raises its own errors, whatever it is fed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.backends.file_turn import decode_offer, encode_offer
from strongroom.core.errors import BadInput, ProofInvalid, SignatureInvalid
from strongroom.core.secrets import Secret
from strongroom.ledger import checkpoints, events, tiles
from strongroom.ledger.checkpoints import sign
from strongroom.ledger.events import Entry, Event
from strongroom.ledger.merkle import leaf_hash
from strongroom.ledger.notes import LOG_KEY, Note, Signer, Verifier
from strongroom.ledger.proofs import verify_bundle, write_bundle

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

SIGNER = Signer("log.example", LOG_KEY, Secret(b"7" * 32))
EVENT = Event(id="evt_1", at="t", who="w", action="a", object="o", host="h", why="", outcome="done", detail={"n": 1})
RAW = events.encode(EVENT)
HEAD = sign(1, leaf_hash(RAW), SIGNER)
BUNDLE = write_bundle(Entry(0, EVENT, RAW), [], HEAD)


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Bytes near `seed`: pieces cut out, doubled or overwritten; or anything at all."""
    data = bytearray(seed)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        data[start:end] = draw(st.binary(max_size=8) | st.just(bytes(data[start:end]) * 2))
    return draw(st.just(bytes(data)) | st.binary(max_size=300))


@given(mutated(HEAD.text))
def test_notes(data: bytes) -> None:
    try:
        note = Note.parse(data, where="note")
    except BadInput:
        return
    assert note.encode() == data


@given(mutated(HEAD.text))
def test_log_checkpoints(data: bytes) -> None:
    try:
        found = checkpoints.parse(data, SIGNER.verifier, where="log checkpoint")
    except (BadInput, SignatureInvalid):
        return
    assert (found.size, found.root) == (1, HEAD.root)


@given(mutated(BUNDLE))
def test_bundles(data: bytes) -> None:
    try:
        entry = verify_bundle(data, SIGNER.verifier.vkey)
    except ProofInvalid:
        return
    assert entry == Entry(0, EVENT, RAW)


@given(mutated(RAW))
def test_entries_in_bundles(raw: bytes) -> None:
    # signed and proven, and still only an event counts as an entry
    text = (
        b"c2sp.org/tlog-proof@v1\nextra "
        + base64.b64encode(raw)
        + b"\nindex 0\n\n"
        + sign(1, leaf_hash(raw), SIGNER).text
    )
    try:
        entry = verify_bundle(text, SIGNER.verifier.vkey)
    except ProofInvalid:
        return
    assert events.encode(entry.event) == raw


@given(mutated(RAW))
def test_events(data: bytes) -> None:
    try:
        event = events.decode(data, where="entry")
    except BadInput:
        return
    assert events.encode(event) == data


@given(mutated(SIGNER.verifier.vkey.encode()))
def test_vkeys(data: bytes) -> None:
    text = data.decode("latin-1")
    try:
        verifier = Verifier.parse(text)
    except BadInput:
        return
    assert verifier.vkey == text


@given(mutated(SIGNER.encode().reveal()))
def test_signing_keys(data: bytes) -> None:
    text = data.decode("latin-1")
    try:
        signer = Signer.parse(text)
    except BadInput:
        return
    assert signer.encode().reveal().decode() == text


@given(mutated(tiles.pack([RAW, b"", b"x" * 300])))
def test_entry_bundles(data: bytes) -> None:
    try:
        entries = tiles.unpack(data, where="bundle")
    except BadInput:
        return
    assert tiles.pack(entries) == data


@given(mutated(encode_offer([RAW, b""])))
def test_spool_files(data: bytes) -> None:
    try:
        entries = decode_offer(data)
    except BadInput:
        return
    assert encode_offer(entries) == data


def test_the_longest_entry_travels_in_bundles_and_spools() -> None:
    entry = b"x" * tiles.MAX_ENTRY
    assert tiles.unpack(tiles.pack([entry]), where="bundle") == [entry]
    assert decode_offer(encode_offer([entry])) == [entry]
    with pytest.raises(BadInput):
        tiles.unpack(tiles.pack([entry])[:-1], where="bundle")
