"""Honest requests through the guard: none may be refused, no text may change, and log probabilities only as promised.

Ten thousand requests, each asked of the bare server and through the gateway. What a tier lets people do is what they do
here: conversations of all lengths, some with log probabilities, some with one steady set of biases (one bans a few
words, another nudges some), some for vectors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Final, NamedTuple

import msgspec
import numpy as np

from strongroom.attacks.project_doors import Wired
from strongroom.attacks.project_house import KEY, guarded
from strongroom.attacks.project_lab import Lab
from strongroom.attacks.rows import BenignRow
from strongroom.attacks.stock_server import KEY as STOCK_KEY
from strongroom.attacks.stock_server import MODEL, Setup, serving
from strongroom.serving.disclosure.tiers import TIERS, Tier
from strongroom.serving.soften import HIDDEN

REQUESTS: Final = 10_000
_DRAW: Final = 17
_SIGMAS: Final = 6.0  # standard deviations of the keyed noise that are within the promise
_BANNED: Final = tuple((token, -100.0) for token in (11, 23, 42, 97))  # words that an app never wants
_NUDGED: Final = tuple((token, 1.5) for token in (5, 8, 13, 21))
_ROUND: Final = 512


class _Honest(NamedTuple):
    path: str
    body: bytes
    logprobs: bool
    biased: bool


def benign(lab: Lab, tier: str, *, requests: int = REQUESTS) -> BenignRow:
    """Ask `requests` honest questions of a bare server, and of the same behind a gateway with an account of `tier`.

    Raises:
        StoreUnavailable: a server or gateway does not come up.

    """
    began, asked = perf_counter(), list(_requests(lab, TIERS[tier], requests))
    with ExitStack() as stack:
        port, _ = stack.enter_context(serving(Setup(str(lab.folder))))
        gate, _ = stack.enter_context(guarded(port, tier))
        bare, guard = Wired(port, STOCK_KEY), Wired(gate, KEY)
        stack.callback(bare.close)
        stack.callback(guard.close)
        compared = _Compared(TIERS[tier])
        for at in range(0, len(asked), _ROUND):
            some = asked[at : at + _ROUND]
            pairs = [(one.path, one.body) for one in some]
            for one, before, after in zip(some, bare.post(pairs), guard.post(pairs), strict=True):
                compared.take(one, before, after)
    return BenignRow(
        tier=tier,
        requests=len(asked),
        refused=compared.refused,
        with_logprobs=sum(one.logprobs for one in asked),
        with_bias=sum(one.biased for one in asked),
        embeddings=sum(one.path.endswith("embeddings") for one in asked),
        text_changed=compared.changed,
        values=compared.values,
        unexplained=compared.unexplained,
        largest_change=round(compared.largest, 5),
        seconds=round(perf_counter() - began, 1),
    )


def _requests(lab: Lab, tier: Tier, many: int) -> Iterator[_Honest]:
    """Give honest requests: text in nine of ten, of these a fifth with log probabilities."""
    draw, words = np.random.default_rng(_DRAW), lab.places.names
    for at in range(many):
        said = [_text(words, draw, int(draw.integers(3, 60)))]
        said += [_text(words, draw, 12) for _ in range(draw.integers(3))]
        if at % 10 == 9:  # noqa: PLR2004 - one in ten
            yield _Honest("/v1/embeddings", _raw({"model": MODEL, "input": said}), logprobs=False, biased=False)
            continue
        logprobs, biased = draw.random() < 0.2, at % 20 == 0  # noqa: PLR2004 - shares
        yield _chat(said, draw, logprobs=logprobs, bias=_bias(at, logprobs=logprobs) if biased else (), tier=tier)


def _text(words: Sequence[str], draw: np.random.Generator, many: int) -> str:
    return " ".join([words[int(token)] for token in draw.integers(1, len(words), many)])


def _bias(at: int, *, logprobs: bool) -> Sequence[tuple[int, float]]:
    """Return the steady set of one of two apps; beside log probabilities only the gentle one is taken."""
    return _NUDGED if logprobs or at % 2 else _BANNED


def _chat(
    said: list[str], draw: np.random.Generator, *, logprobs: bool, bias: Sequence[tuple[int, float]], tier: Tier
) -> _Honest:
    roles = ("system", "user") if len(said) == len(("system", "user")) else ("user", "assistant", "user")
    document: dict[str, object] = {
        "model": MODEL,
        "messages": [{"role": role, "content": text} for role, text in zip(roles[-len(said) :], said, strict=True)],
        "max_tokens": int(draw.integers(1, 32)),
        "temperature": round(float(draw.random()), 2),
    }
    if logprobs:
        document |= {"logprobs": True, "top_logprobs": int(draw.integers(0, tier.top_logprobs + 1))}
    if bias:
        document["logit_bias"] = {str(token): value for token, value in bias}
    return _Honest("/v1/chat/completions", _raw(document), logprobs=logprobs, biased=bool(bias))


def _raw(document: dict[str, object]) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


class _Said(msgspec.Struct):
    content: str


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(_Top):
    top_logprobs: list[_Top]


class _Logprobs(msgspec.Struct):
    content: list[_Token]


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Answer).decode


class _Compared:
    """Counts of what the guard changed."""

    def __init__(self, tier: Tier) -> None:
        self._slack = 0.5 * 10.0**-tier.decimals + _SIGMAS * tier.noise + 1e-9
        self.refused = self.changed = self.values = self.unexplained = 0
        self.largest = 0.0

    def take(self, asked: _Honest, before: tuple[int, bytes], after: tuple[int, bytes]) -> None:
        """Compare an answer with the bare server's."""
        if after[0] != before[0]:
            self.refused += 1
            return
        if not asked.path.endswith("embeddings"):
            was, now = _decode(before[1]).choices[0], _decode(after[1]).choices[0]
            self.changed += was.message != now.message or was.finish_reason != now.finish_reason
            if asked.logprobs:
                self._places(was.logprobs, now.logprobs)

    def _places(self, was: _Logprobs | None, now: _Logprobs | None) -> None:
        if was is None or now is None or len(was.content) != len(now.content):
            self.unexplained += 1
            return
        for old, new in zip(was.content, now.content, strict=True):
            self._value(old.logprob, new.logprob)
            values = {one.token: one.logprob for one in old.top_logprobs}
            if set(values) - {one.token for one in new.top_logprobs} and new.top_logprobs:
                self.unexplained += 1
            for one in new.top_logprobs:
                self._value(values.get(one.token, math.inf), one.logprob)

    def _value(self, old: float, new: float) -> None:
        self.values += 1
        if new == HIDDEN:
            self.unexplained += 1
            return
        change = abs(min(old, 0.0) - new)
        self.largest = max(self.largest, change)
        self.unexplained += change > self._slack
