"""Who asked what, when and from where: read from the ledger's summaries, and from usage lines not yet brought in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from strongroom.ledger.events import Entry
from strongroom.serving.spool import USED, Batch, Row, Tally, read_batch, spool_files

ALARM: Final = "serving.alarm"
_ROWS: Final = msgspec.json.Decoder(list[tuple[str, str, str, str, int]])
_ACCOUNTS: Final = msgspec.json.Decoder(dict[str, list[int]])


@dataclass(slots=True)
class History:
    """Sums over what is in the ledger and in the spool: a display, for the proof is the ledger's own bytes."""

    accounts: dict[str, Tally] = field(default_factory=dict[str, Tally])
    today: dict[str, Tally] = field(default_factory=dict[str, Tally])
    asked: Counter[Row] = field(default_factory=Counter[Row])
    turned_away: Counter[Row] = field(default_factory=Counter[Row])

    def total(self, *, today: bool = False) -> Tally:
        """Return the sum over all accounts."""
        found = Tally()
        for one in (self.today if today else self.accounts).values():
            found.join(one)
        return found

    def add(self, batch: Batch, day: str) -> None:
        """Add a batch; what ended on `day` counts for that day."""
        for name, tally in batch.accounts.items():
            self.accounts.setdefault(name, Tally()).join(tally)
            if batch.last.startswith(day):
                self.today.setdefault(name, Tally()).join(tally)
        self.asked += batch.asked
        self.turned_away += batch.turned


def history(entries: Iterable[Entry], folder: Path, *, day: str, since: str = "") -> History:
    """Return the sums of summaries whose last line is not before `since` (UTC, as the ledger stamps it)."""
    found, done = History(), dict[str, int]()
    for batch in _batches(entries):
        done[batch.file] = max(done.get(batch.file, 0), batch.end)
        if batch.last >= since:
            found.add(batch, day)
    for file in spool_files(folder):
        at = done.get(file.name, 0)
        while (fresh := read_batch(file, at)) is not None:
            at = fresh.end
            if fresh.last >= since:
                found.add(fresh, day)
    return found


def _batches(entries: Iterable[Entry]) -> Iterator[Batch]:
    for entry in entries:
        detail = entry.event.detail
        if entry.event.action != USED or entry.event.outcome != "done":
            continue
        batch = Batch(str(detail.get("file")), 0, end=int(detail.get("end", 0)), last=str(detail.get("to")))
        for name, row in _ACCOUNTS.decode(str(detail.get("accounts", "{}"))).items():
            batch.accounts[name] = Tally(*row)
        for counter, kept in ((batch.asked, "asked"), (batch.turned, "turned_away")):
            for *words, number in _ROWS.decode(str(detail.get(kept, "[]"))):
                counter[words[0], words[1], words[2], words[3]] += number
        yield batch
