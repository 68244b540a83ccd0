"""A desk with its first owner, and what stands behind it."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.desk import Desk
from strongroom.access.directory import Entrant
from strongroom.access.identity import Identity
from strongroom.access.people import Role
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.core.secrets import Secret
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Journal


@dataclass
class Office:
    """A desk with its first owner, and what stands behind it."""

    desk: Desk
    owner: Identity
    records: SqliteRecords
    journal: Journal
    recovery: Secret

    def add(self, name: str, role: Role, purpose: str = "") -> Identity:
        self.desk.add(Entrant(name, role, Secret(name.encode()), purpose), self.owner)
        return self.desk.authenticate(name, Secret(name.encode()))

    def log(self) -> list[Entry]:
        return self.journal.ledger.tail(1000)

    def last(self) -> Entry:
        return self.log()[-1]
