"""A witness outside the home sees what the home can't: a whole older copy put back, or another history."""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.clock import SystemClock
from strongroom.core.errors import (
    AlreadyExists,
    BadInput,
    LedgerAltered,
    LedgerForked,
    LedgerRolledBack,
    LedgerUnavailable,
)
from strongroom.ledger.events import Event
from strongroom.ledger.keys import LogKey, create_log_key
from strongroom.ledger.log import Ledger
from strongroom.ledger.notes import Note, Verifier
from strongroom.ledger.witness import Witness

Make = Callable[..., Event]


class Clock:
    """A clock that stands."""

    def now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(1679315147, dt.UTC)


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness.create(tmp_path / "stick", "witness.example/w1", Clock())


def older(tmp_path: Path, key: LogKey) -> Ledger:
    """Open the copy that `keep` made, as an intruder would put it back."""
    return Ledger(SqliteLog(tmp_path / "old" / "log.db"), key)


def keep(tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "ledger", tmp_path / "old")


def test_a_witness_cosigns_and_remembers(ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path) -> None:
    assert witness.last(ledger.vkey) is None
    for size in range(1, 4):
        ledger.append(make_event())
        seen = witness.cosign(ledger)
        assert seen.size == size
    again = Witness(tmp_path / "stick", SystemClock())
    assert again.last(ledger.vkey) == seen
    note = Note.parse(seen.text, where="note")
    Verifier.parse(ledger.vkey).check(note, where="note")
    Verifier.parse(witness.vkey).check(note, where="note")
    assert int.from_bytes(note.signatures[-1].value[:8], "big") == 1679315147
    assert ledger.verify(seen).size == 3


def test_a_whole_older_copy_is_named(
    ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path, key: LogKey
) -> None:
    ledger.append(make_event())
    keep(tmp_path)
    ledger.append(make_event())
    seen = witness.cosign(ledger)
    old = older(tmp_path, key)
    assert old.verify().size == 1  # by itself it is whole: only the witness knows better
    with pytest.raises(LedgerRolledBack):
        old.verify(seen)
    with pytest.raises(LedgerRolledBack):
        witness.cosign(old)
    old.close()


@pytest.mark.parametrize("extra", [1, 2, 300])
def test_another_history_is_named(
    ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path, key: LogKey, extra: int
) -> None:
    for _ in range(3):
        ledger.append(make_event())
    keep(tmp_path)
    ledger.append(make_event())
    seen = witness.cosign(ledger)
    old = older(tmp_path, key)
    for _ in range(extra):
        old.append(make_event())
    assert old.verify().size == 3 + extra
    with pytest.raises(LedgerForked):
        old.verify(seen)
    with pytest.raises(LedgerForked):
        witness.cosign(old)
    old.close()


def test_a_log_begun_anew_is_named(ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path) -> None:
    ledger.append(make_event())
    witness.cosign(ledger)
    (tmp_path / "new").mkdir()
    new_key = create_log_key(tmp_path / "new" / "log.key", ledger.origin)
    new = Ledger.create(SqliteLog(tmp_path / "new" / "log.db"), new_key)
    with pytest.raises(LedgerForked):
        witness.cosign(new)
    new.close()


def test_the_witness_believes_its_own_signature_only(
    ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path
) -> None:
    ledger.append(make_event())
    witness.cosign(ledger)
    (file,) = (tmp_path / "stick").glob("*.checkpoint")
    file.write_bytes(ledger.checkpoint().text)  # signed by the log alone
    with pytest.raises(LedgerAltered):
        witness.last(ledger.vkey)
    file.write_bytes(b"")
    with pytest.raises(LedgerAltered):
        witness.cosign(ledger)


def test_a_log_checkpoint_with_a_bad_signature_is_not_cosigned(
    ledger: Ledger, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = ledger.checkpoint()
    monkeypatch.setattr(
        ledger, "checkpoint", lambda: type(head)(head.origin, 0, head.root, head.text[:-9] + b"AAAAAAA=\n")
    )
    with pytest.raises(LedgerAltered):
        witness.cosign(ledger)


def test_a_witness_that_cannot_remember_does_not_cosign(ledger: Ledger, witness: Witness, tmp_path: Path) -> None:
    seen = witness.cosign(ledger)
    (file,) = (tmp_path / "stick").glob("*.checkpoint")
    file.with_suffix(".tmp").mkdir()
    with pytest.raises(LedgerUnavailable):
        witness.cosign(ledger)
    assert witness.last(ledger.vkey) == seen
    file.unlink()
    file.mkdir()
    with pytest.raises(LedgerUnavailable):
        witness.last(ledger.vkey)


def test_a_log_whose_tiles_are_gone_is_not_cosigned(
    ledger: Ledger, make_event: Make, witness: Witness, tmp_path: Path
) -> None:
    ledger.append(make_event())
    witness.cosign(ledger)
    ledger.append(make_event())
    with closing(sqlite3.connect(tmp_path / "ledger" / "log.db")) as connection, connection:
        connection.execute("DELETE FROM tile")
    with pytest.raises(LedgerAltered):
        witness.cosign(ledger)


@pytest.mark.usefixtures("ledger", "witness")
def test_making_and_opening_a_witness(tmp_path: Path) -> None:
    with pytest.raises(AlreadyExists):
        Witness.create(tmp_path / "stick", "witness.example/w1", Clock())
    with pytest.raises(LedgerUnavailable):
        Witness(tmp_path / "none", Clock())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LedgerUnavailable):
        Witness.create(tmp_path / "file" / "w", "witness.example/w1", Clock())
    shutil.copy(tmp_path / "ledger" / "log.key", tmp_path / "stick" / "key")
    with pytest.raises(BadInput):
        Witness(tmp_path / "stick", Clock())
