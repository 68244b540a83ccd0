"""What of the log probabilities is shown: fewer, rounded, and with noise that no repeating averages away.

The noise is a function of a secret, the context and the token: the same question gets the same noise, from whichever
account it comes, so asking again teaches nothing. Fresh noise, and rounding alone, are useless: the first is averaged
away, the second hides less than the attack needs (docs/disclosure.md has the figures).

Of the token that was written a value is shown only if it is among the tier's likeliest: else whoever asks for one token
at a high temperature, again and again, collects the log probabilities of a whole vocabulary in one place.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

from strongroom.ports.completions import TokenLogprob, Turn
from strongroom.serving.disclosure.tiers import Tier

HIDDEN: Final = -9999.0  # what OpenAI shows of a token that is none of the likeliest
MOST_TEXT: Final = 5  # likeliest tokens in the older form, whatever the tier
_ROLES: Final = {"developer": "system"}
_HALF: Final = 1 << 63
_Top = tuple[str, tuple[int, ...], float]


class Veil:
    """One answer's log probabilities on their way out. Tokens must come in their order, with `seen` likeliest each."""

    __slots__ = ("_context", "_decimals", "_noise", "_seen", "_top")

    def __init__(
        self, key: bytes, tier: Tier, *, top: int, turns: Sequence[Turn] = (), prompt: str | None = None
    ) -> None:
        """Show `top` likeliest tokens in each place, as `tier` says; `key` is the house's veil, 32 bytes.

        A `prompt` and the text that continues it are one context, wherever the one ends, and so are a last turn of the
        assistant's and what some servers write on from it: else the same place, reached from prompts of several
        lengths, would have noise of several draws.
        """
        self._top = min(top, tier.top_logprobs)
        self._seen = seen(tier, chat=prompt is None)
        self._decimals = tier.decimals
        self._noise = tier.noise
        self._context = hashlib.blake2b(key=key[:64], digest_size=32, person=b"veil") if self._noise else None
        if self._context is not None:
            self._context.update((_conversation(turns) if prompt is None else prompt).encode("utf-8", "surrogatepass"))

    def soften(self, logprobs: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
        """Return what of the next tokens' log probabilities is shown.

        A token's own value and the one among the likeliest stay equal; the likeliest stay in order.
        """
        return tuple([self._softened(one) for one in logprobs])

    def _softened(self, one: TokenLogprob) -> TokenLogprob:
        own = one.logprob if any(raw == one.bytes for _, raw, _ in one.top[: self._seen]) else HIDDEN
        if self._context is None:
            top = tuple([(text, raw, round(value, self._decimals)) for text, raw, value in one.top[: self._top]])
            return TokenLogprob(one.token, one.bytes, round(own, self._decimals), top)
        place = self._context.digest()
        self._context.update(bytes(one.bytes))
        shown = [(text, raw, self._shown(place, raw, value)) for text, raw, value in one.top[: self._top]]
        shown.sort(key=_value, reverse=True)
        own = HIDDEN if own == HIDDEN else self._shown(place, one.bytes, own)
        return TokenLogprob(one.token, one.bytes, own, tuple(shown))

    def _shown(self, place: bytes, token: tuple[int, ...], value: float) -> float:
        noisy = value + self._noise * normal(place, bytes(token))
        return round(min(noisy, 0.0), self._decimals) if math.isfinite(noisy) else value


def seen(tier: Tier, *, chat: bool) -> int:
    """Return among how many likeliest tokens a value may be shown: so many are asked of the engine, too."""
    return max(0, tier.top_logprobs if chat else min(MOST_TEXT, tier.top_logprobs))


def _conversation(turns: Sequence[Turn]) -> str:
    own = turns[-1].content if turns and turns[-1].role == "assistant" else None
    before = turns if own is None else turns[:-1]
    framed = [f"{_ROLES.get(one.role, one.role)}\0{len(one.content)}\0{one.content}\0" for one in before]
    return "".join(framed) + "assistant\0" + (own or "")


def normal(key: bytes, about: bytes) -> float:
    """Return a draw of the standard normal distribution that is a function of its arguments (Box and Muller, 1958)."""
    raw = hashlib.blake2b(about, key=key, digest_size=16).digest()
    first = (int.from_bytes(raw[:8], "little") + 1) / (2 * _HALF + 1)  # in (0, 1)
    second = int.from_bytes(raw[8:], "little") / (2 * _HALF)
    return math.sqrt(-2 * math.log(first)) * math.cos(2 * math.pi * second)


def _value(one: _Top) -> float:
    return one[2]
