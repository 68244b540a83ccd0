"""Where `access login` leaves an unlocked seed until it expires: in some process's memory, never on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from strongroom.core.secrets import Secret


@dataclass(frozen=True, slots=True)
class Session:
    """Who is logged in, the unlocked seed, and until when (POSIX seconds)."""

    name: str
    seed: Secret
    expires: float


class Sessions(Protocol):
    """At most one session per home and operating-system user."""

    def start(self, session: Session) -> None:
        """Hold `session` until it expires, in place of any other."""
        ...

    def current(self) -> Session | None:
        """Return the session, or None if there is none or it has expired."""
        ...

    def end(self) -> bool:
        """Forget the session; return whether there was one."""
        ...
