"""What an entry of the ledger says: who did what to which object, from where, why, with what outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from strongroom.core import canonical
from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput, EntryTooLarge
from strongroom.ledger.tiles import MAX_ENTRY

_EXACT = 2**53 - 1  # RFC 8785 numbers are IEEE doubles: beyond this an integer has no exact form
_FAST = msgspec.json.Encoder(order="sorted")

STATE_ACTIONS: Final = frozenset(
    {
        "home.init",
        "access.certificate",
        "access.policy.adopted",
        "access.request",
        "custody.sealed",
        "custody.housekey",
        "custody.entered",
        "custody.issued",
        "serving.entered",
        "serving.accepted",
        "watermark.key",
        "lineage.base",
    }
)
"""Acts that make something so: the newest one counts. They, and all claims, are in the state index (`ledger.state`)."""

Outcome = Literal["granted", "refused", "done", "failed"]


class Event(Record, frozen=True, kw_only=True):
    """One act. Field by field in docs/formats/ledger-1.md; `id` makes a repeated append harmless."""

    type: Literal["strongroom/event@1"] = "strongroom/event@1"
    id: str
    at: str
    who: str
    action: str
    object: str
    host: str
    why: str
    outcome: Outcome
    detail: dict[str, str | int | bool] = msgspec.field(default_factory=dict[str, str | int | bool])
    claim: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """An event in its place in the log, with the bytes that the tree hashes."""

    index: int
    event: Event
    raw: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where an event went: its index, and a size of the signed tree that holds it."""

    index: int
    size: int


def encode(event: Event) -> bytes:
    """Return the entry's bytes: RFC 8785, at most 65,535 bytes.

    An event has no floating point numbers, so msgspec's sorted output is RFC 8785 as long as the keys of `detail` are
    ASCII (RFC 8785 sorts by UTF-16 units); a test compares the two on every code point. It is some ten times faster.

    Raises:
        BadInput: a field has the wrong type, or no canonical form.
        EntryTooLarge: it is longer than an entry may be.

    """
    for key, value in event.detail.items():
        if isinstance(value, int) and not -_EXACT <= value <= _EXACT:
            raise BadInput("an integer is beyond ±(2^53-1)", where=f"event detail {key[:40]!r}")
    try:
        raw = _FAST.encode(event) if all(map(str.isascii, event.detail)) else canonical.encode(event)
    except (UnicodeEncodeError, TypeError, msgspec.MsgspecError):
        raise BadInput("the event has no canonical form", where="event") from None
    if len(raw) > MAX_ENTRY:
        raise EntryTooLarge(f"the entry has {len(raw)} bytes; {MAX_ENTRY} fit", where=f"event {event.action[:80]}")
    return raw


def decode(raw: bytes, *, where: str) -> Event:
    """Return the event that an entry's bytes spell.

    Raises:
        BadInput: they are not those of an event, in canonical form.

    """
    event = canonical.decode(raw, Event, where=where, canonical=False)
    if encode(event) != raw:
        raise BadInput("JSON is not in canonical form (RFC 8785)", where=where)
    return event
