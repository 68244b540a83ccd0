"""The contract of the records port, for every back end."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.backends.sqlite_snapshot import snapshot
from strongroom.core.errors import Busy, DiskFull, StoreUnavailable
from strongroom.ports.records import Change, Records

BACK_ENDS = {"sqlite": SqliteRecords}


@pytest.fixture(params=BACK_ENDS)
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    opened = BACK_ENDS[request.param](tmp_path / "records.sqlite3")
    yield opened
    opened.close()


def put(records: Records, key: str, document: bytes, expect: int = 0) -> None:
    records.apply([Change("k", key, expect, document)])


def test_what_is_put_is_got(records: Records) -> None:
    assert records.get("k", "a") is None
    put(records, "a", b"1")
    stored = records.get("k", "a")
    assert stored is not None
    assert (stored.version, stored.document) == (1, b"1")
    assert records.get("other", "a") is None


def test_a_write_names_the_version_that_it_replaces(records: Records) -> None:
    put(records, "a", b"1")
    put(records, "a", b"2", expect=1)
    for stale in (0, 1, 3):
        with pytest.raises(Busy):
            put(records, "a", b"3", expect=stale)
    with pytest.raises(Busy):
        records.apply([Change("k", "a", 1, None)])
    records.apply([Change("k", "a", 2, None)])
    assert records.get("k", "a") is None


def test_all_changes_or_none(records: Records) -> None:
    put(records, "a", b"1")
    with pytest.raises(Busy):
        records.apply([Change("k", "b", 0, b"1"), Change("k", "a", 7, b"2")])
    assert records.get("k", "b") is None


def test_a_scan_is_by_prefix_and_in_order(records: Records) -> None:
    for key in ("b/1", "a/2", "a/1", "a%", "A/1"):
        put(records, key, key.encode())
    assert [one.key for one in records.scan("k", "a/")] == ["a/1", "a/2"]
    assert len(records.scan("k")) == 5
    assert records.scan("none") == []


def test_of_many_writers_one_wins_each_version(records: Records) -> None:
    put(records, "n", b"0")
    won: list[int] = []

    def add() -> None:
        for _ in range(50):
            stored = records.get("k", "n")
            assert stored is not None
            try:
                put(records, "n", str(int(stored.document) + 1).encode(), stored.version)
                won.append(1)
            except Busy:
                continue

    threads = [threading.Thread(target=add) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    stored = records.get("k", "n")
    assert stored is not None
    assert int(stored.document) == len(won)


def test_a_full_disk_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite3")
    put(records, "a", b"1")
    records._db.execute("pragma max_page_count = 8")
    with pytest.raises(DiskFull):
        put(records, "big", b"x" * 1_000_000)
    assert records.get("k", "big") is None
    assert records.get("k", "a") is not None
    records._db.execute("pragma max_page_count = 1000000")
    put(records, "big", b"x" * 1_000_000)
    records.close()


@pytest.mark.parametrize("junk", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_database(tmp_path: Path, junk: bytes) -> None:
    place = tmp_path / "r.sqlite3"
    place.write_bytes(junk)
    if junk:
        with pytest.raises(StoreUnavailable):
            SqliteRecords(place)
    else:
        SqliteRecords(place).close()


def test_writes_are_durable_on_return(tmp_path: Path) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite3")
    assert records._db.execute("pragma synchronous").fetchone() == (2,)
    assert records._db.execute("pragma journal_mode").fetchone() == ("wal",)
    assert (tmp_path / "r.sqlite3").stat().st_mode & 0o077 == 0
    records.close()


def test_a_snapshot_is_whole_while_somebody_writes(tmp_path: Path) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite3")
    for number in range(100):
        put(records, str(number), b"x" * 1000)
    snapshot(tmp_path / "r.sqlite3", tmp_path / "copy.sqlite3")
    records.close()
    copy = SqliteRecords(tmp_path / "copy.sqlite3")
    assert len(copy.scan("k")) == 100
    copy.close()
    with pytest.raises(StoreUnavailable):
        snapshot(tmp_path / "none.sqlite3", tmp_path / "x.sqlite3")
    with sqlite3.connect(tmp_path / "r.sqlite3") as db:
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    db.close()
