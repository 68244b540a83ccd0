"""Limits: never more than was granted, whatever comes in whatever order."""

from __future__ import annotations

import datetime as dt
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from strongroom.gateway.budgets import Budgets, Hold
from strongroom.serving.admit import Book, may_ask
from strongroom.serving.limits import Purse, Window, until_midnight
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
    purse = Purse("a", "d")
    purse.lease(leased)
    held: list[int] = []
    used = 0
    for tokens, use, end in steps:
        if purse.hold(tokens):
            held.append(tokens)
        if end and held:
            one = held.pop()
            one = purse.trim(one, max(use, 1))
            purse.settle(one, min(use, one))
            used += min(use, one)
        assert used + sum(held) <= leased
        assert purse.free == leased - used - sum(held)
    assert purse.surplus() == leased - used - sum(held)
    assert purse.free == 0


_acts = st.lists(
    st.tuples(
        st.sampled_from(["ask", "end", "answer", "tick", "lost", "renew"]), st.integers(1, 400), st.floats(0, 40)
    ),
    max_size=80,
)


class _Day:
    """One account's day: control's side and the requests' side."""

    def __init__(self, tokens: int, size: int) -> None:
        self.left, self.used, self.now = tokens, 0, 0.0
        self.asked: list[LeaseWanted] = []
        self.holds: list[Hold] = []
        self.budgets = Budgets(self._send, slice_tokens=size)

    def _send(self, message: LeaseWanted | LeaseReturned) -> bool:
        if isinstance(message, LeaseWanted):
            self.asked.append(message)
        else:
            self.left += message.tokens
        return True

    def _then(self, found: Hold | str) -> None:
        if isinstance(found, Hold):
            self.holds.append(found)

    def ask(self, number: int) -> None:
        self.budgets.reserve("a", "2026-11-23", tokens=number, now=self.now, then=self._then)

    def end(self, number: int) -> None:
        if self.holds:
            hold = self.holds.pop(number % len(self.holds))
            self.used += min(number, hold.tokens)
            hold.settle(min(number, hold.tokens))

    def answer(self, _: int) -> None:
        if self.asked:
            tokens = min(self.asked.pop(0).tokens, self.left)
            self.left -= tokens
            self.budgets.leased(Leased(account="a", day="2026-11-23", tokens=tokens), self.now)

    def tick(self, _: int) -> None:
        self.budgets.tick("2026-11-23", self.now)

    def lost(self, _: int) -> None:
        self.asked.clear()
        self.budgets.lost()

    def renew(self, _: int) -> None:
        self.budgets.renew({"a"})


@given(_acts, st.integers(0, 2000), st.integers(1, 300))
def test_an_account_never_uses_more_than_its_day(acts: list[tuple[str, int, float]], tokens: int, size: int) -> None:
    day = _Day(tokens, size)
    for act, number, step in acts:
        day.now += step
        getattr(day, act)(number)
        assert day.used + sum(hold.tokens for hold in day.holds) + day.left <= tokens
    for hold in day.holds:
        hold.settle(0)
    day.budgets.close()
    assert day.used + day.left <= tokens


def test_what_is_left_of_yesterday_goes_back() -> None:
    sent: list[LeaseWanted | LeaseReturned] = []
    budgets = Budgets(lambda message: sent.append(message) is None, slice_tokens=100)
    holds: list[Hold | str] = []
    budgets.reserve("a", "2026-11-23", tokens=10, now=0, then=holds.append)
    budgets.leased(Leased(account="a", day="2026-11-23", tokens=100), 0)
    budgets.tick("2026-11-24", 1)
    assert sent[-1] == LeaseReturned(account="a", day="2026-11-23", tokens=90)
    assert isinstance(holds[0], Hold)
    holds[0].settle(4)
    budgets.tick("2026-11-24", 2)
    assert sent[-1] == LeaseReturned(account="a", day="2026-11-23", tokens=6)
    budgets.leased(Leased(account="a", day="2026-11-23", tokens=7), 3)  # nobody waits for it any more
    assert sent[-1] == LeaseReturned(account="a", day="2026-11-23", tokens=7)


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
