"""How strongly a text carries one key's mark: a score, and the exact chance of one as high without the mark.

Without the key's mark the score of each distinct (context, token) pair is Exp(1), independent of the others, whatever the
text: the words are the key's. So the sum over T pairs is Gamma(T, 1), and its upper tail is the p-value, exact, with no
model and no normal approximation. A repeated pair is counted once: counted twice it would say nothing new and make the
p-value too small (by a factor of 100 and more on repetitive text).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import InputTooLarge
from strongroom.core.tails import log_gamma_tail
from strongroom.watermark import common as shared
from strongroom.watermark.arrays import Array, Namespace, namespace
from strongroom.watermark.common import Tokens
from strongroom.watermark.gumbel import CONTEXT, scores
from strongroom.watermark.keys import MarkKey
from strongroom.watermark.prf import I64, U64, context_seeds

F64 = npt.NDArray[np.float64]

LIMIT: Final = 50_000_000  # tokens of one text: about 2 GB of working memory
_BLOCK: Final = 8192  # pairs hashed at a time: the hash's state stays in the second-level cache
_TOGETHER: Final = 1 << 18  # tokens of many texts that are handled together
_NO_RUNS: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a text says of one key.

    Attributes:
        score: sum over the scored pairs of -ln(1 - u), in nats; about `scored` without the mark.
        scored: how many distinct (context, token) pairs were scored.
        log10_p: decimal logarithm of the p-value; right where `p_value` has reached the smallest float.
        p_value: the exact chance of such a score or a higher one under a key that did not mark the text; never 0.

    """

    score: float
    scored: int
    log10_p: float
    p_value: float


def detect(tokens: Tokens, key: MarkKey, *, common: I64 = _NO_RUNS) -> Evidence:
    """Score one text under one key; `common` (from `common_runs`) is left out.

    Raises:
        BadInput: `tokens` are not whole numbers from 0 to 2^32 - 1.
        InputTooLarge: there are more than 50,000,000 of them.

    """
    return detect_many((tokens,), key, common=common)[0]


def detect_many(texts: Sequence[Tokens], key: MarkKey, *, common: I64 = _NO_RUNS) -> list[Evidence]:
    """Score many texts under one key, each by itself: the fast way, and the same figures as `detect`.

    Raises:
        BadInput: a text is not whole numbers from 0 to 2^32 - 1.
        InputTooLarge: one has more than 50,000,000 tokens.

    """
    words = np.array([key.words()], np.uint64)
    found: list[Evidence] = []
    for together in _batches(texts):
        five, owner = _distinct(together, common)
        points = np.empty(len(five))
        for start in range(0, len(five), _BLOCK):
            part = five[start : start + _BLOCK]
            points[start : start + _BLOCK] = pair_scores(words, shared.as_contexts(part), part[:, CONTEXT])
        counts = np.bincount(owner, minlength=len(together))
        sums = np.bincount(owner, weights=points, minlength=len(together))
        found += evidences(sums, counts)
    return found


def pair_scores(keys: U64, contexts: U64, tokens: I64) -> F64:
    """Return the scores of `tokens` after `contexts` (…, 4) under `keys` (…, 2); leading axes broadcast."""
    seeds = cast("Array", context_seeds(keys, contexts))
    after = cast("Array", tokens)
    return cast("F64", scores(seeds, after, namespace(seeds)))


def distinct_runs(tokens: Tokens, common: I64 = _NO_RUNS) -> I64:
    """Return the distinct runs of five of one text, (n, 5), without those in `common`.

    Raises:
        BadInput, InputTooLarge: as `detect`.

    """
    return _distinct([_bounded(tokens)], common)[0]


def evidences(sums: F64, counts: npt.NDArray[np.intp]) -> list[Evidence]:
    """Return the evidence of each (sum, count)."""
    logs = log_gamma_tail(counts, sums)
    smallest = math.log(np.finfo(np.float64).tiny)
    chances = np.exp(np.maximum(logs, smallest))
    rows = zip(sums.tolist(), counts.tolist(), (logs / math.log(10)).tolist(), chances.tolist(), strict=True)
    return [Evidence(*row) for row in rows]


def _distinct(texts: list[I64], common: I64) -> tuple[I64, npt.NDArray[np.intp]]:
    """Return the distinct runs (n, 5) of each text, and the number (n,) of the text that each belongs to."""
    lengths = np.array([one.size for one in texts])
    five = shared.runs(np.concatenate(texts))
    owner = np.repeat(np.arange(len(texts)), lengths)
    # a run belongs to a text if its first and its last token do
    inside = np.flatnonzero(owner[: len(five)] == owner[owner.size - len(five) :])
    five, owner = five[inside], owner[inside]
    marks = shared.fingerprints(five)
    keep = ~shared.is_common(marks, common) if common.size else slice(None)
    five, owner, marks = five[keep], owner[keep], marks[keep]
    # a text's number is folded in, so that one sort tells repeats within a text from runs that two texts share
    places = np.sort(shared.firsts(marks ^ _scatter(owner)))
    return five[places], owner[places]


def _scatter(owner: npt.NDArray[np.intp]) -> I64:
    """Return a 64-bit pattern for each text's number."""
    return cast("I64", shared.words(cast("Array", np.zeros(1, np.int64)), cast("Array", owner.astype(np.int64))))


def _bounded(tokens: Tokens) -> I64:
    array = shared.as_tokens(tokens)
    if array.size > LIMIT:
        raise InputTooLarge(f"a text of {array.size:,} tokens; the limit is {LIMIT:,}", where="tokens")
    return array


def _batches(texts: Sequence[Tokens]) -> Iterator[list[I64]]:
    """Yield the texts in groups of about a quarter of a million tokens."""
    group: list[I64] = []
    size = 0
    for one in texts:
        group.append(_bounded(one))
        size += group[-1].size
        if size >= _TOGETHER:
            yield group
            group, size = [], 0
    if group:
        yield group
