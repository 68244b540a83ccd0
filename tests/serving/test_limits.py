"""Limits: never more than was granted, whatever comes in whatever order."""

from __future__ import annotations

import datetime as dt
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from strongroom.gateway.budgets import ENTRY, NOTHING, Budgets, Hold
from strongroom.serving.admit import Book, may_ask
from strongroom.serving.books import part
from strongroom.serving.limits import Purse, Window, until_midnight
from strongroom.serving.quotas import Budget, Limits, budgets_of
from strongroom.serving.roster import Leased, LeaseReturned, LeaseWanted, Roster, RosterAccount, RosterKey
from strongroom.serving.wire_errors import Refusal


@given(st.integers(0, 20), st.lists(st.floats(0, 20, allow_nan=False), max_size=120))
def test_in_no_minute_are_more_than_the_limit(limit: int, steps: list[float]) -> None:
    window, now, admitted = Window(), 1000.0, []
    for step in steps:
        now += step
        if window.admit(limit, now):
            admitted.append(now)
    for at, start in enumerate(admitted):
        assert sum(1 for one in admitted[at:] if one - start < 60) <= limit


@given(st.integers(1, 20), st.floats(0, 1000))
def test_room_comes_back_when_it_is_said_to(limit: int, start: float) -> None:
    window = Window()
    assert all(window.admit(limit, start) for _ in range(limit))
    assert not window.admit(limit, start + 59.9)
    wait = window.wait(limit, start)
    assert 60 <= wait <= 60.2
    assert window.admit(limit, start + wait + 1e-6)
    assert window.remaining(limit) == limit - 1


def test_a_window_stays_small() -> None:
    window = Window()
    for at in range(200_000):
        window.admit(10**9, at / 1000)
    assert len(window._grains) <= 482
    assert not window.idle(200)
    assert window.idle(400)


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50), st.booleans()), max_size=60), st.integers(0, 500))
def test_a_purse_never_gives_out_more_than_it_has(steps: list[tuple[int, int, bool]], leased: int) -> None:
    purse = Purse()
    purse.lease(leased)
    held: list[int] = []
    used = 0
    for tokens, use, end in steps:
        if tokens <= purse.free():
            purse.hold(tokens)
            held.append(tokens)
        if end and held:
            one = held.pop()
            kept = min(one, max(use, 1))
            purse.settle(one - kept, 0)
            purse.settle(kept, min(use, kept))
            used += min(use, kept)
        assert used + sum(held) <= leased
        assert purse.free() == leased - used - sum(held)
    assert purse.surplus() == leased - used - sum(held)
    assert purse.free() == 0


_acts = st.lists(
    st.tuples(
        st.sampled_from(["ask", "enter", "end", "answer", "tick", "lost", "renew"]),
        st.integers(1, 400),
        st.floats(0, 40),
    ),
    max_size=80,
)
DAY = "2026-11-23"


