"""An intruder who can write the log's files: whatever is changed is named, with its place."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import LedgerAltered, LedgerForked, LedgerRolledBack, LedgerTruncated, StrongroomError
from strongroom.ledger import checkpoints, events
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.keys import create_log_key
from strongroom.ledger.log import Ledger
from strongroom.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash
from strongroom.ledger.tiles import Growth
from strongroom.ports.log_store import LogRow, LogWrite
from tests.faults.logs import event, open_log


def head(home: Path) -> SignedCheckpoint:
    log = open_log(home)
    found = log.checkpoint()
    log.close()
    return found


def spoil(home: Path, sql: str) -> None:
    with closing(sqlite3.connect(home / "log.db", isolation_level=None)) as connection:
        connection.executescript(sql)


SWAP = """
CREATE TEMP TABLE other AS SELECT * FROM entry WHERE at = 8;
DELETE FROM entry WHERE at = 8;
UPDATE entry SET at = 8 WHERE at = 7;
INSERT INTO entry SELECT 7, raw, id, action, object, claim FROM other;
"""
COPY = "INSERT INTO entry SELECT 300, raw, 'evt_copy', action, object, NULL FROM entry WHERE at = 7;"
TAMPERING = {
    "an edited entry": ("UPDATE entry SET raw = replace(raw, 'os:1', 'os:2') WHERE at = 7", LedgerAltered, "entry 7"),
    "an entry of another type": ("UPDATE entry SET raw = 'text' WHERE at = 7", LedgerAltered, "entry 7"),
    "the newest entry edited": ("UPDATE entry SET raw = x'00' WHERE at = 299", LedgerAltered, "entry 299"),
    "a deleted entry": ("DELETE FROM entry WHERE at = 7", LedgerAltered, "entry 7"),
    "the last entries deleted": ("DELETE FROM entry WHERE at > 289", LedgerTruncated, "entry 290"),
    "all entries deleted": ("DELETE FROM entry", LedgerTruncated, "entry 0"),
    "swapped entries": (SWAP, LedgerAltered, "entry 7"),
    "an entry without a signature": (COPY, LedgerAltered, "entry 300"),
    "an edited full tile": ("UPDATE tile SET hashes = zeroblob(8192) WHERE at = 0", LedgerAltered, "tile/0/000"),
    "an edited partial tile": (
        "UPDATE tile SET hashes = zeroblob(1408) WHERE at = 1",
        LedgerAltered,
        "tile/0/001.p/44",
    ),
    "a deleted tile": ("DELETE FROM tile WHERE at = 0", LedgerAltered, "tile/0/000"),
    "an edited upper tile": (
        "UPDATE tile SET hashes = zeroblob(32) WHERE at = 1 << 56",
        LedgerAltered,
        "tile/1/000.p/1",
    ),
    "an edited action": ("UPDATE entry SET action = 'b' WHERE at = 7", LedgerAltered, "entry 7"),
    "an edited object": ("UPDATE entry SET object = x'ff' WHERE at = 7", LedgerAltered, "entry 7"),
    "an edited id": ("UPDATE entry SET id = 'evt_other' WHERE at = 7", LedgerAltered, "entry 7"),
    "a removed claim": ("UPDATE entry SET claim = NULL WHERE at = 7", LedgerAltered, "entry 7"),
    "an edited size": ("UPDATE head SET note = replace(note, '300', '299')", LedgerAltered, "log checkpoint"),
    "a log checkpoint without meaning": ("UPDATE head SET note = 7", LedgerAltered, "log checkpoint"),
    "no log checkpoint": ("DELETE FROM head", LedgerTruncated, "log checkpoint"),
}


@pytest.mark.parametrize("case", TAMPERING)
def test_tampering_is_named_by_verify(home: Path, case: str) -> None:
    sql, expected, where = TAMPERING[case]
    log = open_log(home)
    spoil(home, sql)
    with pytest.raises(StrongroomError) as caught:
        log.verify()
    assert (type(caught.value), caught.value.where) == (expected, where)
    log.close()


EDGE = [case for case, (_, _, where) in TAMPERING.items() if where not in {"entry 7", "tile/0/000"}]


@pytest.mark.parametrize("case", EDGE)
def test_a_tampered_log_is_not_extended(home: Path, case: str) -> None:
    # append reads the right edge only: what lies deeper is for verify to find
    spoil(home, TAMPERING[case][0])
    with pytest.raises((LedgerAltered, LedgerTruncated)):
        open_log(home).append(event())


def test_single_reads_name_a_tampered_entry(home: Path) -> None:
    log = open_log(home)
    spoil(home, "UPDATE entry SET raw = replace(raw, 'os:1', 'os:2') WHERE at = 7")
    for read in (lambda: log.entry(7), lambda: log.latest("a", "o7"), lambda: list(log.find()), lambda: log.prove(7)):
        with pytest.raises(LedgerAltered) as caught:
            read()
        assert caught.value.where == "entry 7"
    spoil(home, "DELETE FROM entry WHERE at = 7")
    with pytest.raises(LedgerAltered):
        log.entry(7)
    spoil(home, "UPDATE entry SET object = 'o7' WHERE at = 9")
    with pytest.raises(LedgerAltered):
        log.latest("a", "o7")
    log.close()


def test_a_missing_tile_is_named_by_whoever_needs_it(home: Path) -> None:
    log = open_log(home)
    spoil(home, "DELETE FROM tile WHERE at IN (0, 1)")
    for use, tile in (
        (lambda: log.entry(7), "tile/0/000"),
        (lambda: log.append(event()), "tile/0/001.p/44"),
        (lambda: log.export(home / "out"), "tile/0/000"),
    ):
        with pytest.raises(LedgerAltered) as caught:
            use()
        assert caught.value.where == tile
    log.close()


def test_a_missing_entry_is_not_exported(home: Path) -> None:
    log = open_log(home)
    spoil(home, "DELETE FROM entry WHERE at = 7")
    with pytest.raises(LedgerAltered):
        log.export(home / "out")
    log.close()


def test_a_second_entry_with_a_used_claim_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # signed, as only the holder of the log's key can do it, past the check that append makes
    log = open_log(home)
    spoil(home, "DROP INDEX entry_claim; UPDATE entry SET claim = NULL WHERE at = 7")
    with monkeypatch.context() as patched:
        patched.setattr(log._state, "claimed", lambda claims, head: {})  # noqa: ARG005
        log.append(event(claim="c7"))
    spoil(home, "UPDATE entry SET claim = 'c7' WHERE at = 7")
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == "entry 300"
    log.close()


def test_verify_tells_how_far_it_is(home: Path) -> None:
    log = open_log(home)
    told: list[tuple[int, int]] = []
    log.verify(progress=lambda done, of: told.append((done, of)))
    assert told == [(256, 300), (300, 300)]
    log.close()


def test_a_signature_of_another_key_is_named(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    key = create_log_key(other / "log.key", "strongroom.local/t")
    log = Ledger.create(SqliteLog(other / "log.db"), key)
    note = log.checkpoint().text
    log.close()
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        connection.execute("UPDATE head SET note = ?", (note,))
    with pytest.raises(LedgerAltered) as caught:
        open_log(home)
    assert caught.value.where == "log checkpoint"


def test_an_older_signed_log_checkpoint_does_not_hide_entries(home: Path) -> None:
    old = head(home).text
    log = open_log(home)
    log.append(event())
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        connection.execute("UPDATE head SET note = ?", (old,))
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == "entry 300"
    with pytest.raises(LedgerRolledBack):  # this process remembers what it wrote
        log.append(event())
    log.close()


def test_a_running_process_notices_a_copy_put_back_under_it(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "old")
    log = open_log(home)
    log.append(event())
    fork = open_log(tmp_path / "old")
    for _ in range(2):
        fork.append(event())
    fork.close()
    with (
        closing(sqlite3.connect(tmp_path / "old" / "log.db")) as source,
        closing(sqlite3.connect(home / "log.db")) as to,
    ):
        source.backup(to)
    with pytest.raises(LedgerForked):
        log.append(event())
    log.close()


def test_a_forged_root_over_an_edited_entry_does_not_verify(home: Path) -> None:
    # rows and tiles rewritten together fit each other, but not what the log's key signed
    log = open_log(home)
    raw = log.entry(299).raw.replace(b"os:1", b"os:2")
    tile = log._store.tile(0, 1)
    assert tile is not None
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        connection.execute("UPDATE entry SET raw = ? WHERE at = 299", (raw,))
        connection.execute("UPDATE tile SET hashes = ? WHERE at = 1", (tile[:-32] + leaf_hash(raw),))
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == "log checkpoint"
    log.close()


def test_a_log_with_a_full_upper_tile(tmp_path: Path) -> None:
    # 65,536 leaves fill a tile of level 1; written in one transaction, for speed
    key = create_log_key(tmp_path / "log.key", "strongroom.local/t")
    log = Ledger.create(SqliteLog(tmp_path / "log.db"), key)
    drafts = [event(id=f"evt_{n}") for n in range(65_600)]
    raws = [events.encode(one) for one in drafts]
    growth = Growth(Frontier(), {})
    growth.extend(leaf_hash(raw) for raw in raws)
    rows = [
        LogRow(n, raw, one.id, one.action, one.object, None)
        for n, (one, raw) in enumerate(zip(drafts, raws, strict=True))
    ]
    grown = checkpoints.sign(len(rows), growth.frontier.root(), key.signer)
    with log._store.turn([], lambda raw: raw) as turn:
        turn.commit(LogWrite(rows=rows, tiles=growth.changed, head=grown.text, was=log.checkpoint().text))
    empty = SignedCheckpoint(log.origin, 0, EMPTY_ROOT, b"")
    assert log.verify(empty).size == 65_600
    assert log.append(event()).index == 65_600
    assert log.verify(grown).size == 65_601
    spoil(tmp_path, "UPDATE tile SET hashes = zeroblob(8192) WHERE at = 1 << 56")
    with pytest.raises(LedgerAltered) as caught:
        log.verify()
    assert caught.value.where == "tile/1/000"
    log.close()
