"""The counters behind the limits. Pure: the time is an argument, and what they grant is never more than the limit."""

from __future__ import annotations

import datetime as dt
from collections import deque
from typing import Final

_MINUTE: Final = 60.0
_SOON: Final = 1.0  # seconds: other gateways hold all of a limit, and may give some of it back
_GRAIN: Final = 0.125  # seconds: admissions within one are counted together, as if all at its end


class Window:
    """Requests a minute, exactly: in no 60 s, wherever they begin, are more than the limit let in.

    Memory is bounded by the grain, not by the limit: at most 481 counts. The price is that room comes back up to one
    grain late, never early.
    """

    __slots__ = ("_grains", "total")

    def __init__(self) -> None:
        """Begin with an empty minute."""
        self._grains: deque[list[int]] = deque()  # [grain, admissions]
        self.total = 0  # admissions that counted when it was last looked at

    def admit(self, limit: int, now: float) -> bool:
        """Count one more at the time `now` (seconds of a clock that never goes back), if `limit` has room for it."""
        grain = int(now / _GRAIN)
        self._expire(now)
        if self.total >= limit:
            return False
        if self._grains and self._grains[-1][0] == grain:
            self._grains[-1][1] += 1
        else:
            self._grains.append([grain, 1])
        self.total += 1
        return True

    def count(self, now: float) -> int:
        """Return how many count at the time `now`."""
        self._expire(now)
        return self.total

    def remaining(self, limit: int) -> int:
        """Return how many more would be let in, as of the last `admit`."""
        return max(0, limit - self.total)

    def wait(self, limit: int, now: float) -> float:
        """Return in how many seconds there is room again, if nobody else comes."""
        over = self.total - limit + 1
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
            self.total -= grains.popleft()[1]


class Purse:
    """What control has leased to this gateway of one budget: tokens, money or texts of a day, or places for requests.

    ``leased = used + held + free``: what a request may still use is held for it, so that however many run at once, they
    never use more than was leased. An engine that uses more than was held leaves a debt (free below zero), which the
    next requests pay.
    """

    __slots__ = ("held", "leased", "used")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.leased = self.used = self.held = 0

    def free(self, now: float = 0.0) -> int:
        """Return what is neither used nor held."""
        del now
        return self.leased - self.used - self.held

    def lease(self, amount: int) -> None:
        """Take what control has granted."""
        self.leased += amount

    def hold(self, amount: int, now: float = 0.0) -> None:
        """Hold so much for a request: no more than is free."""
        del now
        self.held += amount

    def settle(self, held: int, used: int) -> None:
        """End a request that held so much and used so much, or let go of a part of what it holds."""
        self.held -= held
        self.used += used

    def surplus(self, now: float = 0.0) -> int:
        """Take out everything that is free, to be given back."""
        free = max(0, self.free(now))
        self.leased -= free
        return free

    def busy(self, now: float) -> bool:
        """Whether a request holds something."""
        del now
        return self.held > 0


class Minute:
    """What control has leased to this gateway of one limit of requests a minute: a part of the limit.

    All gateways' parts together are never over the limit, and each lets in no more than its part in any 60 s: so all
    together let in no more than the limit, with nobody's clock compared with another's. A part is free to go back only
    as far as nobody was let in on it for 60 s.
    """

    __slots__ = ("leased", "window")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.leased = 0
        self.window = Window()

    def free(self, now: float) -> int:
        """Return how many more may be let in now."""
        return self.leased - self.window.count(now)

    def lease(self, amount: int) -> None:
        """Take what control has granted."""
        self.leased += amount

    def hold(self, amount: int, now: float) -> None:
        """Let a request in."""
        del amount
        self.window.admit(self.leased, now)

    def settle(self, held: int, used: int) -> None:
        """Do nothing: that somebody was let in stays so for a minute."""

    def surplus(self, now: float) -> int:
        """Take out everything that is free, to be given back."""
        free = max(0, self.free(now))
        self.leased -= free
        return free

    def busy(self, now: float) -> bool:
        """Whether anybody was let in within the last minute."""
        return self.window.count(now) > 0

    def wait(self, now: float) -> float:
        """Return in how many seconds to come back."""
        return self.window.wait(self.leased, now) if self.leased else _SOON


def until_midnight(moment: dt.datetime) -> float:
    """Return the seconds until the next UTC day begins."""
    tomorrow = dt.datetime.combine(moment.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
    return (tomorrow - moment).total_seconds()
