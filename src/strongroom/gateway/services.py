"""What connections, the front and requests in work need of each other: typed here, so that none imports the other."""

from __future__ import annotations

import asyncio
from typing import Protocol

from strongroom.gateway.budgets import Budgets
from strongroom.gateway.crowd import Guest
from strongroom.gateway.discloses import Discloses
from strongroom.gateway.recalls import Recalls
from strongroom.gateway.request import Request
from strongroom.gateway.spool import Spool
from strongroom.ports.completions import Completions
from strongroom.ports.processes import Bounds
from strongroom.serving.admit import Caller
from strongroom.serving.quotas import Budget, Prices
from strongroom.serving.wire_errors import Refusal


class Work(Protocol):
    """Something that is done for a client."""

    def gone(self) -> None:
        """The client has left."""
        ...


class Reply(Protocol):
    """Where an answer goes: a connection."""

    def answer(self, status: int, body: bytes, *, fields: bytes = b"") -> None:
        """Send a whole answer."""
        ...

    def open_stream(self, data: bytes) -> None:
        """Begin to send events."""
        ...

    def stream(self, data: bytes) -> None:
        """Send more."""
        ...

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        """Send the last."""
        ...

    def refuse(self, refusal: Refusal, *, fields: bytes = b"") -> None:
        """Send a refusal instead of an answer."""
        ...


class Client(Reply, Guest, Protocol):
    """A connection, as the front sees it."""

    def attach(self, work: Work) -> None:
        """Remember who is to be told when the client leaves."""
        ...

    def tick(self, now: float) -> None:
        """See to the deadlines."""
        ...

    def idle(self) -> bool:
        """Whether nothing is going on there."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Stoppable(Work, Protocol):
    """Work that may be ended before its time."""

    caller: Caller

    def stop(self, refusal: Refusal) -> None:
        """End it now, and say why."""
        ...


class Services(Protocol):
    """The front, as an exchange sees it.

    `exact`: the engine itself ends at `Ask.budget`, for it counts the prompt; `second`: the time, in whole seconds;
    `prices`: what tokens cost now.
    """

    loop: asyncio.AbstractEventLoop
    bounds: Bounds
    engine: Completions
    budgets: Budgets
    spool: Spool
    discloses: Discloses
    recalls: Recalls
    exact: bool
    second: int
    prices: Prices

    def stamp(self) -> str:
        """Return the time as the books have it."""
        ...

    def refusal(self, code: str) -> Refusal:
        """Return the refusal of a code, with the time to come back."""
        ...

    def short(self, budget: Budget | None) -> Refusal:
        """Return the refusal where a budget has too little; None: control can't be asked."""
        ...

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Note a refusal in the books."""
        ...

    def over(self, work: Stoppable) -> None:
        """An exchange has ended."""
        ...
