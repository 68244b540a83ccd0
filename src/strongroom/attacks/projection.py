"""The projection attack's arithmetic (Carlini et al., arXiv 2403.06634): a hidden size out of log probabilities.

Logits are W·g(x): however many prompts and tokens one looks at, the matrix of logits has the rank of the hidden size.
Its singular values fall off a cliff there. Log probabilities differ from logits by a number a prompt, which goes when a
reference token's value is taken off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Seen = Mapping[int, Mapping[int, float]]  # prompt → token → value, up to one number a prompt

GAP: Final = 1.5  # least ratio of singular values that counts as a cliff
WITHIN: Final = 0.01  # of the hidden size
_FIRST: Final = 8  # places that are not looked at: no model is so narrow, and the first values always fall fast
_LAST: Final = 0.95  # part of the places that are looked at: the smallest values of a noisy matrix fall fast, too
_COLUMNS: Final = 2000  # of tokens that are looked at, those seen under most prompts


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an attacker makes of what was seen."""

    prompts: int  # of the largest block of prompts and tokens that was seen without a hole
    tokens: int
    size: int  # the place of the cliff; 0: the block is too small for one
    gap: float  # the ratio there

    def is_found(self, width: int) -> bool:
        """Whether that is the hidden size."""
        return abs(self.size - width) <= WITHIN * width and self.gap >= GAP


def cliff(rows: Floats) -> tuple[int, float]:
    """Return the place of the largest ratio of consecutive singular values of (prompts, tokens), and the ratio."""
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    last = int(_LAST * len(values))
    if last <= _FIRST:
        return 0, 0.0
    floor = max(float(values[0]) * 1e-12, 1e-300)
    ratios = values[_FIRST:last] / np.maximum(values[_FIRST + 1 : last + 1], floor)
    place = int(np.argmax(ratios))
    return place + _FIRST + 1, float(ratios[place])


def estimate(seen: Seen) -> Estimate:
    """Return the hidden size that the largest block without a hole tells."""
    rows, tokens = block(seen)
    if len(rows) <= _FIRST or len(tokens) <= _FIRST + 1:
        return Estimate(len(rows), len(tokens), 0, 0.0)
    values = np.array([[seen[row][token] for token in tokens] for row in rows])
    size, gap = cliff(values[:, 1:] - values[:, :1])
    return Estimate(len(rows), len(tokens), size, round(gap, 2))


def block(seen: Seen) -> tuple[list[int], list[int]]:
    """Return prompts and tokens of a block that was seen whole, its smaller side as long as greed makes it."""
    counts = Counter(token for values in seen.values() for token in values)
    tokens = [token for token, _ in counts.most_common(_COLUMNS)]
    names = list(seen)
    mask = np.array([[token in seen[row] for token in tokens] for row in names], dtype=bool).reshape(len(names), -1)
    left, right = np.arange(len(names)), list[int]()
    best: tuple[npt.NDArray[np.int64], int] = (left, 0)
    free = np.ones(len(tokens), dtype=bool)
    while free.any():
        kept = np.where(free, mask[left].sum(0), -1)
        column = int(np.argmax(kept))
        if kept[column] <= len(right):  # from here on, more tokens make the block smaller
            break
        left = left[mask[left, column]]
        right.append(column)
        free[column] = False
        if min(len(left), len(right)) >= min(len(best[0]), best[1]):
            best = (left, len(right))
    return [names[row] for row in best[0]], [tokens[column] for column in right[: best[1]]]


def vector_rank(vectors: Floats) -> tuple[int, float]:
    """Return the rank of vectors (texts, served width) as the cliff of their Gram matrix, and how steep it is."""
    if min(vectors.shape) < 1 or len(vectors) <= vectors.shape[1] + 1:
        return 0, 0.0
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(vectors @ vectors.T)[::-1], 0.0))
    floor = max(float(values[0]) * 1e-7, 1e-300)
    ratios = values[:-1] / np.maximum(values[1:], floor)
    place = int(np.argmax(ratios))
    return place + 1, float(ratios[place])


def last_layer_error(states: Floats, logits: Floats) -> float:
    """Return how far `logits` (prompts, tokens) are from a linear function of `states` (prompts, width), relatively."""
    told = logits - logits.mean(1, keepdims=True)
    solved = np.linalg.pinv(states) @ told
    return float(np.linalg.norm(states @ solved - told) / np.linalg.norm(told))
