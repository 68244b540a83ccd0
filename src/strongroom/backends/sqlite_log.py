"""A log in one SQLite file: WAL, synchronous FULL, so that COMMIT returns after the fsync of the write-ahead log.

Two connections: the writer's, used by the holder of the turn only, and one for readers, who never wait for a commit.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.backends.file_turn import FileTurn
from strongroom.core.errors import HomeVersion, LedgerAltered, LedgerUnavailable, StorageError, TamperError
from strongroom.ports.log_store import LogQuery, LogRow, LogWrite

_VERSION = 1
_SCHEMA = f"""
CREATE TABLE entry (
  at INTEGER PRIMARY KEY, raw BLOB NOT NULL,
  id TEXT NOT NULL, action TEXT NOT NULL, object TEXT NOT NULL, claim TEXT);
CREATE UNIQUE INDEX entry_id ON entry (id);
CREATE UNIQUE INDEX entry_claim ON entry (claim) WHERE claim IS NOT NULL;
CREATE INDEX entry_object ON entry (object, action);
CREATE TABLE tile (at INTEGER PRIMARY KEY, hashes BLOB NOT NULL);
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), note BLOB NOT NULL);
PRAGMA user_version = {_VERSION};
"""
# Casts, because SQLite lets an intruder put any type into any column.
_COLUMNS = "at, CAST(raw AS BLOB), CAST(id AS TEXT), CAST(action AS TEXT), CAST(object AS TEXT), CAST(claim AS TEXT)"
_LEVEL_SHIFT = 56  # a tile's key: level above, index below
_CHECKPOINT_PAGES = 8192  # 32 MiB of write-ahead log before SQLite folds it into the file
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def _touch(path: Path) -> None:
    """Make the file with mode 0600 before SQLite does: its write-ahead log takes over the mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise LedgerUnavailable(f"the database can't be opened: {error.strerror}", where=str(path)) from None


def _text(data: bytes) -> str:
    """Read a text column whatever an intruder has put there: what is not UTF-8 will not match its entry."""
    return data.decode("utf-8", "replace")


@contextmanager
def _typed(where: str) -> Generator[None]:
    """Turn SQLite's errors into ours: what is not SQLite any more was altered, the rest is unavailable."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise LedgerAltered("a row stands where a new one belongs", where=where) from None
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _CORRUPT:
            raise LedgerAltered("the database is malformed", where=where) from None
        raise LedgerUnavailable(f"SQLite says: {error}", where=where) from None


def _conditions(query: LogQuery) -> Iterator[tuple[str, str | int]]:
    """Yield the conditions of a query, each with its argument."""
    yield "at >= ?", query.start
    if query.stop is not None:
        yield "at < ?", query.stop
    if query.ids is not None:
        yield "id IN (SELECT value FROM json_each(?))", json.dumps(query.ids)
    if query.action is not None:
        yield "action = ?", query.action
    if query.object is not None:
        yield "object = ?", query.object


def _rows(connection: sqlite3.Connection, query: LogQuery) -> list[LogRow]:
    """Run a query."""
    conditions = list(_conditions(query))
    where = " AND ".join(text for text, _ in conditions)
    order = "DESC" if query.newest else "ASC"
    sql = f"SELECT {_COLUMNS} FROM entry WHERE {where} ORDER BY at {order} LIMIT ?"  # noqa: S608 - fixed texts
    return [LogRow(*row) for row in connection.execute(sql, (*(value for _, value in conditions), query.limit))]


def _head(connection: sqlite3.Connection) -> bytes | None:
    """Return the newest log checkpoint."""
    row = connection.execute("SELECT CAST(note AS BLOB) FROM head").fetchone()
    return None if row is None else bytes(row[0])


class _SqliteTurn:
    """The turn to write: the lock is held, the writer's connection is ours."""

    def __init__(self, connection: sqlite3.Connection, offered: Sequence[bytes], where: str) -> None:
        """Work on `connection`."""
        self._connection = connection
        self._where = where
        self.offered = offered

    def head(self) -> bytes | None:
        """Return the newest log checkpoint."""
        with _typed(self._where):
            return _head(self._connection)

    def rows(self, query: LogQuery) -> list[LogRow]:
        """Return the rows that fit `query`."""
        with _typed(self._where):
            return _rows(self._connection, query)

    def commit(self, write: LogWrite) -> None:
        """Write all or nothing, durably."""
        with _typed(self._where):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._write(write)
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def _write(self, write: LogWrite) -> None:
        """Write inside the transaction."""
        if _head(self._connection) != write.was:
            raise LedgerUnavailable("somebody wrote without the turn", where=self._where)
        self._connection.executemany(
            "INSERT INTO entry (at, raw, id, action, object, claim) VALUES (?, ?, ?, ?, ?, ?)",
            [(row.index, row.raw, row.id, row.action, row.object, row.claim) for row in write.rows],
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO tile (at, hashes) VALUES (?, ?)",
            [(level << _LEVEL_SHIFT | n, hashes) for (level, n), hashes in write.tiles.items()],
        )
        self._connection.execute("INSERT OR REPLACE INTO head (one, note) VALUES (1, ?)", (write.head,))


