"""A settled home for journeys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.shell import Shell, model_folder


@pytest.fixture(autouse=True)
def no_ambient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRONGROOM_HOME", "STRONGROOM_AS", "STRONGROOM_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def shell(tmp_path: Path, quick_argon: None) -> Shell:
    return Shell(tmp_path).settle()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "model")


@pytest.fixture
def sealed(shell: Shell, model: Path) -> Shell:
    assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    return shell
