"""How much of the last layer an account may have seen today: distinct sets of biases, and the rank that they span.

The projection attack (Carlini et al., arXiv 2403.06634) wants some 160 distinct sets of biases beside each of some 600
prompts; comparing argmaxes takes a dozen a logit. People who steer a model use the same few sets again and again.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Final

from strongroom.ports.completions import Turn
from strongroom.serving.disclosure.tiers import Tier

MOST: Final = 1 << 18  # sets beside prompts that one process remembers: some 50 MB at worst…
_SHARE: Final = 1 << 15  # … and of one account: who fills that keeps nobody else out
_BYTES: Final = 12  # of a digest: among 2^18, two alike once in 2^61
_EVENED: Final = 16_384  # characters of a prompt; some grow eighteenfold, and the event loop waits
_ROLES: Final = {"developer": "system"}

Bias = Sequence[tuple[int, float]]


def prompt_digest(veil: bytes, turns: Sequence[Turn], prompt: str | None) -> bytes:
    """Return the keyed digest of a prompt as it is counted: spellings that a model hardly tells apart are one.

    Compatibility forms (NFKC), case and white space are evened out, and ``developer`` is ``system``. What lies beyond
    the first 16,384 characters counts as it is spelt: longer prompts are dear, and the day's count holds for them, too.
    Keyed, so that who sees a digest can't try prompts against it.
    """
    left = _EVENED
    said = hashlib.blake2b(key=veil[:64], digest_size=_BYTES, person=b"bias prompt")
    for turn in turns if prompt is None else (Turn("user", prompt),):
        even, rest = turn.content[:left], turn.content[left:]
        left -= len(even)
        text = " ".join(unicodedata.normalize("NFKC", even).casefold().split()) + rest
        said.update(f"{_ROLES.get(turn.role, turn.role)}:{len(text)}:{text};".encode("utf-8", "surrogatepass"))
    return said.digest()


def bias_digest(bias: Bias) -> bytes:
    """Return the digest of a set of biases, in order of tokens."""
    return hashlib.blake2b(repr(tuple(bias)).encode(), digest_size=_BYTES).digest()


class _Day:
    """One account's UTC day."""

    __slots__ = ("distinct", "many", "rank", "sets", "shown", "today", "width")

    def __init__(self, today: str) -> None:
        self.today = today
        self.distinct: set[bytes] = set()  # sets, beside whatever prompt
        self.many = 0  # pairs of prompt and set
        self.sets: dict[bytes, bytes] = {}  # prompt → its sets' digests, one after the other
        self.shown: dict[bytes, int] = {}  # prompt → the most likeliest tokens that were shown beside one of its sets
        self.rank = 0
        self.width = 0


class BiasSets:
    """All accounts' days, in one process. What is not remembered any more is not let in: it fails closed."""

    def __init__(self, *, most: int = MOST, gateways: int = 1) -> None:
        """Remember `most` sets of all accounts together; be one of so many `gateways` that share what a tier allows."""
        self._most = most
        self._gateways = gateways
        self._all = 0
        self._days: dict[str, _Day] = {}

    def admit(self, account: str, today: str, *, prompt: bytes, bias: bytes, tier: Tier) -> bool:
        """Count a set of biases beside a prompt; say whether it is within the tier. A set seen before is no new one.

        One that steers all of an account's requests is one of the day's, however many the prompts.
        """
        day = self._day(account, today)
        seen = day.sets.get(prompt, b"")
        if bias in _each(seen):
            return True
        if len(seen) // _BYTES >= max(1, tier.bias_sets // self._gateways) or not self._take(day, bias, tier):
            return False
        day.sets[prompt] = seen + bias
        return True

    def shown(self, account: str, today: str, *, top: int, prompt: bytes = b"") -> None:
        """Note that in answer to `prompt` log probabilities of the `top` likeliest tokens are shown.

        An upper bound of the rank of what was learnt beside one prompt: with s sets of biases top · (s + 1), for the
        answer without any counts, too. (Of an engine that shows values from before any bias it is `top` alone.)
        """
        day = self._day(account, today)
        sets = len(day.sets.get(prompt, b"")) // _BYTES
        if sets:
            top = day.shown[prompt] = max(day.shown.get(prompt, 0), top)
        day.rank = max(day.rank, top * (sets + 1))

    def embedded(self, account: str, today: str, *, width: int) -> None:
        """Note that vectors of that width are served."""
        day = self._day(account, today)
        day.width = max(day.width, width)

    def rank(self, account: str, today: str) -> int:
        """Return an upper bound of the rank that `account` can have learnt of the model today."""
        day = self._days.get(account)
        return day.rank + day.width if day is not None and day.today == today else 0

    def forget(self, today: str) -> None:
        """Forget all other days."""
        self._days = {name: day for name, day in self._days.items() if day.today == today}
        self._all = sum(day.many for day in self._days.values())

    def _take(self, day: _Day, bias: bytes, tier: Tier) -> bool:
        """Count one more set beside a prompt, if the day (in this gateway's share) and the memory have room for it."""
        new = bias not in day.distinct
        if new and len(day.distinct) >= tier.bias_sets_a_day // self._gateways:
            return False
        if day.many >= _SHARE or self._all >= self._most:
            return False
        day.distinct.add(bias)
        day.many += 1
        self._all += 1
        return True

    def _day(self, account: str, today: str) -> _Day:
        day = self._days.get(account)
        if day is None or day.today != today:
            self._all -= 0 if day is None else day.many
            day = self._days[account] = _Day(today)
        return day


def _each(digests: bytes) -> list[bytes]:
    return [digests[at : at + _BYTES] for at in range(0, len(digests), _BYTES)]
