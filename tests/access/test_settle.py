"""Writes that mean the same whatever stands there go through, whoever writes in between."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from strongroom.access.settle import settle
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.core.errors import Busy
from strongroom.ports.records import Change


def test_somebody_came_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite3")
    records.apply([Change("k", "old", 0, b"1"), Change("k", "gone", 0, b"1")])
    real, todo = SqliteRecords.apply, [1]

    def late(self: SqliteRecords, changes: list[Change]) -> None:
        if todo:
            todo.clear()
            real(self, [Change("k", "old", 1, b"2"), Change("k", "gone", 1, None), Change("k", "new", 0, b"theirs")])
        real(self, changes)

    monkeypatch.setattr(SqliteRecords, "apply", late)
    settle(records, "k", put={"new": b"ours"}, drop=["old", "gone", "never"])
    assert [(one.key, one.document) for one in records.scan("k")] == [("new", b"ours")]
    records.close()


def test_many_at_once(tmp_path: Path) -> None:
    def write(number: int) -> None:
        records = SqliteRecords(tmp_path / "r.sqlite3")
        for turn in range(20):
            settle(records, "k", put={"shared": f"{number}.{turn}".encode()})
        records.close()

    SqliteRecords(tmp_path / "r.sqlite3").close()
    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    records = SqliteRecords(tmp_path / "r.sqlite3")
    stored = records.get("k", "shared")
    assert stored is not None
    assert stored.version == 40
    records.close()


def test_without_end_it_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = SqliteRecords(tmp_path / "r.sqlite3")

    def never(_self: SqliteRecords, _changes: list[Change]) -> None:
        raise Busy("somebody else wrote", where="k")

    monkeypatch.setattr(SqliteRecords, "apply", never)
    with pytest.raises(Busy):
        settle(records, "k", put={"a": b"1"})
    records.close()
