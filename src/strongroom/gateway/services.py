"""What a request in work needs of the front: typed here, so that neither imports the other."""

from __future__ import annotations

import asyncio
from typing import Protocol

from strongroom.gateway.budgets import Budgets
from strongroom.gateway.discloses import Discloses
from strongroom.gateway.request import Request
from strongroom.gateway.spool import Spool
from strongroom.ports.completions import Completions
from strongroom.ports.processes import Bounds
from strongroom.serving.admit import Caller
from strongroom.serving.wire_errors import Refusal


class Work(Protocol):
    """Something that is done for a client."""

    def gone(self) -> None:
        """The client has left."""
        ...


class Stoppable(Work, Protocol):
    """Work that may be ended before its time."""

    caller: Caller

    def stop(self, refusal: Refusal) -> None:
        """End it now, and say why."""
        ...


class Services(Protocol):
    """The front, as an exchange sees it.

    `exact`: the engine itself ends at `Ask.budget`, for it counts the prompt; `second`: the time, in whole seconds.
    """

    loop: asyncio.AbstractEventLoop
    bounds: Bounds
    engine: Completions
    budgets: Budgets
    spool: Spool
    discloses: Discloses
    exact: bool
    second: int

    def stamp(self) -> str:
        """Return the time as the books have it."""
        ...

    def refusal(self, code: str) -> Refusal:
        """Return the refusal of a code, with the time to come back."""
        ...

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Note a refusal in the books."""
        ...

    def over(self, work: Stoppable) -> None:
        """An exchange has ended."""
        ...
