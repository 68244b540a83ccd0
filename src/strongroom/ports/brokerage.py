"""What an engine's process asks of control: the weights that it may run, and the marks of the accounts it writes for.

Both are released only after their ledger entry is durable (rule 1); an engine holds no home and no person's key.
"""

from __future__ import annotations

import msgspec


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message between control and engine."""


class WeightsWanted(_Message, frozen=True, kw_only=True):
    """Engine to control: I have started; what am I to run?"""


class WeightsReleased(_Message, frozen=True, kw_only=True):
    """Control to engine: a released data key, and what the sealed folder behind it must prove to be.

    `lease` is the canonical JSON of a `custody.lease.Lease`, `key` the 32-byte data key.
    """

    model: str  # NAME:TAG, the name it is served under
    lease: bytes
    key: bytes


class MarkWanted(_Message, frozen=True, kw_only=True):
    """Engine to control: `account` is written for now."""

    account: str


class MarkReleased(_Message, frozen=True, kw_only=True):
    """Control to engine: the account's mark key (16 bytes) for `epoch`, to be asked for again after `until`.

    `until` is a POSIX time in seconds: the end of the epoch, or sooner.
    """

    account: str
    epoch: str
    key: bytes
    until: float


class Withheld(_Message, frozen=True, kw_only=True):
    """Control to engine: no. `about` is "weights" or "mark"; `code` is the error's."""

    about: str
    account: str = ""
    code: str


ToEngine = WeightsReleased | MarkReleased | Withheld
FromEngine = WeightsWanted | MarkWanted
