"""Bundles and consistency proofs from a real log; and the keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.clock import SystemClock
from strongroom.core.errors import (
    AlreadyExists,
    BadInput,
    LedgerAltered,
    LedgerUnavailable,
    ProofInvalid,
    StrongroomError,
)
from strongroom.ledger import checkpoints
from strongroom.ledger.events import Event
from strongroom.ledger.keys import LogKey, create_log_key, load_log_key, new_signer
from strongroom.ledger.log import Ledger
from strongroom.ledger.merkle import check_consistency, leaf_hash
from strongroom.ledger.notes import WITNESS_KEY
from strongroom.ledger.proofs import verify_bundle
from strongroom.ledger.witness import Witness
from strongroom.ports.log_store import LogRow, LogWrite

Make = Callable[..., Event]


def test_a_bundle_proves_its_entry_offline(ledger: Ledger, make_event: Make) -> None:
    for _ in range(300):
        ledger.append(make_event())
    for index in (0, 255, 256, 299):
        bundle = ledger.prove(index)
        assert bundle.startswith(b"c2sp.org/tlog-proof@v1\nextra ")
        assert verify_bundle(bundle, ledger.vkey) == ledger.entry(index)


def test_an_altered_bundle_is_refused(tmp_path: Path, ledger: Ledger, make_event: Make) -> None:
    for _ in range(5):
        ledger.append(make_event())
    bundle = ledger.prove(2)
    stranger = create_log_key(tmp_path / "other.key", ledger.origin)
    with pytest.raises(ProofInvalid):
        verify_bundle(bundle, stranger.vkey)
    for at in range(len(bundle)):
        altered = bundle[:at] + bytes([bundle[at] ^ 1]) + bundle[at + 1 :]
        with pytest.raises(ProofInvalid):
            verify_bundle(altered, ledger.vkey)
    with pytest.raises(BadInput):
        verify_bundle(bundle, "nonsense")


def test_a_bundle_under_a_witnessed_log_checkpoint(tmp_path: Path, ledger: Ledger, make_event: Make) -> None:
    ledger.append(make_event())
    witness = Witness.create(tmp_path / "stick", "witness.example/w1", SystemClock())
    seen = witness.cosign(ledger)
    ledger.append(make_event())
    bundle = ledger.prove(0, seen)
    assert verify_bundle(bundle, ledger.vkey, witnesses=[witness.vkey]).index == 0
    with pytest.raises(ProofInvalid):
        verify_bundle(ledger.prove(0), ledger.vkey, witnesses=[witness.vkey])
    with pytest.raises(BadInput):
        ledger.prove(1, seen)
    with pytest.raises(BadInput):
        verify_bundle(bundle, witness.vkey)


def test_consistency_proofs(ledger: Ledger, make_event: Make) -> None:
    roots = [ledger.checkpoint().root]
    for _ in range(20):
        ledger.append(make_event())
        roots.append(ledger.checkpoint().root)
    for old in range(21):
        check_consistency((old, roots[old]), (20, roots[20]), ledger.consistency(old))
        check_consistency((min(old, 11), roots[min(old, 11)]), (11, roots[11]), ledger.consistency(min(old, 11), 11))
    for sizes in ((21, None), (0, 21), (-1, 3)):
        with pytest.raises(BadInput):
            ledger.consistency(*sizes)


def test_keys_are_private_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    create_log_key(path, "a.example")
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExists):
        create_log_key(path, "a.example")
    path.chmod(0o640)
    with pytest.raises(LedgerUnavailable):
        load_log_key(path)
    path.chmod(0o600)
    path.write_bytes(b"\xff")
    with pytest.raises(BadInput):
        load_log_key(path)
    for wrong in (tmp_path / "none" / "log.key", tmp_path):
        with pytest.raises(StrongroomError):
            load_log_key(wrong)
    with pytest.raises(LedgerUnavailable):
        create_log_key(tmp_path / "none" / "log.key", "a.example")
    with pytest.raises(BadInput):
        create_log_key(tmp_path / "x.key", "a b")
    with pytest.raises(BadInput):
        LogKey(new_signer("w.example", WITNESS_KEY))


def test_a_key_that_cannot_be_synced_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerUnavailable):
        create_log_key(tmp_path / "log.key", "a.example")
    assert not list(tmp_path.iterdir())


def test_a_signed_leaf_that_is_no_event_is_named(ledger: Ledger, key: LogKey) -> None:
    # only the holder of the log's key can make one
    head = ledger.checkpoint()
    grown = checkpoints.sign(1, leaf_hash(b"no event"), key.signer)
    with ledger._store.turn([], lambda raw: raw) as turn:
        row = LogRow(0, b"no event", "x", "x", "x", None)
        turn.commit(LogWrite(rows=[row], tiles={(0, 0): leaf_hash(b"no event")}, head=grown.text, was=head.text))
    for read in (lambda: ledger.entry(0), ledger.verify):
        with pytest.raises(LedgerAltered) as caught:
            read()
        assert caught.value.where == "entry 0"


def test_bundles_with_too_much_in_them_are_refused(ledger: Ledger, make_event: Make) -> None:
    ledger.append(make_event())
    bundle = ledger.prove(0)
    line = b"A" * 43 + b"=\n"
    for wrong in (bundle + b"x" * (2 << 20), bundle.replace(b"index 0\n", b"index 0\n" + line * 64)):
        with pytest.raises(ProofInvalid):
            verify_bundle(wrong, ledger.vkey)
