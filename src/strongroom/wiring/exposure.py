"""How far the weights of what is served are exposed: usage from ledger and spool, sizes from the registry, settings."""

from __future__ import annotations

from contextlib import suppress

from strongroom.core.errors import AlreadyClaimed
from strongroom.ledger.journal import Act, Detail
from strongroom.serving.books import day_of
from strongroom.serving.egress import Exposure, Rules, exposure
from strongroom.serving.history import ALARM, History, history
from strongroom.serving.spool import USED, Tally
from strongroom.wiring.serving import Serving


def look_back(rooms: Serving, *, since: str = "") -> History:
    """Return what was used, as far as ledger and usage lines tell."""
    day = day_of(rooms.home.clock.now())
    return history(rooms.home.ledger.find(action=USED), rooms.spool, day=day, since=since)


def exposed(rooms: Serving, found: History, account: str | None) -> Exposure:
    """Return the exposure to an account, or to all together where `account` is None."""
    if account is None:
        return exposure(found.total(today=True), found.total(), rules_of(rooms))
    return exposure(found.today.get(account, Tally()), found.accounts.get(account, Tally()), rules_of(rooms))


def rules_of(rooms: Serving) -> Rules:
    """Return what exposure is reckoned with: the smallest checkpoint of the home, for it would be out first."""
    settings = rooms.home.settings.serving
    sizes = [one.bytes for one in rooms.home.vault.registry.all()]
    return Rules(
        weight_bytes=min(sizes, default=0),
        token_bits=settings.token_bits,
        days=settings.egress_days_alarm,
        rank=settings.rank_alarm,
        hidden_size=settings.hidden_size,
    )


def raise_alarms(rooms: Serving, found: History, *, who: str) -> int:
    """Enter an alarm for each account, and for all together, that is over a bound: once a day. Return how many."""
    day, raised = day_of(rooms.home.clock.now()), 0
    for name in [None, *found.today]:
        shown = exposed(rooms, found, name)
        if not shown.alarm:
            continue
        about = "serving" if name is None else f"account:{name}"
        days = -1 if shown.days is None else int(shown.days)
        detail: Detail = {"day": day, "days": days, "bits": shown.bits_today, "rank": shown.rank}
        with suppress(AlreadyClaimed):
            rooms.home.journal.record(Act(who, ALARM, about), "done", detail=detail, claim=f"alarm:{day}:{about}")
            raised += 1
    return raised
