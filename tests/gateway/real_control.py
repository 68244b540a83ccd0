"""Control's side of the gateways' links in a process of its own: the real desk, books and shares over real files.

Its one argument is a folder, with `setup.json` in it: the roster, and where the spool is. It says `ready`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from strongroom.backends.link_unix import listen
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.console.broker import Broker, GatewayDesk
from strongroom.core.clock import SystemClock
from strongroom.core.secrets import Secret
from strongroom.serving.books import Books
from strongroom.serving.leasing import Leasing
from strongroom.serving.roster import Roster, ToControl
from strongroom.serving.shares import Shares
from tests.gateway.house import SECRET


class _Ledger:
    """Nothing happens in it."""

    def follow(self, *_: object, **__: object) -> list[object]:
        return []


async def main(folder: Path) -> None:
    roster = msgspec.json.decode((folder / "roster.json").read_bytes(), type=Roster)
    books = Books(SqliteRecords(folder / "records.sqlite3"))
    serving: Any = SimpleNamespace(
        home=SimpleNamespace(clock=SystemClock(), ledger=_Ledger()),
        books=books,
        spool=folder / "spool",
        roster=lambda version, _: msgspec.structs.replace(roster, version=version),
    )
    leasing = Leasing(books, Shares(folder / "shares.jsonl", time.monotonic))
    broker = Broker(serving, cast("Any", None), None, (), cast("Any", None), Secret(bytes(32)), leasing, lambda: None)
    (folder / "control.sock").unlink(missing_ok=True)
    await listen(folder / "control.sock", Secret(bytes.fromhex(SECRET)), lambda _role: (ToControl, GatewayDesk(broker)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        await asyncio.sleep(0.3)
        broker.tick()


asyncio.run(main(Path(sys.argv[1])))
