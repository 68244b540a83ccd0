"""The log as static files in the layout of C2SP tlog-tiles, for any web server and any client of the spec."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.core.errors import AlreadyExists, LedgerAltered, LedgerUnavailable
from strongroom.ledger.keys import sync_directory
from strongroom.ledger.merkle import HASH_BYTES
from strongroom.ledger.reader import Reader
from strongroom.ledger.tiles import WIDTH, pack, path, widths
from strongroom.ports.log_store import LogQuery, LogStore


def write_tree(store: LogStore, reader: Reader, directory: Path, *, vkey: str) -> int:
    """Write ``vkey``, ``tile/...``, ``tile/entries/...`` and, last of all, ``checkpoint``; return the tree's size.

    Raises:
        AlreadyExists: the directory holds something else than an earlier export of the same log.
        LedgerUnavailable: a file can't be written.
        LedgerAltered: an entry or a tile is not what was signed; no ``checkpoint`` is written then.

    """
    line = f"{vkey}\n".encode()
    _make_sure(directory, line)
    head = reader.head()
    _write(directory / "vkey", line)
    for level, n, width in widths(head.size):
        hashes = (store.tile(level, n) or b"")[: width * HASH_BYTES]
        if len(hashes) != width * HASH_BYTES:
            raise LedgerAltered("a tile of the ledger is missing or too short", where=path(level, n, width))
        _write(directory / path(level, n, width), hashes)
        if level == 0:
            rows = store.rows(LogQuery(start=n * WIDTH, stop=n * WIDTH + width, limit=width))
            entries = [entry.raw for entry in reader.check_rows(rows)]
            if len(entries) != width:
                raise LedgerAltered("an entry is missing", where=path("entries", n, width))
            _write(directory / path("entries", n, width), pack(entries))
    _write(directory / "checkpoint", head.text)
    return head.size


def _make_sure(directory: Path, line: bytes) -> None:
    """Return if `directory` is absent, empty, or the place of an earlier export whose ``vkey`` is `line`."""
    try:
        names = {place.name for place in directory.iterdir()}
        same = "vkey" in names and (directory / "vkey").read_bytes() == line
    except FileNotFoundError:
        return
    except OSError as error:
        raise LedgerUnavailable(f"the export can't be written: {error.strerror}", where=str(directory)) from None
    if names and not same:
        raise AlreadyExists(
            "the folder holds something else than an earlier export of this log",
            where=str(directory),
            remedy="Name a new or empty folder.",
        )


def _write(file: Path, data: bytes) -> None:
    """Put a whole file in place, durably: readers see the former one or this one."""
    temporary = file.with_name(f"{file.name}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        sync_directory(file.parent)
    except OSError as error:
        raise LedgerUnavailable(f"the export can't be written: {error.strerror}", where=str(file)) from None
