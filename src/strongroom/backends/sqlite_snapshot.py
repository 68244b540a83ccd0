"""A consistent copy of a SQLite file that others may be writing to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from strongroom.core.errors import StoreUnavailable


def snapshot(source: Path, target: Path) -> None:
    """Write the state that `source` has now to the new file `target` (SQLite's online backup).

    Raises:
        StoreUnavailable: it can't be read or written.

    """
    try:
        reading = sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)
        with closing(reading), closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreUnavailable(f"the database can't be copied ({name})", where=source.name) from None
