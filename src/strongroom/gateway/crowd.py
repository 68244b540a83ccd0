"""The connections that are open, and who goes when there are too many.

A connection on which no valid key was shown costs its owner nothing, so such strangers give place first: the oldest of
the address that has most of them, for a crowd from one address is to crowd out itself. Then those without a request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

_LEAVING: Final = 64  # turned away, and given a moment to read why


class Guest(Protocol):
    """A connection, as the crowd sees it."""

    peer: str

    def at_work(self) -> bool:
        """Whether a request of somebody with a valid key is read or answered there."""
        ...

    def give_place(self) -> None:
        """End it, saying why if a request was on its way."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...


_G = TypeVar("_G", bound=Guest)


class Crowd(Generic[_G]):
    """Every connection is in here from its beginning to its end."""

    def __init__(self, most: int) -> None:
        """Hold `most` at once."""
        self._most = most
        self._guests: dict[_G, None] = {}  # dictionaries, for they keep the order of arrival
        self._strangers: defaultdict[str, dict[_G, None]] = defaultdict(dict)
        self._leaving: dict[_G, None] = {}

    def __iter__(self) -> Iterator[_G]:
        """Return all, those that are on their way out, too: their deadlines count as well."""
        return iter([*self._guests, *self._leaving])

    def enter(self, guest: _G) -> bool:
        """Take a connection in; False: all others are at work, and it is to be told so."""
        if len(self._guests) >= self._most:
            other = self._dispensable()
            if other is None:
                self._lead_out(guest)
                return False
            self.leave(other)
            self._lead_out(other)
            other.give_place()
        self._guests[guest] = None
        self._strangers[guest.peer][guest] = None
        return True

    def known(self, guest: _G) -> None:
        """It has shown a valid key."""
        strangers = self._strangers.get(guest.peer)
        if strangers is not None:
            strangers.pop(guest, None)
            if not strangers:
                del self._strangers[guest.peer]

    def leave(self, guest: _G) -> None:
        """It is gone."""
        self.known(guest)
        self._guests.pop(guest, None)
        self._leaving.pop(guest, None)

    def _dispensable(self) -> _G | None:
        if self._strangers:
            return next(iter(max(self._strangers.values(), key=len)))
        return next((one for one in self._guests if not one.at_work()), None)

    def _lead_out(self, guest: _G) -> None:
        # outside the count, so there must be an end to them, too: otherwise they are what uses up the descriptors
        self._leaving[guest] = None
        if len(self._leaving) > _LEAVING:
            oldest = next(iter(self._leaving))
            self.leave(oldest)
            oldest.abort()
