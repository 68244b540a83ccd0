"""A clock for tests."""

from __future__ import annotations

import datetime as dt


class StepClock:
    """A clock that stands still until it is stepped."""

    def __init__(self) -> None:
        self.moment = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)

    def now(self) -> dt.datetime:
        return self.moment

    def step(self, **delta: float) -> None:
        self.moment += dt.timedelta(**delta)
