"""Control's side of the links: the roster and leases for gateways, weights and marks for the engine.

Every release is judged by the desk and durable in the ledger before it leaves (rule 1). One event loop, one thing at a
time; ledger and records are written in line, for a millisecond each.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import encode
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import CheckpointName
from strongroom.core.log import log
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import MarkWithheld, NoTerms
from strongroom.custody.vault import Purpose
from strongroom.ports.brokerage import FromEngine, MarkReleased, MarkWanted, WeightsReleased, WeightsWanted, Withheld
from strongroom.ports.links import Link
from strongroom.serving.accounts import ACCEPTED, SERVING, Account
from strongroom.serving.admit import Book
from strongroom.serving.books import day_of
from strongroom.serving.leasing import Leasing
from strongroom.serving.roster import (
    Alive,
    Applied,
    Hello,
    Leased,
    LeaseReturned,
    LeaseWanted,
    Recall,
    Refresh,
    Refreshed,
    RosterRecall,
    TermsAccepted,
    TermsText,
    TermsWanted,
    ToControl,
)
from strongroom.serving.spool import used_today
from strongroom.watermark.register import Register
from strongroom.wiring.serving import Serving

_ROSTER_ACTIONS = frozenset({SERVING.entered, ACCEPTED})
WHY = "serve"  # the purpose that weights are released for
_MARK_SECONDS = 3600.0  # after so long an engine asks again, so that a closed account's mark does not outlive it


@dataclass(slots=True)
class Broker:
    """What all links share: the home, who started it, what is served, and which gateways judge by which roster."""

    serving: Serving
    operator: Identity
    model: CheckpointName | None  # None: a foreign engine, whose models are `names`
    names: tuple[str, ...]
    register: Register
    veil: Secret  # keys what softens answers; every gateway is told it
    leasing: Leasing
    recall: Callable[[], RosterRecall | None]  # what gateways compare answers with
    version: int = 0
    looked: int = 0  # ledger entries up to here were looked at
    salt: tuple[str, bytes] = ("", b"")  # the day, and what keys the hashes of addresses on it
    stale: bool = False  # and something in them is not in the last roster yet
    gateways: list[GatewayDesk] = field(default_factory=list["GatewayDesk"])
    waiting: list[tuple[int, Callable[[], None]]] = field(default_factory=list[tuple[int, Callable[[], None]]])

    def tick(self) -> None:
        """Send a new roster where something in the ledger changes it; then say that control is there.

        Commands ask for it themselves. This is for those that could not: interrupted, or control was busy. A control
        that can't make the roster does not say that it is there: gateways then close by themselves.
        """
        for entry in self.serving.home.ledger.follow(self.looked, timeout=0):
            self.stale = self.stale or entry.event.action in _ROSTER_ACTIONS
            self.looked = entry.index + 1
        if self.stale or (self.version and self.salt[0] != day_of(self.serving.home.clock.now())):
            self.push()
            self.stale = False  # only now: a push that failed is tried again
        self.leasing.shares.sweep()
        for gateway in self.gateways:
            gateway.link.send(Alive())

    def push(self) -> int:
        """Send everybody the roster as it is now; return its version."""
        self.version += 1
        roster = replace(
            self.serving.roster(self.version, self.names),
            veil=self.veil.reveal(),
            salt=self._salt_of_today(),
            recall=self.recall(),
        )
        self.leasing.judge_by(Book(roster).budgets())
        for gateway in self.gateways:
            gateway.link.send(roster)
        return self.version

    def _salt_of_today(self) -> bytes:
        """Return what keys the hashes of addresses today: kept nowhere, so yesterday's say nothing any more."""
        today = day_of(self.serving.home.clock.now())
        if self.salt[0] != today:
            self.salt = (today, secrets.token_bytes(16))
        return self.salt[1]

    def when_applied(self, version: int, tell: Callable[[], None]) -> None:
        """Call `tell` once every connected gateway judges by roster `version`."""
        self.waiting.append((version, tell))
        self.settle()

    def settle(self) -> None:
        """Tell those who waited for what is in force now."""
        reached = min((gateway.applied for gateway in self.gateways), default=self.version)
        due = [tell for version, tell in self.waiting if version <= reached]
        self.waiting = [(version, tell) for version, tell in self.waiting if version > reached]
        for tell in due:
            tell()


class _Desk:
    """One end of a link that somebody has opened to control."""

    def __init__(self, broker: Broker) -> None:
        """Speak for `broker`."""
        self._broker = broker
        self.link: Link

    def on_open(self, link: Link) -> None:
        """Wait for what is asked."""
        self.link = link

    def on_lost(self) -> None:
        """Nothing is owed to who has gone."""


