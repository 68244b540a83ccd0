"""A log to be damaged, and events to put into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import load_log_key
from strongroom.ledger.log import Ledger


def event(**changes: Any) -> Event:
    fields: dict[str, Any] = {
        "at": "t",
        "who": "os:1",
        "action": "a",
        "object": "o",
        "host": "h",
        "why": "",
        "outcome": "done",
    }
    fields |= {"id": new_id("evt")} | changes
    return Event(**fields)


def open_log(home: Path) -> Ledger:
    return Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
