"""Fixtures that every room uses: a clock that can be stepped, and quick passphrases."""

from __future__ import annotations

import datetime as dt

import pytest

from strongroom.access import lockbox


class StepClock:
    """A clock that stands still until it is stepped."""

    def __init__(self) -> None:
        self.moment = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        return self.moment

    def step(self, **delta: float) -> None:
        self.moment += dt.timedelta(**delta)


@pytest.fixture
def clock() -> StepClock:
    return StepClock()


@pytest.fixture
def quick_argon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretch little: the parameters travel with the box, so everything else stays real."""
    monkeypatch.setattr(lockbox, "_MEMORY_KIB", 64)
    monkeypatch.setattr(lockbox, "_PASSES", 1)
    monkeypatch.setattr(lockbox, "_LANES", 1)