class GatewayDesk(_Desk):
    """The receiver of a gateway's link."""

    applied = 0  # the roster that it judges by
    name = ""

    def on_lost(self) -> None:
        """Nobody waits for it any more. What it had leased stays used until it is back, or its process is gone."""
        if self in self._broker.gateways:
            self._broker.gateways.remove(self)
        self._broker.settle()

    def on_message(self, message: ToControl) -> None:
        """Answer. Where a store fails, there is no answer, and the gateway fails closed by itself."""
        try:
            self._answer(message)
        except StrongroomError as error:
            log.error("a gateway was not answered", code=error.code, where=error.where)

    def _answer(self, message: ToControl) -> None:
        match message:
            case Hello():
                self._welcome(message)
            case Applied():
                self.applied = message.version
                self._broker.settle()
            case LeaseWanted():
                self._lease(message)
            case LeaseReturned():
                self._broker.leasing.give_back(self.name, message)
            case TermsWanted() | TermsAccepted():
                self._terms(message)

    def _welcome(self, hello: Hello) -> None:
        broker, self.name = self._broker, hello.gateway
        broker.leasing.shares.join(hello.gateway, hello.pid, hello.held)
        if hello.fresh and not broker.gateways and broker.leasing.shares.alive() <= {hello.gateway}:
            self._reconcile(broker.serving)
        broker.gateways.append(self)
        broker.push()

    def _reconcile(self, serving: Serving) -> None:
        """Count today anew from the usage lines; where they can't be read, what was leased stays spent."""
        today = day_of(serving.home.clock.now())
        try:
            serving.books.reconcile(today, used_today(serving.spool, today))
        except (StrongroomError, OSError) as error:
            code = error.code if isinstance(error, StrongroomError) else type(error).__name__
            log.error("usage lines not counted", code=code)

    def _lease(self, wanted: LeaseWanted) -> None:
        """Lease what is left; where that is too little, have the other gateways give back what they don't use."""
        others = [one for one in self._broker.gateways if one is not self]
        amount = self._broker.leasing.lease(self.name, wanted, among=len(others) + 1)
        self.link.send(Leased(budget=wanted.budget, day=wanted.day, amount=amount))
        if amount < wanted.least:
            for other in others:
                other.link.send(Recall(budget=wanted.budget, day=wanted.day))

    def _terms(self, message: TermsWanted | TermsAccepted) -> None:
        """Show the terms in force, after noting the acceptance of exactly those."""
        accounts = self._broker.serving.accounts
        try:
            terms = accounts.terms()
            if isinstance(message, TermsAccepted) and message.digest == terms.digest:
                key = accounts.key(message.key)
                accounts.accept(key, terms, by=f"account:{key.account}")
                self._broker.push()
        except NoTerms:
            self.link.send(TermsText(request=message.request, digest="", version=0, text=""))
        else:
            text = TermsText(request=message.request, digest=terms.digest, version=terms.version, text=terms.text)
            self.link.send(text)


class EngineDesk(_Desk):
    """The receiver of the engine's link."""

    def on_message(self, message: FromEngine) -> None:
        """Release what is asked for, or say which error stands in the way."""
        about, account = ("mark", message.account) if isinstance(message, MarkWanted) else ("weights", "")
        try:
            answer = self._mark(message) if isinstance(message, MarkWanted) else self._weights(message)
        except StrongroomError as error:
            log.error("withheld from the engine", code=error.code, where=error.where)
            answer = Withheld(about=about, account=account, code=error.code)
        self.link.send(answer)

    def _weights(self, _wanted: WeightsWanted) -> WeightsReleased:
        broker = self._broker
        if broker.model is None:
            raise MarkWithheld("no model of this home is served", where="engine")
        lease, key = broker.serving.home.vault.release(broker.operator, broker.model, Purpose(WHY, {"for": "serve"}))
        try:
            return WeightsReleased(model=str(broker.model), lease=encode(lease), key=key.reveal())
        finally:
            key.wipe()

    def _mark(self, wanted: MarkWanted) -> MarkReleased:
        serving, operator = self._broker.serving, self._broker.operator
        account: Account = serving.accounts.find(wanted.account)
        if account.status != "active":
            raise MarkWithheld("the account is closed", where=f"account:{account.name}")
        serving.home.desk.require(operator, Question("serving.run"))
        key, ends = self._broker.register.give_out(account.name, who=operator.label)
        until = min(ends.timestamp(), serving.home.clock.now().timestamp() + _MARK_SECONDS)
        return MarkReleased(account=key.account, epoch=key.epoch, key=key.raw.reveal(), until=until)


class CommandDesk(_Desk):
    """The receiver of a command's link: it has changed the home, and waits until that is in force."""

    def on_message(self, message: Refresh) -> None:
        """Push the roster, and answer when it is in force."""
        del message  # that it came is what matters
        broker = self._broker
        try:
            version = broker.push()
        except StrongroomError as error:
            log.error("the roster was not made", code=error.code, where=error.where)
            return self.link.close()

        def tell() -> None:
            self.link.send(Refreshed(version=version, gateways=len(broker.gateways)))

        return broker.when_applied(version, tell)
