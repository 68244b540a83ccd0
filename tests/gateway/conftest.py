"""One gateway for the tests that do not change it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.house import Control, Gateway, house


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Control]]:
    folder: Path = tmp_path_factory.mktemp("gate")
    with house(folder, bounds={"read_seconds": 1.0, "idle_seconds": 30.0}) as both:
        yield both


@pytest.fixture
def gateway(shared: tuple[Gateway, Control]) -> Gateway:
    return shared[0]
