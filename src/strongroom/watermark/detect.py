"""How strongly a text carries one key's mark: a score, and the exact chance of one as high without the mark.

Without the key's mark the score of each distinct (context, token) pair is Exp(1), independent of the others, whatever
the text: the words are the key's. So the sum over T pairs is Gamma(T, 1), and its upper tail is the p-value, exact,
with no model and no normal approximation. A repeated pair is counted once: counted twice it would say nothing new and
make the p-value too small.
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
from strongroom.watermark.arrays import Array, namespace
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
    sums, counts = score_all(texts, [key], common=common)
    return evidences(sums[0], counts)


def score_all(texts: Sequence[Tokens], keys: Sequence[MarkKey], *, common: I64 = _NO_RUNS) -> tuple[F64, I64]:
    """Return the score of each text under each key, (keys, texts), and how many pairs of each text count, (texts,).

    Raises:
        BadInput, InputTooLarge: as `detect_many`.

    """
    words = np.array([key.words() for key in keys], np.uint64).reshape(-1, 2)
    sums = np.zeros((len(keys), len(texts)))
    counts = np.zeros(len(texts), np.int64)
    start = 0
    for together in _batches(texts):
        five, owner = _distinct(together, common)
        counts[start : start + len(together)] = np.bincount(owner, minlength=len(together))
        for at in range(0, len(five), _BLOCK):
            _add(sums, words, five=five[at : at + _BLOCK], owner=owner[at : at + _BLOCK] + start)
        start += len(together)
    return sums, counts


def _add(sums: F64, words: U64, *, five: I64, owner: npt.NDArray[np.intp]) -> None:
    """Add the scores of some runs (n, 5), in the order of their texts' numbers `owner` (n,), to `sums`."""
    cuts = np.flatnonzero(np.diff(owner, prepend=-1))
    contexts, after = five[:, :CONTEXT], five[:, CONTEXT]
    step = max(1, _BLOCK // len(five))
    for start in range(0, len(words), step):
        seeds = cast("Array", context_seeds(words[start : start + step, None, :], contexts))
        points = cast("F64", scores(seeds, cast("Array", after), namespace(seeds)))
        sums[start : start + step, owner[cuts]] += np.add.reduceat(points, cuts, axis=1)


def evidences(sums: F64, counts: I64) -> list[Evidence]:
    """Return the evidence of each (sum, count), both (n,)."""
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