class _Service:
    """Control's side and the requests' side of one gateway's budgets of every kind, at two scopes."""

    def __init__(self, most: int, size: int) -> None:
        limits = Limits(requests=most // 40 + 1, streams=most // 100 + 1, tokens=most, money=2 * most)
        over = budgets_of("key", "k", limits.over(Limits(tokens=most // 2 + 1))) + budgets_of("account", "a", limits)
        self.over = {one.id: one for one in over}
        self.left = {one.id: one.limit for one in over}  # what control has, of each budget
        self.used = dict.fromkeys(self.over, 0)
        self.entries: list[float] = []
        self.asked: list[LeaseWanted] = []
        self.holds: list[Hold] = []
        self.now = 0.0
        self.budgets = Budgets(self._send, slice_tokens=size)

    def _send(self, message: LeaseWanted | LeaseReturned) -> bool:
        if isinstance(message, LeaseWanted):
            self.asked.append(message)
        else:
            self.left[message.budget] += message.amount
        return True

    def _then(self, found: Hold | Budget | None) -> None:
        if isinstance(found, Hold):
            self.holds.append(found)

    def ask(self, number: int) -> None:
        over = tuple(one for one in self.over.values() if one.kind != "requests")
        self.budgets.reserve(over, DAY, uses=(0, 1, number, 2 * number, 0), now=self.now, then=self._then)

    def enter(self, _: int) -> None:
        minute = tuple(one for one in self.over.values() if one.kind == "requests")
        entered = self.budgets.enter(minute, self.now)
        if entered is True:
            self.entries.append(self.now)
        elif entered is False:

            def then(found: Hold | Budget | None) -> None:
                if isinstance(found, Hold):
                    self.entries.append(self.now)

            self.budgets.reserve(minute, "", uses=ENTRY, now=self.now, then=then)

    def end(self, number: int) -> None:
        if self.holds:
            hold = self.holds.pop(number % len(self.holds))
            tokens = min(number, hold.tokens, hold.money // 2)
            for name, budget in self.over.items():
                self.used[name] += {"tokens": tokens, "money": 2 * tokens}.get(budget.kind, 0)
            hold.settle((0, 0, tokens, 2 * tokens, 0))

    def answer(self, _: int) -> None:
        if self.asked:
            wanted = self.asked.pop(0)
            amount = part(wanted, self.left[wanted.budget], among=2)
            self.left[wanted.budget] -= amount
            self.budgets.leased(Leased(budget=wanted.budget, day=wanted.day, amount=amount), self.now)

    def tick(self, _: int) -> None:
        self.budgets.tick(DAY, self.now)

    def lost(self, _: int) -> None:
        self.asked.clear()
        self.budgets.lost()

    def renew(self, number: int) -> None:
        """Lower and raise a limit: what is leased under the old one goes back."""
        lowered = {
            name: Budget(one.id, one.kind, one.scope, max(1, one.limit - number)) for name, one in self.over.items()
        }
        self.budgets.renew(lowered, self.now)
        self.budgets.renew(self.over, self.now)

    def check(self) -> None:
        held = {"streams": len(self.holds), "tokens": 0, "money": 0}
        for hold in self.holds:
            held["tokens"] += hold.tokens
            held["money"] += hold.money
        for name, budget in self.over.items():
            if budget.kind == "requests":
                assert sum(1 for at in self.entries if self.now - at < 60) + max(0, self.left[name]) <= budget.limit
            elif name.startswith(("streams", "tokens/key", "money/key")):
                assert self.used[name] + held[budget.kind] + self.left[name] <= budget.limit
            else:
                assert self.used[name] + self.left[name] <= budget.limit


@given(_acts, st.integers(0, 2000), st.integers(1, 300))
def test_nobody_ever_uses_more_than_a_limit(acts: list[tuple[str, int, float]], most: int, size: int) -> None:
    service = _Service(most, size)
    for act, number, step in acts:
        service.now += step
        getattr(service, act)(number)
        service.check()
    for hold in service.holds:
        hold.settle(NOTHING)
    service.holds.clear()
    service.budgets.close(service.now)
    service.check()


def test_what_is_left_of_yesterday_goes_back() -> None:
    sent: list[LeaseWanted | LeaseReturned] = []
    budgets = Budgets(lambda message: sent.append(message) is None, slice_tokens=100)
    holds: list[Hold | Budget | None] = []
    over, name = tuple(budgets_of("account", "a", Limits(tokens=1000))), "tokens/account/a"
    budgets.reserve(over, DAY, uses=(0, 0, 10, 0, 0), now=0, then=holds.append)
    budgets.leased(Leased(budget=name, day=DAY, amount=100), 0)
    budgets.tick("2026-11-24", 1)
    assert sent[-1] == LeaseReturned(budget=name, day=DAY, amount=90)
    assert isinstance(holds[0], Hold)
    holds[0].settle((0, 0, 4, 0, 0))
    budgets.tick("2026-11-24", 2)
    assert sent[-1] == LeaseReturned(budget=name, day=DAY, amount=6)
    budgets.leased(Leased(budget=name, day=DAY, amount=7), 3)  # nobody waits for it any more
    assert sent[-1] == LeaseReturned(budget=name, day=DAY, amount=7)


def test_a_lowered_limit_leaves_nothing_of_the_old_one_to_use() -> None:
    sent: list[LeaseWanted | LeaseReturned] = []
    budgets = Budgets(lambda message: sent.append(message) is None, slice_tokens=100)
    [wide], [narrow] = (budgets_of("account", "a", Limits(requests=most)) for most in (100, 10))
    found: list[Hold | Budget | None] = []
    budgets.reserve((wide,), "", uses=ENTRY, now=0, then=found.append)
    budgets.leased(Leased(budget=wide.id, amount=40), 0)
    for _ in range(19):
        assert budgets.enter((wide,), 0) is True
    budgets.renew({narrow.id: narrow}, 1)
    assert sent[-1] == LeaseReturned(budget=wide.id, amount=20)
    assert budgets.enter((narrow,), 1) is False  # control is asked, which knows of the 20 that still count
    assert budgets.held() == {wide.id: 20}
    budgets.tick(DAY, 62)
    assert sent[-1] == LeaseReturned(budget=wide.id, amount=20)
    assert budgets.held() == {}


def test_midnight() -> None:
    assert until_midnight(dt.datetime(2026, 11, 23, 23, 59, 30, tzinfo=dt.UTC)) == 30


def test_who_is_let_in() -> None:
    accounts = (RosterAccount("a", active=True, rpm=1, tokens_per_day=1),)
    key = RosterKey("k", hashlib.sha256(b"secret").digest(), "a", accepted=False)
    orphan = RosterKey("o", hashlib.sha256(b"orphan").digest(), "nobody", accepted=True)
    book = Book(Roster(version=1, accounts=accounts, keys=(key, orphan), terms="t", models=()))
    caller = book.identify(b"bearer secret")
    assert not isinstance(caller, Refusal)
    refusal = may_ask(caller)
    assert refusal is not None
    assert refusal.code == "terms_not_accepted"
    assert may_ask(caller, terms=True) is None
    for wrong in (None, b"", b"Basic secret", b"Bearer", b"Bearer ", b"Bearer x", b"Bearer orphan", b"secret"):
        assert isinstance(book.identify(wrong), Refusal)
    assert book.still(caller) is None
