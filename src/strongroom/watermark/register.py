"""Which mark keys were ever given out: one ledger entry each, with the key's commitment, before its first use (rule 1).

The entries are also what a text is compared with: only accounts and epochs that stand here can have marked it.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from typing import Final

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail, Journal
from strongroom.watermark.keys import MarkKey, commitment, derive, epoch_of

GIVEN_OUT: Final = "watermark.key"


class Register:
    """The mark keys of one home."""

    def __init__(self, journal: Journal, master: Secret) -> None:
        """Derive keys from `master`, and keep their register in the ledger behind `journal`."""
        self._journal = journal
        self._master = master
        self._given: set[tuple[str, str]] = set()

    def give_out(self, account: str, *, who: str) -> tuple[MarkKey, dt.datetime]:
        """Return the account's key of this epoch, registered, and when the epoch ends."""
        now = self._journal.now()
        key = derive(self._master, account, epoch_of(now))
        if (account, key.epoch) not in self._given:
            self._enter(key, who)
            self._given.add((account, key.epoch))
        return key, _next_month(now)

    def candidates(self) -> list[MarkKey]:
        """Return every key that was ever given out.

        An entry whose commitment is not that of the key which the master gives is noise: the log's key alone makes one.
        """
        keys = dict[tuple[str, str], MarkKey]()
        for entry in self._journal.ledger.find(action=GIVEN_OUT):
            account, epoch = entry.event.object.partition(":")[2], str(entry.event.detail.get("epoch"))
            with suppress(BadInput):  # no name that a key could have
                key = derive(self._master, account, epoch)
                if entry.event.detail == _detail(key):
                    keys[account, epoch] = key
        return list(keys.values())

    def _is_entered(self, key: MarkKey) -> bool:
        entries = self._journal.ledger.find(action=GIVEN_OUT, object=f"account:{key.account}")
        return any(entry.event.detail == _detail(key) for entry in entries)

    def _enter(self, key: MarkKey, who: str) -> None:
        if not self._is_entered(key):
            self._journal.record(Act(who, GIVEN_OUT, f"account:{key.account}"), "done", detail=_detail(key))


def _detail(key: MarkKey) -> Detail:
    return {"epoch": key.epoch, "commitment": commitment(key)}


def _next_month(now: dt.datetime) -> dt.datetime:
    """Return the first moment of the next epoch."""
    first = now.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + dt.timedelta(days=32)).replace(day=1)
