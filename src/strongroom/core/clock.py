"""Time as an argument: whoever needs the time is given a clock, so that tests can step it."""

from __future__ import annotations

import datetime as dt
from typing import Protocol

from strongroom.core.errors import BadInput


class Clock(Protocol):
    """Something that tells the time."""

    def now(self) -> dt.datetime:
        """Return the current time, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> dt.datetime:
        """Return the current time, aware, in UTC."""
        return dt.datetime.now(dt.UTC)  # noqa: TID251 - the one clock that everybody else is given


def stamp(moment: dt.datetime) -> str:
    """Return `moment` as RFC 3339 in UTC with milliseconds, e.g. ``2026-11-23T07:17:39.125Z``."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_stamp(text: str) -> dt.datetime:
    """Read what `stamp` wrote.

    Raises:
        BadInput: the text is no RFC 3339 time with a zone.

    """
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise BadInput("not an RFC 3339 time", where=text[:40]) from None
    if moment.tzinfo is None:
        raise BadInput("a time without a zone", where=text[:40])
    return moment
