"""Budgets of all kinds: holds for a request what it needs, and leases more from control where too little is at hand.

A request holds all that it needs, or nothing: while it waits for a lease it holds nothing, so no two wait for each
other. No task waits: whoever needs a lease leaves a function that is called when it is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from strongroom.serving.limits import Minute, Purse
from strongroom.serving.quotas import BY_DAY, KINDS, Budget
from strongroom.serving.roster import Leased, LeaseReturned, LeaseWanted

_PATIENCE: Final = 5.0  # seconds for a lease to come
_AGAIN: Final = 1.0  # seconds until control is asked again after it had too little of a day
_SOONER: Final = 0.2  # … of what comes back all the time: places, and requests a minute
_IDLE: Final = 30.0  # seconds until what is unused of a day goes back
_IDLE_SHARE: Final = 2.0  # … of places and of requests a minute
_SLICES: Final = 16  # a lease is this part of the limit at least, but for tokens

Send = Callable[[LeaseWanted | LeaseReturned], bool]
Uses = tuple[int, int, int, int, int]  # by kind, in the order of `quotas.KINDS`
NOTHING: Final[Uses] = (0, 0, 0, 0, 0)
ENTRY: Final[Uses] = (1, 0, 0, 0, 0)  # what letting in takes: one request of each minute
_AT: Final = {kind: at for at, kind in enumerate(KINDS)}
_TOKENS: Final = KINDS.index("tokens")
_MONEY: Final = KINDS.index("money")
_PARTIAL: Final = {_TOKENS, _MONEY}  # of these a rest will do: the answer then ends there
_UNBOUND: Final = 1 << 62


class _Till:
    """What this gateway has of one budget, and who waits for more in it."""

    __slots__ = ("again", "asked", "budget", "day", "idle", "kind", "purse", "short", "since", "slice", "waiting")

    def __init__(self, budget: Budget, day: str, *, slice_tokens: int) -> None:
        share = budget.kind not in BY_DAY
        self.budget = budget
        self.day = day
        self.kind = KINDS.index(budget.kind)
        self.purse: Purse | Minute = Minute() if budget.kind == "requests" else Purse()
        self.waiting: deque[_Wait] = deque()
        self.asked = 0  # what the lease that is under way should bring at least
        self.again, self.idle = (_SOONER, _IDLE_SHARE) if share else (_AGAIN, _IDLE)
        self.short = -self.again  # when control last had less than was needed
        self.since = 0.0  # when something was last held
        self.slice = slice_tokens if budget.kind == "tokens" else max(1, budget.limit // _SLICES)

    def exhausted(self, now: float) -> bool:
        """Whether there is no use in asking control now."""
        return now - self.short < self.again or self.purse.leased >= self.budget.limit


class Hold:
    """What is held for one request in all budgets over it, of the day on which it came."""

    __slots__ = ("_parts", "money", "tokens")

    def __init__(self, parts: list[tuple[_Till, int]]) -> None:
        """Stand for these amounts, which their purses hold."""
        self._parts = parts
        self.tokens = self.money = _UNBOUND
        for till, amount in parts:
            if till.kind == _TOKENS:
                self.tokens = min(self.tokens, amount)
            elif till.kind == _MONEY:
                self.money = min(self.money, amount)

    def tightest(self, tokens: int) -> Budget | None:
        """Return which budget had less than was needed: of `tokens`, or else of money."""
        kind = _TOKENS if self.tokens < tokens else _MONEY
        least = self.tokens if kind == _TOKENS else self.money
        return next((till.budget for till, amount in self._parts if till.kind == kind and amount == least), None)

    def trim(self, *, tokens: int, money: int) -> None:
        """Let go of what is over so many tokens and so much money."""
        self.tokens, self.money = min(self.tokens, tokens), min(self.money, money)
        for at, (till, amount) in enumerate(self._parts):
            most = self.tokens if till.kind == _TOKENS else self.money if till.kind == _MONEY else amount
            if most < amount:
                till.purse.settle(amount - most, 0)
                self._parts[at] = (till, most)

    def settle(self, used: Uses) -> None:
        """The request is over."""
        for till, amount in self._parts:
            till.purse.settle(amount, used[till.kind])
        self._parts = []


Then = Callable[["Hold | Budget | None"], None]  # what is held; or the budget that has too little; or None: no control


class _Wait:
    """A request that waits until it can hold all that it needs."""

    __slots__ = ("due", "needs", "parked", "then")

    def __init__(self, needs: list[tuple[_Till, int]], *, due: float, then: Then) -> None:
        self.needs = needs
        self.due = due
        self.then = then
        self.parked = False  # it has waited its turn

    def of(self, till: _Till) -> int:
        """Return what it needs of a till."""
        return sum(amount for one, amount in self.needs if one is till)


class Budgets:
    """All that this gateway has of anybody's budgets."""

    def __init__(self, send: Send, *, slice_tokens: int) -> None:
        """Ask control by `send`, which says whether the link is up."""
        self._send = send
        self._slice = slice_tokens
        self._tills: dict[tuple[str, str], _Till] = {}
        self._past: list[_Till] = []  # of limits that were lowered or taken away: nothing new is held in them

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def enter(self, minute: tuple[Budget, ...], now: float) -> Budget | bool:
        """Let a request in at once, if every minute over it has room here.

        Returns True if it is let in, False if a lease may still let it in, or the budget that has no room.
        """
        lacking = False
        tills = [self._till(budget, "") for budget in minute]
        for till in tills:
            if till.purse.free(now) < 1 or till.waiting:
                if till.exhausted(now):
                    return till.budget
                lacking = True
        if lacking:
            return False
        for till in tills:
            till.purse.hold(1, now)
            till.since = now
        return True

    def reserve(self, over: tuple[Budget, ...], day: str, *, uses: Uses, now: float, then: Then) -> None:
        """Hold `uses` in every budget of `over`, and call `then`: at once, or when control has answered.

        Of tokens and money what is left of the day will do.
        """
        needs = list[tuple[_Till, int]]()
        ready = True
        for budget in over:
            amount = uses[_AT[budget.kind]]
            if amount:
                till = self._till(budget, day if budget.kind in BY_DAY else "")
                ready = ready and not till.waiting and till.purse.free(now) >= amount
                needs.append((till, amount))
        if ready:
            _hold(needs, now, then)
        else:
            self._try(_Wait(needs, due=now + _PATIENCE, then=then), now)

    def wait(self, budget: Budget, now: float) -> float:
        """Return in how many seconds there may be room again in a minute."""
        till = self._tills.get((budget.id, ""))
        return till.purse.wait(now) if till is not None and isinstance(till.purse, Minute) else _SOONER

    def room(self, budget: Budget, now: float) -> int:
        """Return how many more requests this gateway may let in, with what control may lease it, as of the last one."""
        till = self._tills.get((budget.id, ""))
        if till is None or not isinstance(till.purse, Minute):
            return budget.limit
        most = till.purse.leased if till.exhausted(now) else budget.limit
        return max(0, most - till.purse.window.total)

    # ── control's messages ───────────────────────────────────────────────────────────────────────────────────────────
    def leased(self, answer: Leased, now: float) -> None:
        """Control has answered."""
        till = self._tills.get((answer.budget, answer.day))
        if till is None or not till.asked:
            if answer.amount:
                self._send(LeaseReturned(budget=answer.budget, day=answer.day, amount=answer.amount))
            return
        if answer.amount < till.asked:
            till.short = now
        till.asked = 0
        till.purse.lease(answer.amount)
        waiting, till.waiting = till.waiting, deque()
        for wait in waiting:
            self._try(wait, now)
        self._ask(till, now)

    def recalled(self, budget: str, day: str, now: float) -> None:
        """Another gateway is short of it: what lies idle goes back."""
        till = self._tills.get((budget, day))
        if till is not None and not till.waiting:
            self._give_back(till, now)

    def lost(self) -> None:
        """The link is down: leases under way are spent unseen, and nobody waits for them."""
        for till in list(self._tills.values()):
            till.asked = 0
            self._turn_away(till, list(till.waiting))

    def renew(self, budgets: Mapping[str, Budget], now: float) -> None:
        """Judge by these limits. What was leased under a higher one goes back as soon as nobody uses it."""
        for name, till in list(self._tills.items()):
            new = budgets.get(till.budget.id)
            if new == till.budget:
                continue
            if new is not None and new.limit > till.budget.limit:
                till.budget, till.short = new, -till.again
                continue
            del self._tills[name]
            self._past.append(till)
            self._give_back(till, now)
            self._follow(till, new)

    def held(self) -> dict[str, int]:
        """Return what is leased of budgets that are not of a day."""
        found: dict[str, int] = {}
        for till in [*self._tills.values(), *self._past]:
            if not till.day and till.purse.leased:
                found[till.budget.id] = found.get(till.budget.id, 0) + till.purse.leased
        return found

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self, day: str, now: float) -> None:
        """A second is over: give back what lies idle or is of another day, and let nobody wait for ever."""
        for name, till in list(self._tills.items()):
            self._turn_away(till, [one for one in till.waiting if one.due <= now])
            past = bool(till.day) and till.day != day
            waited = till.waiting or till.asked
            if past or (not waited and now - till.since > till.idle):
                self._give_back(till, now)
                # a debt, and what could not be given back, belong to the day and stay with it
                if not waited and not till.purse.busy(now) and (past or till.purse.free(now) == 0):
                    del self._tills[name]
        for till in self._past:
            self._give_back(till, now)
        self._past = [till for till in self._past if till.purse.busy(now) or till.purse.free(now) > 0]

    def close(self, now: float) -> None:
        """Give everything back."""
        self.lost()
        for till in [*self._tills.values(), *self._past]:
            self._give_back(till, now)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _till(self, budget: Budget, day: str) -> _Till:
        till = self._tills.get((budget.id, day))
        if till is None:
            till = self._tills[budget.id, day] = _Till(budget, day, slice_tokens=self._slice)
        return till

    def _try(self, wait: _Wait, now: float) -> None:
        """Hold all that is needed, or wait for the first lease that is lacking, or say which budget has too little."""
        parts = list[tuple[_Till, int]]()
        for till, amount in wait.needs:
            free = till.purse.free(now)
            if free < amount or (till.waiting and not wait.parked):
                if not till.exhausted(now):
                    self._park(wait, till, now)
                    return
                amount = min(amount, free) if till.kind in _PARTIAL else amount  # noqa: PLW2901 - what is left of it
                if not 0 < amount <= free:
                    wait.then(till.budget)
                    return
            parts.append((till, amount))
        _hold(parts, now, wait.then)

    def _park(self, wait: _Wait, till: _Till, now: float) -> None:
        wait.parked = True
        till.waiting.append(wait)
        self._ask(till, now)

    def _ask(self, till: _Till, now: float) -> None:
        if not till.waiting or till.asked:
            return
        needed = sum(wait.of(till) for wait in till.waiting) - till.purse.free(now)
        till.asked = max(1, needed)
        amount = max(till.asked, till.slice)
        if not self._send(LeaseWanted(budget=till.budget.id, day=till.day, least=till.asked, amount=amount)):
            till.asked = 0
            self._turn_away(till, list(till.waiting))

    def _follow(self, old: _Till, new: Budget | None) -> None:
        """Have who waits in a till wait in the one that takes its place, for the answer that is under way."""
        if new is None:
            self._turn_away(old, list(old.waiting))
            return
        till = self._till(new, old.day)
        till.asked, till.waiting = old.asked, old.waiting
        old.asked, old.waiting = 0, deque()
        for wait in till.waiting:
            wait.needs = [(till if one is old else one, amount) for one, amount in wait.needs]

    def _turn_away(self, till: _Till, waiting: Iterable[_Wait]) -> None:
        for wait in waiting:
            if wait in till.waiting:  # whoever is told no may ask again at once, and that turn the others away
                till.waiting.remove(wait)
                wait.then(None)

    def _give_back(self, till: _Till, now: float) -> None:
        amount = till.purse.surplus(now)
        if amount and not self._send(LeaseReturned(budget=till.budget.id, day=till.day, amount=amount)):
            till.purse.lease(amount)


def _hold(parts: list[tuple[_Till, int]], now: float, then: Then) -> None:
    """Hold all of it, and say so."""
    for till, amount in parts:
        till.purse.hold(amount, now)
        till.since = now
    then(Hold(parts))
