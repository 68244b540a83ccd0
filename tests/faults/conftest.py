"""A log of 300 entries, made once, copied for every test that damages it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.ledger.keys import create_log_key
from strongroom.ledger.log import Ledger
from tests.faults.logs import event


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 entries: one full tile and a partial one."""
    directory = tmp_path_factory.mktemp("template")
    log = Ledger.create(SqliteLog(directory / "log.db"), create_log_key(directory / "log.key", "strongroom.local/t"))
    for turn in range(300):
        log.append(event(object=f"o{turn}", claim=f"c{turn}"))
    log.close()
    return directory


@pytest.fixture
def home(tmp_path: Path, template: Path) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(template, tmp_path / "home")
