"""From tests to a verdict: is a suspect made from a checkpoint, with what p-value, of what kind, corrected for what.

`exact` p-values hold under a stated assumption, for any models; `calibrated` ones are ranks among the unrelated pairs
of the null bank, and never smaller than one over their number; what a fitted tail says beyond it is `extrapolated`,
and needed for a match, but never enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from strongroom.core.canonical import Record
from strongroom.lineage.bank import Bank, calibrated, effects
from strongroom.lineage.compare import EXACT, Method, Outcome

EXACT_LIMIT: Final = -6.0  # log10 p, corrected: the chance of calling an unrelated model related
RANK_LIMIT: Final = -2.0  # of the rank among the bank's pairs, corrected
TAIL_LIMIT: Final = -6.0  # of the fitted tail, corrected: as well
DOUBT: Final = -2.0
_ORDER: Final = {"yes": 0, "doubt": 1, "no": 2}
MATCHINGS: Final[tuple[Method, ...]] = ("matching", "matching-anchored")

PKind = Literal["exact", "calibrated", "extrapolated"]
Related = Literal["yes", "doubt", "no"]


class Judgement(Record, frozen=True):
    """Whether two models are related, by all tests of one comparison."""

    related: Related
    method: str
    effect: float
    log10_p: float  # corrected for the tests and for every checkpoint tried
    p_kind: PKind
    log10_tail: float | None = None  # extrapolated, corrected; where the p-value is calibrated
    pairs: int = 0  # of the bank
    largest: float = 0.0  # effect among them


@dataclass(frozen=True, slots=True)
class _Best:
    test: Outcome
    log10_p: float
    log10_tail: float
    pairs: int
    largest: float


def judge(tests: tuple[Outcome, ...], bank: Bank, *, tried: int) -> Judgement:
    """Return what the `tests` of a comparison say, when `tried` checkpoints were compared with the suspect.

    Of the exact tests and of the matchings, each corrected for itself, those count that say more.
    """
    tries = math.log10(max(tried, 1))
    effect = max((one.effect for one in tests if one.method != "coordinates"), default=0.0)
    matched = _calibrated(tests, bank, tries=tries)
    beyond = matched is not None and matched.test.effect > matched.largest
    found = [_by_order(tests, tries=tries, effect=effect, corroborated=beyond), _by_matching(matched)]
    none = Judgement(related="no", method="none", effect=effect, log10_p=0.0, p_kind="exact")
    return min((one for one in found if one), key=lambda one: (_ORDER[one.related], one.log10_p), default=none)


def _by_order(tests: tuple[Outcome, ...], *, tries: float, effect: float, corroborated: bool) -> Judgement | None:
    """Judge the surest of the exact tests.

    Somebody who has both models can renumber one to bear the other's numbers wherever two lines are a little alike, and
    does not change what it computes. So order is not enough: units must also be found to be each other's by gate and by
    up, wherever they stand, more than in any unrelated pair. Of an adapter there is nothing else to be looked at.
    """
    sure = min((one for one in tests if one.method in EXACT), key=lambda one: one.log10_p, default=None)
    if sure is None:
        return None
    log10_p = min(0.0, sure.log10_p + math.log10(len(EXACT)) + tries)
    related: Related = "doubt" if log10_p <= DOUBT else "no"
    if log10_p <= EXACT_LIMIT and (corroborated or sure.method == "adapter"):
        related = "yes"
    return Judgement(related=related, method=sure.method, effect=effect, log10_p=log10_p, p_kind="exact")


def _by_matching(matched: _Best | None) -> Judgement | None:
    if matched is None:
        return None
    return Judgement(
        related=_related(matched),
        method=matched.test.method,
        effect=matched.test.effect,
        log10_p=matched.log10_p,
        p_kind="calibrated",
        log10_tail=matched.log10_tail,
        pairs=matched.pairs,
        largest=matched.largest,
    )


def _calibrated(tests: tuple[Outcome, ...], bank: Bank, *, tries: float) -> _Best | None:
    """Return the matching that is rarest among unrelated pairs, corrected for both matchings and all checkpoints."""
    found: list[_Best] = []
    for test in tests:
        if test.method in MATCHINGS:
            null = calibrated(effects(bank, test.method), test.effect)
            more = tries + math.log10(len(MATCHINGS))
            p, tail = min(0.0, null.log10_p + more), min(0.0, null.log10_tail + more)
            found.append(_Best(test, p, tail, null.pairs, null.largest))
    return min(found, key=lambda one: (one.log10_p, one.log10_tail), default=None)


def _related(found: _Best) -> Related:
    """Judge a matching: the rank must be rare, and the tail very."""
    if found.log10_tail > TAIL_LIMIT:
        return "doubt" if found.log10_tail <= DOUBT else "no"
    return "yes" if found.log10_p <= RANK_LIMIT else "doubt"
