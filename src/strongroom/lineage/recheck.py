"""What a trace says of itself, made again from its figures: whoever replays a report trusts no conclusion in it.

The figures themselves (how many units fit, what slopes have) take both files. All that follows from them is made again
here, and figures that can't belong together are refused: a p-value may not come out smaller than a trace could find it.
"""

from __future__ import annotations

import math
from typing import Final

from strongroom.core.errors import ProofInvalid
from strongroom.lineage.adapter_order import SHUFFLES
from strongroom.lineage.ancestry import rejudged
from strongroom.lineage.bank import Bank
from strongroom.lineage.codes import COMMON
from strongroom.lineage.compare import AHEAD, EXACT, Outcome
from strongroom.lineage.decode import DOUBT, NAMED, made_from
from strongroom.lineage.descent import FEW
from strongroom.lineage.layers import SAMPLE
from strongroom.lineage.traced import ASSUMPTIONS, Evidence, LineageFound, RecipientFound, is_marked
from strongroom.lineage.verdict import EXACT_LIMIT, judge

WHERE: Final = "report"
_NEAR: Final = 1e-6
_ROUNDED: Final = 6e-4  # scores are kept to three decimals, fractions of layers to four
_SUREST: Final = -COMMON / 2 / math.log(10) - _NEAR  # Hoeffding's bound, where every segment fits
_SAID: Final = ("method", "p_kind", "log10_p", "effect", "log10_tail", "pairs", "largest")


def recheck(seen: Evidence, bank: Bank) -> None:
    """Return if what the evidence says of itself is what its figures make.

    Raises:
        ProofInvalid: a p-value, an effect or a relation is another, or figures can't belong together.

    """
    _check_parts(seen)
    if seen.lineage is not None:
        for test in seen.lineage.tests:
            _require(_possible(test), f"no comparison has such figures for {test.method}")
        methods = [one.method for one in seen.lineage.tests]
        whole = "coordinates" in methods and "adapter" not in methods
        _require(
            len(set(methods)) == len(methods) and (whole or methods == ["adapter"]), "tests are missing, or made twice"
        )
        _check_layers(seen.lineage)
        _check_judgement(seen.lineage, seen.related, bank)
    if seen.recipient != RecipientFound():
        _check_recipient(seen.recipient)
    if seen.ancestor is not None:
        one, again = seen.ancestor, rejudged(seen.ancestor, bank)
        same = (one.relation, one.siblings) == (again.relation, again.siblings) and _near(one.log10_p, again.log10_p)
        enough = one.tensors == 0 or one.tensors >= FEW
        _require(one.tried <= seen.opened, "more relatives than checkpoints that were opened")
        _require(same and enough, f"made again, the differences from the public base say {again.relation}")


def needs_bank(seen: Evidence) -> bool:
    """Whether anything rests on the null bank: exact p-values that suffice do not."""
    found = seen.lineage
    if found is None:
        return False
    return seen.ancestor is not None or found.p_kind != "exact" or found.log10_p > EXACT_LIMIT


def _check_parts(seen: Evidence) -> None:
    """Check that there is nothing that could not have been looked for."""
    _require((seen.lineage is None) == (seen.checkpoint is None), "a checkpoint without a comparison, or the reverse")
    _require(seen.lineage is not None or seen.related == "no", "related to nothing")
    tried = seen.registered if seen.lineage is None else seen.lineage.tried
    counted = tried == seen.registered >= seen.opened and (seen.opened > 0) == (seen.lineage is not None)
    _require(counted, "no registry is opened like that")
    closer = (seen.ancestor, seen.histogram) == (None, None) and not seen.derivation
    _require(
        seen.related != "no" or (closer and seen.recipient == RecipientFound()),
        "only what is related is looked at closely",
    )
    _require(seen.ancestor is None or not is_marked(seen.recipient), "a marked suspect is not asked for its base")
    drawn = seen.histogram
    _require(drawn is None or drawn.edges_low < drawn.edges_high, "the histogram's edges are in no order")


