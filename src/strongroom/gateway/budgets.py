"""Token budgets: holds tokens for requests, and leases more of them from control where too few are at hand.

No task waits: whoever needs a lease leaves a function that is called when it is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from strongroom.serving.limits import Purse
from strongroom.serving.roster import Leased, LeaseReturned, LeaseWanted

_PATIENCE: Final = 5.0  # seconds for a lease to come
_AGAIN: Final = 1.0  # seconds until control is asked again after it had too little
_IDLE: Final = 30.0  # seconds until unused tokens go back

Send = Callable[[LeaseWanted | LeaseReturned], bool]


class Hold:
    """Tokens held for one request, of the day on which it came."""

    __slots__ = ("_purse", "tokens")

    def __init__(self, purse: Purse, tokens: int) -> None:
        """Stand for `tokens`, which `purse` holds."""
        self._purse = purse
        self.tokens = tokens

    def trim(self, wanted: int) -> None:
        """Let go of what is over `wanted`."""
        self.tokens = self._purse.trim(self.tokens, wanted)

    def settle(self, used: int) -> None:
        """The request is over."""
        self._purse.settle(self.tokens, used)
        self.tokens = 0


Then = Callable[[Hold | str], None]  # what is held, or a refusal's code


class _Till:
    """One account's purse of one day, and who waits for more in it."""

    __slots__ = ("asked", "purse", "short", "since", "waiting")

    def __init__(self, account: str, day: str) -> None:
        self.purse = Purse(account, day)
        self.waiting: deque[tuple[int, float, Then]] = deque()
        self.asked = 0  # tokens of the lease that is under way
        self.short = -_AGAIN  # when control last had less than was asked
        self.since = 0.0  # when tokens were last held


class Budgets:
    """All accounts' purses in this gateway."""

    def __init__(self, send: Send, *, slice_tokens: int) -> None:
        """Ask control by `send`, which says whether the link is up."""
        self._send = send
        self._slice = slice_tokens
        self._tills: dict[tuple[str, str], _Till] = {}

    def reserve(self, account: str, day: str, *, tokens: int, now: float, then: Then) -> None:
        """Hold `tokens`, or what is left of the day, and call `then`: at once, or when control has answered."""
        till = self._tills.get((account, day))
        if till is None:
            till = self._tills[account, day] = _Till(account, day)
        till.since = now
        if not till.waiting and till.purse.hold(tokens):
            then(Hold(till.purse, tokens))
        elif not till.waiting and now - till.short < _AGAIN:
            then(_rest(till.purse, tokens))
        else:
            till.waiting.append((tokens, now + _PATIENCE, then))
            self._ask(till)

    def leased(self, answer: Leased, now: float) -> None:
        """Control has answered."""
        till = self._tills.get((answer.account, answer.day))
        if till is None or not till.asked:
            self._send(LeaseReturned(account=answer.account, day=answer.day, tokens=answer.tokens))
            return
        short, till.asked = answer.tokens < till.asked, 0
        till.purse.lease(answer.tokens)
        till.short = now if short else till.short
        while till.waiting and (short or till.purse.free >= till.waiting[0][0]):
            tokens, _, then = till.waiting.popleft()
            then(_rest(till.purse, tokens))
        self._ask(till)

    def lost(self) -> None:
        """The link is down: leases under way are spent unseen, and nobody waits for them."""
        for till in list(self._tills.values()):
            till.asked = 0
            self._turn_away(till, len(till.waiting))

    def renew(self, changed: set[str]) -> None:
        """These accounts' limits have changed: what is free goes back, so that the new limit bites at once."""
        for till in self._tills.values():
            if till.purse.account in changed:
                till.short = -_AGAIN
                self._give_back(till)

    def tick(self, day: str, now: float) -> None:
        """A second is over: give back what lies idle or is of another day, and let nobody wait for ever."""
        for name, till in list(self._tills.items()):
            late = sum(1 for one in till.waiting if one[1] <= now)
            self._turn_away(till, late)
            busy = till.purse.held or till.waiting or till.asked
            past = till.purse.day != day
            if past or (not busy and now - till.since > _IDLE):
                self._give_back(till)
                # a debt, and what could not be given back, belong to the day and stay with it
                if not busy and (past or till.purse.free == 0):
                    del self._tills[name]

    def close(self) -> None:
        """Give everything back."""
        self.lost()
        for till in self._tills.values():
            self._give_back(till)

    def _ask(self, till: _Till) -> None:
        if not till.waiting or till.asked:
            return
        purse = till.purse
        till.asked = max(till.waiting[0][0] - purse.free, self._slice)
        if not self._send(LeaseWanted(account=purse.account, day=purse.day, tokens=till.asked)):
            till.asked = 0
            self._turn_away(till, len(till.waiting))

    def _turn_away(self, till: _Till, many: int) -> None:
        for _ in range(many):
            till.waiting.popleft()[2]("control_unavailable")

    def _give_back(self, till: _Till) -> None:
        purse = till.purse
        tokens = purse.surplus()
        if tokens and not self._send(LeaseReturned(account=purse.account, day=purse.day, tokens=tokens)):
            purse.lease(tokens)


def _rest(purse: Purse, tokens: int) -> Hold | str:
    tokens = min(tokens, purse.free)
    return Hold(purse, tokens) if tokens > 0 and purse.hold(tokens) else "tokens_per_day_exceeded"