class SqliteLog:
    """The store of one log: a SQLite file; its locks and its spool lie in the same directory."""

    def __init__(self, path: Path) -> None:
        """Open the database at `path`, making it (and only it: the directory must exist) if it is missing.

        Raises:
            LedgerUnavailable: it can't be opened.
            LedgerAltered: it is no SQLite database.
            HomeVersion: it is of another format version.

        """
        self._where = str(path)
        self._process = os.getpid()
        self._reading = threading.Lock()
        self._turn = FileTurn(path.parent)
        try:
            with self._turn.held([]), _typed(self._where):
                _touch(path)
                self._writer = self._open(path)
                self._prepare(path)
            with _typed(self._where):
                self._reader = self._open(path)
        except (StorageError, TamperError, HomeVersion):
            self._turn.close()
            raise
        self._turn.sweep()

    @staticmethod
    def _open(path: Path) -> sqlite3.Connection:
        """Open one connection."""
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        connection.text_factory = _text
        for pragma in ("journal_mode = WAL", "synchronous = FULL", f"wal_autocheckpoint = {_CHECKPOINT_PAGES}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def _prepare(self, path: Path) -> None:
        """Make the tables of an empty database; refuse those of another version."""
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version == _VERSION:
            return
        if version or self._writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise HomeVersion(f"the log's database is of version {version}", where=self._where)
        self._writer.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)  # SQLite syncs the file, not its name
        finally:
            os.close(directory)

    @contextmanager
    def _read(self) -> Generator[sqlite3.Connection]:
        """Lend the reader's connection."""
        self._check_process()
        with self._reading, _typed(self._where):
            yield self._reader

    def _check_process(self) -> None:
        """Refuse to work in a child of the process that opened the file: SQLite's locks do not survive a fork."""
        if os.getpid() != self._process:
            raise LedgerUnavailable("the log was opened before a fork: open it anew", where=self._where)

    def head(self) -> bytes | None:
        """Return the newest log checkpoint, or None in an empty store."""
        with self._read() as connection:
            return _head(connection)

    def rows(self, query: LogQuery) -> list[LogRow]:
        """Return the rows that fit `query`."""
        with self._read() as connection:
            return _rows(connection, query)

    def tile(self, level: int, n: int) -> bytes | None:
        """Return the hashes of a tile as wide as it has grown, or None."""
        with self._read() as connection:
            sql = "SELECT CAST(hashes AS BLOB) FROM tile WHERE at = ?"
            row = connection.execute(sql, (level << _LEVEL_SHIFT | n,)).fetchone()
        return None if row is None else bytes(row[0])

    @contextmanager
    def turn(self, offer: Sequence[bytes], check: Callable[[bytes], object]) -> Generator[_SqliteTurn]:
        """Wait for the turn to write, offering `offer` meanwhile."""
        self._check_process()
        with self._turn.held(offer):
            offers = self._turn.offers(check)
            yield _SqliteTurn(self._writer, offers.entries, self._where)
            self._turn.done(offers)  # only if nothing was raised: else they wait for the next turn

    def close(self) -> None:
        """Close the database and the lock files."""
        if os.getpid() != self._process:
            return
        for connection in (self._reader, self._writer):
            with suppress(sqlite3.Error):
                connection.close()
        self._turn.close()
