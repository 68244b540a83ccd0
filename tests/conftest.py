"""Fixtures that every room uses: a clock that can be stepped, and quick passphrases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from strongroom.access import lockbox
from tests.clock import StepClock


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def quick_argon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch little: the parameters travel with the box, so everything else stays real."""
    monkeypatch.setattr(lockbox, "_MEMORY_KIB", 64)
    monkeypatch.setattr(lockbox, "_PASSES", 1)
    monkeypatch.setattr(lockbox, "_LANES", 1)


@pytest.fixture(autouse=True)
def _log_anew() -> Iterator[None]:
    """Forget where diagnostics went: a test that captures its output takes the stream along."""
    yield
    structlog.reset_defaults()
