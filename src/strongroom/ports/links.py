"""Links between the processes of one `strongroom up`: whole messages, in order, between two ends that know a secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from strongroom.core.secrets import Secret


class Link(Protocol):
    """One open link."""

    def send(self, message: msgspec.Struct) -> None:
        """Send a message; one that is sent on a lost link is dropped, for `on_lost` has said so."""
        ...

    def close(self) -> None:
        """End the link."""
        ...


class Receiver(Protocol):
    """What listens at one end. Called on the event loop."""

    def on_open(self, link: Link) -> None:
        """Both ends have proved that they know the secret."""
        ...

    def on_message(self, message: Any) -> None:  # noqa: ANN401 - one of the types that the end was opened for
        """Take the next message."""
        ...

    def on_lost(self) -> None:
        """The other end is gone. Nothing follows."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """How an end of a link is opened: where, with which secret, for which incoming types."""

    path: Path
    secret: Secret
    role: str  # who the connecting end says it is: "gateway", "engine", "worker", "cli"
    incoming: object  # a typing union of tagged structs, as msgspec wants it


class Listening(Protocol):
    """An end that takes links."""

    def close(self) -> None:
        """Take no more, and end those that are open."""
        ...


Accept = Callable[[str], tuple[object, Receiver] | None]
"""Given the role of who knocks: the incoming types and the receiver for that link, or None to refuse."""

Listen = Callable[[Path, Secret, Accept], Awaitable[Listening]]
Connect = Callable[[End, Receiver], Awaitable[Link]]
Keep = Callable[[End, Receiver], Coroutine[None, None, None]]
"""Connect, and again whenever the link is lost, until cancelled."""