def _possible(test: Outcome) -> bool:
    """Whether a comparison could have these figures."""
    if test.method == "adapter":
        return _possible_adapter(test)
    if test.method not in EXACT or test.ranks:
        return (test.hits, test.of, test.permutations, test.choices, test.ranks) == (0, 0, 1, 0.0, ())
    if test.hits > test.of or not _near(test.effect, test.hits / max(test.of, 1)):
        return False
    if test.method == "coordinates":
        return (test.permutations, test.choices) == (1, 0.0)
    each = test.choices / test.permutations  # log10 of the checkpoint's layers: the choice for each of the suspect's
    if each > math.log10(1 << 16) or test.of > SAMPLE * test.permutations or test.of % test.permutations:
        return False
    return abs(10**each - round(10**each)) <= _NEAR * 10**each


def _possible_adapter(test: Outcome) -> bool:
    ahead = sum(1 for rank in test.ranks if rank < AHEAD * SHUFFLES) / max(len(test.ranks), 1)
    told = (test.hits, test.of, test.permutations, test.choices)
    return (
        told == (len(test.ranks), SHUFFLES, 1, 0.0)
        and max(test.ranks, default=0) <= SHUFFLES
        and _near(test.effect, ahead)
    )


def _check_layers(found: LineageFound) -> None:
    """Check that the map of layers is one of as many layers as were compared."""
    theirs, ours = found.layers
    sources, suspects = ({one[at] for one in found.layer_map} for at in (1, 0))
    few = len(suspects) == len(found.layer_map) <= theirs and len(sources) <= ours
    _require(not found.layer_map or few, "the map of layers is not one that the tests could find")


def _check_judgement(found: LineageFound, related: str, bank: Bank) -> None:
    again = judge(found.tests, bank, tried=found.tried)
    message = f"made again, the tests say {again.related} by {again.method}, p = 10^{again.log10_p:.2f}"
    assumption = ASSUMPTIONS.get(again.method.split("-", maxsplit=1)[0], "")
    _require(related == again.related and found.assumption == assumption, message)
    for name in _SAID:
        told, made = getattr(found, name), getattr(again, name)
        same = _near(told, made) if isinstance(told, float) and isinstance(made, float) else told == made
        _require(same, message)


def _check_recipient(one: RecipientFound) -> None:
    """Check what is said of copies against every candidate's score."""
    least, doubt = math.log10(NAMED), math.log10(DOUBT)
    scored = one.candidates == len(one.scores) > 0 and one.tried >= one.candidates
    _require(scored and list(one.scores) == sorted(one.scores), "not every candidate has a score")
    _require(one.checkpoint_log10_p >= _SUREST, "the checkpoint's code can't be so sure")
    if one.verdict == "match":
        _require(one.scores[0] <= least + _ROUNDED and _names(one), "nobody can be named by such scores")
        return
    _require((one.name, one.copy, one.colluders) == (None, None, ()), "somebody is named, and yet nobody")
    _require(one.scores[0] > least - _ROUNDED and abs(one.log10_p - one.scores[0]) <= _ROUNDED, "the scores say more")
    sure = one.checkpoint_log10_p <= least or one.log10_p <= doubt
    _require(one.verdict == "inconclusive" or not sure, "the marks are not nothing")


def _names(one: RecipientFound) -> bool:
    """Whether those who are named are, each by a p-value that suffices."""
    least, several = math.log10(NAMED), one.colluders
    first = (one.name, one.copy, one.log10_p)
    best = one.scores[0]  # of the first round, in which the surest of those is named that are named at once
    if not several:
        alone = None not in first and one.log10_p <= least and one.reason == made_from([str(one.name)])
        return alone and abs(one.log10_p - best) <= _ROUNDED
    told = [(each.name, each.copy, each.log10_p) for each in several]
    ordered = [each.log10_p for each in several] == sorted(each.log10_p for each in several)
    distinct = 1 < len({each.copy for each in several}) == len(several) <= one.candidates
    named = one.reason == made_from([each.name for each in several])
    scored = any(abs(each.log10_p - best) <= _ROUNDED for each in several)
    return told[0] == first and ordered and distinct and named and scored and several[-1].log10_p <= least


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_NEAR, abs_tol=_NEAR)


def _require(fits: bool, message: str) -> None:  # noqa: FBT001 - an assertion
    """Return if something `fits`.

    Raises:
        ProofInvalid: it does not.

    """
    if not fits:
        raise ProofInvalid(message, where=WHERE)
