"""The counters behind the limits. Pure: the time is an argument, and what they grant is never more than the limit."""

from __future__ import annotations

import datetime as dt
from collections import deque
from typing import Final

_MINUTE: Final = 60.0
_GRAIN: Final = 0.125  # seconds: admissions within one are counted together, as if all at its end


class Window:
    """Requests a minute, exactly: in no 60 s, wherever they begin, are more than the limit let in.

    Memory is bounded by the grain, not by the limit: at most 481 counts. The price is that room comes back up to one
    grain late, never early.
    """

    __slots__ = ("_grains", "_total")

    def __init__(self) -> None:
        """Begin with an empty minute."""
        self._grains: deque[list[int]] = deque()  # [grain, admissions]
        self._total = 0

    def admit(self, limit: int, now: float) -> bool:
        """Count one more at the time `now` (seconds of a clock that never goes back), if `limit` has room for it."""
        grain = int(now / _GRAIN)
        self._expire(now)
        if self._total >= limit:
            return False
        if self._grains and self._grains[-1][0] == grain:
            self._grains[-1][1] += 1
        else:
            self._grains.append([grain, 1])
        self._total += 1
        return True

    def remaining(self, limit: int) -> int:
        """Return how many more would be let in, as of the last `admit`."""
        return max(0, limit - self._total)

    def wait(self, limit: int, now: float) -> float:
        """Return in how many seconds there is room again, if nobody else comes."""
        over = self._total - limit + 1
        for grain, count in self._grains:
            over -= count
            if over <= 0:
                return max(0.0, (grain + 1) * _GRAIN + _MINUTE - now)
        return _MINUTE if limit <= 0 else 0.0

    def idle(self, now: float) -> bool:
        """Whether nothing is counted any more."""
        self._expire(now)
        return not self._grains

    def _expire(self, now: float) -> None:
        grains = self._grains
        while grains and (grains[0][0] + 1) * _GRAIN + _MINUTE <= now:
            self._total -= grains.popleft()[1]


class Purse:
    """The tokens that control has leased to this gateway for one account and one UTC day.

    ``leased = used + held + free``: what a request may still use is held for it, so that however many run at once, they
    never use more than was leased. An engine that uses more than was held leaves a debt (free below zero), which the
    next requests pay.
    """

    __slots__ = ("account", "day", "held", "leased", "used")

    def __init__(self, account: str, day: str) -> None:
        """Begin with nothing."""
        self.account = account
        self.day = day
        self.leased = self.used = self.held = 0

    @property
    def free(self) -> int:
        """Tokens that are neither used nor held."""
        return self.leased - self.used - self.held

    def lease(self, tokens: int) -> None:
        """Take what control has granted."""
        self.leased += tokens

    def hold(self, tokens: int) -> bool:
        """Hold so many for a request, if they are free."""
        if tokens > self.free:
            return False
        self.held += tokens
        return True

    def trim(self, held: int, wanted: int) -> int:
        """Let go of what a request turns out not to need; return what it still holds."""
        self.held -= max(0, held - wanted)
        return min(held, wanted)

    def settle(self, held: int, used: int) -> None:
        """End a request that held so many and used so many."""
        self.held -= held
        self.used += used

    def surplus(self) -> int:
        """Take out everything that is free, to be given back."""
        free = max(0, self.free)
        self.leased -= free
        return free


def until_midnight(moment: dt.datetime) -> float:
    """Return the seconds until the next UTC day begins."""
    tomorrow = dt.datetime.combine(moment.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
    return (tomorrow - moment).total_seconds()
