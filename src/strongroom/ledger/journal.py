"""Writing acts into the ledger: who did what to which object, from this host, now."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from strongroom.core.clock import Clock, parse_stamp, stamp
from strongroom.core.errors import BadInput, EntryTooLarge
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event, Outcome, Receipt
from strongroom.ledger.log import Ledger

Detail = dict[str, str | int | bool]

_KEPT = 200  # characters of a text that did not fit


@dataclass(frozen=True, slots=True)
class Act:
    """Somebody doing something: ``person:alice``, ``custody.open``, ``checkpoint:chat:v1``, and why."""

    who: str
    action: str
    object: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Journal:
    """The ledger as the rooms write it: with this clock and this host's name."""

    ledger: Ledger
    clock: Clock
    host: str

    def now(self) -> dt.datetime:
        """Return the time, never before the newest entry's: a clock that was set back revives nothing that expired."""
        size = self.ledger.checkpoint().size
        there = [parse_stamp(self.ledger.entry(size - 1).event.at)] if size else []
        return max([self.clock.now(), *there])

    def record_failure(self, act: Act, outcome: Outcome, *, detail: Detail) -> None:
        """Append a refusal or failure. Words that don't fit into an entry are shortened: nobody refuses unlogged."""
        try:
            self.record(act, outcome, detail=detail)
        except (BadInput, EntryTooLarge):
            plain = Act(_plain(act.who), _plain(act.action), _plain(act.object), _plain(act.why))
            kept: Detail = {name: _plain(value) if isinstance(value, str) else value for name, value in detail.items()}
            self.record(plain, outcome, detail=kept)

    def record(self, act: Act, outcome: Outcome, *, detail: Detail | None = None, claim: str | None = None) -> Receipt:
        """Append `act` with its outcome; return once the entry is durable and integrated.

        Raises:
            AlreadyClaimed: another entry holds `claim`.
            LedgerUnavailable: the ledger can't be written: whatever was to be released stays where it is (rule 1).

        """
        return self.ledger.append(
            Event(
                type="strongroom/event@1",
                id=new_id("evt"),
                at=stamp(self.now()),
                who=act.who,
                action=act.action,
                object=act.object,
                host=self.host,
                why=act.why,
                outcome=outcome,
                detail=detail or {},
                claim=claim,
            )
        )


def _plain(text: str) -> str:
    """Return what any entry can hold of `text`."""
    return text[:_KEPT].encode("ascii", "backslashreplace").decode()
