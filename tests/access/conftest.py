"""A home's desk over real stores: SQLite records, a real signed log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.access.approvals import Terms
from strongroom.access.desk import Desk
from strongroom.access.directory import Entrant
from strongroom.access.recovery import new_recovery_key, recovery_keyring
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Journal
from strongroom.ledger.keys import create_log_key
from strongroom.ledger.log import Ledger
from tests.access.office import Office
from tests.clock import StepClock


@pytest.fixture
def office(tmp_path: Path, clock: StepClock, quick_argon: None) -> Iterator[Office]:
    with made_office(tmp_path, clock) as made:
        yield made


@contextmanager
def made_office(tmp_path: Path, clock: StepClock) -> Generator[Office]:
    key = create_log_key(tmp_path / "key", "strongroom.local/test")
    ledger = Ledger.create(SqliteLog(tmp_path / "log.sqlite3"), key)
    records = SqliteRecords(tmp_path / "records.sqlite3")
    journal = Journal(ledger, clock, "testhost")
    terms = Terms(lifetime=dt.timedelta(hours=24), sole_owner_delay=dt.timedelta(hours=24))
    desk = Desk(records, journal, home="home_test", terms=terms)
    recovery = new_recovery_key()
    owner = desk.found(Entrant("owner", "owner", Secret(b"owner")), recovery_keyring(recovery).public)
    yield Office(desk, owner, records, journal, recovery)
    ledger.close()
    records.close()
