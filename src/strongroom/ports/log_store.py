"""Where a log keeps its entries, tiles and newest log checkpoint, and how its writers take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogRow:
    """An entry as stored: its index and bytes, and the copies of its fields that the store indexes."""

    index: int
    raw: bytes
    id: str
    action: str
    object: str
    claim: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which rows: every condition that is not None must hold; at most `limit`, oldest first unless `newest`."""

    start: int = 0
    stop: int | None = None
    ids: tuple[str, ...] | None = None
    action: str | None = None
    object: str | None = None
    newest: bool = False
    limit: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LogWrite:
    """One transaction: new rows, new or grown tiles by (level, index), and the log checkpoint that replaces `was`."""

    rows: Sequence[LogRow]
    tiles: Mapping[tuple[int, int], bytes]
    head: bytes
    was: bytes | None


class Turn(Protocol):
    """The exclusive right to write, across all threads and processes, until the context ends."""

    @property
    def offered(self) -> Sequence[bytes]:
        """Entries that other processes, waiting for their turn, ask to have written in this one."""
        ...

    def head(self) -> bytes | None:
        """Return the newest log checkpoint, or None in an empty store."""
        ...

    def rows(self, query: LogQuery) -> Sequence[LogRow]:
        """Return rows, as `LogStore.rows` does."""
        ...

    def commit(self, write: LogWrite) -> None:
        """Write all of it or nothing; return when it is durable.

        A commit that writes no rows makes durable what was visible before.

        Raises:
            LedgerUnavailable: the store can't be written, or its log checkpoint is no longer `write.was`.
            LedgerAltered: rows stand where the new ones belong.

        """
        ...


class LogStore(Protocol):
    """The durable store of one log."""

    def head(self) -> bytes | None:
        """Return the newest log checkpoint, or None in an empty store."""
        ...

    def rows(self, query: LogQuery) -> Sequence[LogRow]:
        """Return the rows that fit `query`."""
        ...

    def tile(self, level: int, n: int) -> bytes | None:
        """Return the hashes of tile `n` at `level` as wide as it has grown, or None."""
        ...

    def turn(self, offer: Sequence[bytes], check: Callable[[bytes], object]) -> AbstractContextManager[Turn]:
        """Wait for the turn to write. While waiting, offer the entries `offer` to whoever has it.

        Others' offers are handed out only if `check` raises no StrongroomError for any of their entries.

        Raises:
            LedgerUnavailable: no turn can be had.

        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
