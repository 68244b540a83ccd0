"""A control that can't look around does not vouch for an old roster."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from strongroom.access.deeds import Deeds
from strongroom.console.broker import Broker, GatewayDesk
from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.serving.accounts import SERVING, Accounts
from strongroom.serving.books import Books
from strongroom.serving.leasing import Leasing
from strongroom.serving.roster import Alive, Roster
from strongroom.serving.shares import Shares
from tests.access import conftest
from tests.access.office import Office

office = conftest.office


class Heard:
    """A link that remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[msgspec.Struct] = []

    def send(self, message: msgspec.Struct) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self.sent.clear()


def test_a_push_that_failed_is_tried_again_and_nothing_is_said_meanwhile(
    office: Office, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accounts = Accounts(
        Deeds(office.records, office.journal, office.desk, series=SERVING, home="home_test"), office.journal
    )
    serving: Any = SimpleNamespace(
        roster=accounts.roster, home=SimpleNamespace(ledger=office.journal.ledger, clock=office.journal.clock)
    )
    leasing = Leasing(Books(office.records), Shares(tmp_path / "shares.jsonl", monotonic))
    broker = Broker(serving, office.owner, None, ("m",), cast("Any", None), Secret(b"v" * 32), leasing, lambda: None)
    desk, link = GatewayDesk(broker), Heard()
    desk.link = link
    broker.gateways.append(desk)
    broker.tick()
    link.sent.clear()

    accounts.add(office.owner, "acme")
    with monkeypatch.context() as patch:
        patch.setattr(serving, "roster", lambda *_: (_ for _ in ()).throw(StoreUnavailable("gone", where="records")))
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                broker.tick()
    assert link.sent == []
    broker.tick()
    assert [type(one) for one in link.sent] == [Roster, Alive]
    assert link.sent[0].veil == b"v" * 32
    broker.tick()
    assert [type(one) for one in link.sent] == [Roster, Alive, Alive]
