"""A log in a temporary directory, and events to put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import LogKey, create_log_key
from strongroom.ledger.log import Ledger

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture
def make_event() -> Callable[..., Event]:
    def make(**changes: Any) -> Event:
        fields: dict[str, Any] = {
            "id": new_id("evt"),
            "at": "2026-11-23T07:17:39.125Z",
            "who": "person:alice",
            "action": "custody.open",
            "object": "checkpoint:m:1",
            "host": "host-1",
            "why": "evaluation",
            "outcome": "granted",
        }
        fields |= changes
        return Event(**fields)

    return make


@pytest.fixture
def key(tmp_path: Path) -> LogKey:
    (tmp_path / "ledger").mkdir()
    return create_log_key(tmp_path / "ledger" / "log.key", "strongroom.local/test")


@pytest.fixture
def ledger(tmp_path: Path, key: LogKey) -> Iterator[Ledger]:
    log = Ledger.create(SqliteLog(tmp_path / "ledger" / "log.db"), key)
    yield log
    log.close()
