"""Exact p-values of order: whether two models number their hidden units, or their coordinates, alike.

Nothing in training tells one hidden unit of a layer from another, nor one coordinate of the residual stream: weights
are drawn alike for all, and optimizers that work weight by weight treat all alike. So if a suspect was trained from an
initialisation of its own, its numbering is uniformly random to ours, whatever else the two have in common: data,
architecture, order of training. Of two things matched by what they do, the chance that they bear the same number is
that of a fixed point in a random permutation.

With F fixed points of one permutation, E[C(F, k)] <= 1/k!, for any matching between the two; for L layers, whose
numberings are independent, E[C(sum F, k)] <= L^k / k!; and P(X >= k) <= E[C(X, k)].
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def fixed_points(matched: I64) -> int:
    """Return how many things are matched with their own number; -1 stands for no match."""
    return int((matched == np.arange(len(matched))).sum())


def log10_p_of_order(hits: int, *, permutations: int = 1, tries: float = 0.0) -> float:
    """Return log10 of a bound on P(fixed points >= `hits`) over independent random permutations, at most 0.

    Args:
        hits: fixed points in all.
        permutations: how many numberings were drawn independently: layers.
        tries: log10 of how many choices `hits` is the best of.

    """
    if hits == 0:
        return 0.0
    log = hits * math.log(permutations) - math.lgamma(hits + 1)
    return min(0.0, log / math.log(10) + tries)
