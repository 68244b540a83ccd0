"""Records in one SQLite file: WAL, synchronous FULL, every batch of changes one transaction."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from strongroom.core.errors import Busy, DiskFull, StorageError, StoreUnavailable
from strongroom.ports.records import Change, Stored

_SCHEMA = """
create table if not exists records (
  kind text not null, key text not null, version integer not null, document blob not null,
  primary key (kind, key)
) without rowid
"""


class SqliteRecords:
    """The `Records` port over one file."""

    def __init__(self, path: Path) -> None:
        """Open or create the file at `path`."""
        self._path = path
        self._lock = threading.Lock()
        with self._named():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.execute(_SCHEMA)
        path.chmod(0o600)

    def get(self, kind: str, key: str) -> Stored | None:
        """Return the document, or None."""
        sql = "select version, document from records where kind = ? and key = ?"
        with self._lock, self._named():
            row = self._db.execute(sql, (kind, key)).fetchone()
        return None if row is None else Stored(kind, key, row[0], row[1])

    def scan(self, kind: str, prefix: str = "") -> Sequence[Stored]:
        """Return the documents of `kind` whose key starts with `prefix`, by key."""
        sql = "select key, version, document from records where kind = ? and substr(key, 1, ?) = ? order by key"
        with self._lock, self._named():
            rows = self._db.execute(sql, (kind, len(prefix), prefix)).fetchall()
        return [Stored(kind, key, version, document) for key, version, document in rows]

    def apply(self, changes: Sequence[Change]) -> None:
        """Make all `changes`, or none; durable on return."""
        with self._lock, self._named(), self._transaction():
            for change in changes:
                self._make(change)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    def _make(self, change: Change) -> None:
        if change.document is None:
            sql = "delete from records where kind = ? and key = ? and version = ?"
            done = self._db.execute(sql, (change.kind, change.key, change.expect))
        elif change.expect == 0:
            sql = "insert or ignore into records values (?, ?, 1, ?)"
            done = self._db.execute(sql, (change.kind, change.key, change.document))
        else:
            sql = "update records set version = version + 1, document = ? where kind = ? and key = ? and version = ?"
            done = self._db.execute(sql, (change.document, change.kind, change.key, change.expect))
        if done.rowcount != 1:
            raise Busy("somebody else wrote this record in between", where=f"{change.kind} {change.key}")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("rollback")
            raise
        self._db.execute("commit")

    @contextmanager
    def _named(self) -> Generator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise _named(error, where=self._path.name) from None


def _named(error: sqlite3.Error, *, where: str) -> StorageError:
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_FULL":
        return DiskFull("no room is left for the records", where=where)
    return StoreUnavailable(f"the records can't be read or written ({name or type(error).__name__})", where=where)
