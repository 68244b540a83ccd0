"""From tests to a verdict: every boundary, and what is never enough."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from strongroom.lineage.ancestry import AncestorFound, Relation, ancestry, rejudged
from strongroom.lineage.ancestry import Base as PublicBase
from strongroom.lineage.bank import Bank, null_bank
from strongroom.lineage.compare import EXACT, Outcome
from strongroom.lineage.descent import descent, slope, tamed
from strongroom.lineage.model import model_of
from strongroom.lineage.traced import Evidence, LineageFound, RecipientFound, conclude
from strongroom.lineage.verdict import judge
from tests.lineage.llamas import Llama, llama, noisy


def bank_of(pairs: int, largest: float = 0.02) -> Bank:
    """Return a bank of so many pairs, with effects up to `largest`."""
    some = tuple((0, at + 1, round(largest * at / pairs, 6)) for at in range(pairs))
    return msgspec.structs.replace(null_bank(), pairs={"matching": some, "matching-anchored": some})


def ordered(hits: int, permutations: int = 1) -> Outcome:
    return Outcome(method="units", effect=hits / 100, hits=hits, of=100, permutations=permutations)


def matched(effect: float) -> Outcome:
    return Outcome(method="matching", effect=effect)


@pytest.mark.parametrize(
    ("hits", "related"), [(0, "no"), (4, "no"), (7, "doubt"), (9, "doubt"), (13, "yes"), (90, "yes")]
)
def test_order_is_judged_by_its_exact_p(hits: int, related: str) -> None:
    found = judge((ordered(hits), matched(0.03)), bank_of(1000), tried=1)
    if related != "no":
        assert found.p_kind == "exact"
        assert found.log10_p == pytest.approx(-math.log10(math.factorial(hits)) + math.log10(len(EXACT)))
    assert found.related == related


def test_every_checkpoint_that_was_tried_counts() -> None:
    assert judge((ordered(12), matched(0.03)), bank_of(1000), tried=1).related == "yes"
    assert judge((ordered(12), matched(0.03)), bank_of(1000), tried=10_000).related == "doubt"


@pytest.mark.parametrize("effect", [0.0, 0.01, 0.0199])
def test_order_that_no_matching_bears_out_is_a_doubt(effect: float) -> None:
    """Whoever has both models can number one like the other, and accuse."""
    found = judge((ordered(90), matched(effect)), bank_of(1000), tried=1)
    assert (found.related, found.p_kind) == ("doubt", "exact")
    assert found.log10_p < -100


@pytest.mark.parametrize(
    ("pairs", "tried", "related"),
    [(2000, 1, "yes"), (2000, 9, "yes"), (2000, 11, "doubt"), (100, 1, "doubt"), (0, 1, "no")],
)
def test_a_matching_is_worth_what_the_bank_supports(pairs: int, tried: int, related: str) -> None:
    """However large the effect, and however small the extrapolated p-value."""
    found = judge((ordered(0), matched(1.0)), bank_of(pairs), tried=tried)
    assert found.related == related
    if pairs:
        assert found.p_kind == "calibrated"
        assert found.log10_p == pytest.approx(math.log10(2 * tried / (pairs + 1)))
        assert found.log10_tail is not None
        assert found.log10_tail < -20


@pytest.mark.parametrize("effect", [0.0201, 0.03, 0.04])
def test_and_a_little_beyond_the_bank_is_not_enough(effect: float) -> None:
    assert judge((matched(effect),), bank_of(5000), tried=1).related != "yes"


def test_without_tests_nothing_is_said() -> None:
    assert judge((), bank_of(10), tried=1).related == "no"


# ── what evidence makes ──────────────────────────────────────────────────────────────────────────────────────────────
LINEAGE = LineageFound(
    log10_p=-50.0,
    p_kind="exact",
    effect=1.0,
    method="units",
    layer_map=((0, 0, 1.0),),
    layers=(1, 1),
    tests=(ordered(60),),
    tried=1,
)


def base(relation: Relation) -> AncestorFound:
    return AncestorFound(
        base="public",
        relation=relation,
        slope=1.0,
        scatter=0.0,
        noise=0.0,
        cosine=1.0,
        tensors=40,
        log10_p=-2.2,
        siblings=180,
        tried=1,
    )


MARKED = RecipientFound(
    verdict="match", name="lab", copy="copy-1", log10_p=-400.0, candidates=3, checkpoint_log10_p=-55.0
)
COMMON = RecipientFound(verdict="inconclusive", candidates=3, checkpoint_log10_p=-55.0)
EVIDENCE: dict[str, tuple[Evidence, str, str | None]] = {
    "nothing registered": (Evidence(checkpoint=None), "no_match", None),
    "nothing that can be read": (Evidence(checkpoint=None, readable=False), "inconclusive", None),
    "unrelated": (Evidence(checkpoint="m:1", lineage=LINEAGE), "no_match", "units"),
    "a doubt": (Evidence(checkpoint="m:1", related="doubt", lineage=LINEAGE), "inconclusive", "units"),
    "related": (Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE), "match", "units"),
    "ours": (Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE, ancestor=base("ours")), "match", "differences"),
    "theirs": (
        Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE, ancestor=base("base_only")),
        "common_ancestor",
        "units",
    ),
    "not clear": (
        Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE, ancestor=base("unclear")),
        "inconclusive",
        "units",
    ),
    "marked": (Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE, recipient=MARKED), "match", "mark"),
    "marked, by many": (Evidence(checkpoint="m:1", related="yes", lineage=LINEAGE, recipient=COMMON), "match", "mark"),
}


@pytest.mark.parametrize("case", EVIDENCE)
def test_a_verdict_follows_from_the_evidence(case: str) -> None:
    evidence, verdict, method = EVIDENCE[case]
    found = conclude(evidence)
    assert found.verdict == verdict
    assert (found.lineage.method if found.lineage else None) == method
    assert found.reason
    if verdict == "no_match":
        assert found.checkpoint is None
        assert found.derivation == ()


def test_a_shared_public_base_is_never_a_match_by_itself() -> None:
    for relation in ("base_only", "unclear"):
        evidence = msgspec.structs.replace(EVIDENCE["related"][0], ancestor=base(relation))
        assert conclude(evidence).verdict != "match"


# ── differences from a base ──────────────────────────────────────────────────────────────────────────────────────────
def changed(model: Llama, amount: float, seed: int) -> Llama:
    return noisy(model, amount, seed)


def test_what_was_made_from_ours_has_our_difference() -> None:
    start = llama(1)
    ours = changed(start, 0.02, 1)
    found = descent(start, ours, changed(ours, 0.05, 2))
    assert found is not None
    assert found.slope == pytest.approx(1, abs=0.15)
    other = descent(start, ours, changed(start, 0.05, 3))
    assert other is not None
    assert abs(other.slope) < 0.15


def test_a_checkpoint_that_is_the_base_has_nothing_of_its_own() -> None:
    start = llama(1)
    found = descent(start, start, changed(start, 0.05, 2))
    assert found is not None
    assert found.slope == 0.0
    bases = [PublicBase("public", lambda: _opened(start))]
    told = ancestry(bases, model_of(start, start.tokens()), changed(start, 0.05, 2), bank=null_bank(), tried=1)
    assert told is not None
    assert told.relation == "base_only"


def pruned(model: Llama, share: float) -> Llama:
    """Set the smallest weights of every projection to zero, as anybody would."""
    found = model.copy()
    for name, one in found.tensors.items():
        if name.endswith("_proj.weight"):
            one[np.abs(one) <= np.quantile(np.abs(one), share)] = 0
    return found


def rounded(model: Llama) -> Llama:
    """Round every projection to 4 bits in blocks of 32, as anybody would."""
    found = model.copy()
    for name, one in found.tensors.items():
        if name.endswith("_proj.weight"):
            blocks = one.reshape(-1, 32)
            step = np.abs(blocks).max(axis=1, keepdims=True) / 7
            blocks[:] = np.round(blocks / step) * step
    return found


@pytest.mark.parametrize(
    ("ours", "theirs", "relation"),
    [
        (pruned(changed(llama(1), 0.02, 1), 0.4), pruned(changed(llama(1), 0.02, 2), 0.4), "base_only"),
        (pruned(llama(1), 0.4), pruned(changed(llama(1), 0.02, 2), 0.4), "unclear"),
        (rounded(changed(llama(1), 0.003, 1)), rounded(changed(llama(1), 0.003, 2)), "unclear"),
        (rounded(llama(1)), rounded(llama(1)), "unclear"),
    ],
)
def test_what_a_rule_does_to_a_base_is_nobodys(ours: Llama, theirs: Llama, relation: Relation) -> None:
    bases = [PublicBase("public", lambda: _opened(llama(1)))]
    found = ancestry(bases, model_of(ours, ours.tokens()), theirs, bank=null_bank(), tried=1)
    assert found is not None
    assert found.relation == relation


def test_what_else_a_pruned_checkpoint_changed_is_ours() -> None:
    ours = pruned(changed(llama(1), 0.03, 1), 0.4)
    bases = [PublicBase("public", lambda: _opened(llama(1)))]
    found = ancestry(bases, model_of(ours, ours.tokens()), changed(ours, 0.003, 2), bank=null_bank(), tried=1)
    assert found is not None
    assert found.relation == "ours"


def test_no_difference_says_nothing() -> None:
    assert slope(np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32)) is None


@pytest.mark.parametrize("value", [10.0, 1e4, -1e30])
@pytest.mark.parametrize("theirs", ["ours", "base"])
def test_a_huge_weight_in_every_matrix_hides_nothing(theirs: str, value: float) -> None:
    start, chance = llama(1), np.random.default_rng(7)
    ours = changed(start, 0.03, 1)
    suspect = changed(ours, 0.003, 2) if theirs == "ours" else changed(start, 0.03, 3)
    for values in suspect.tensors.values():
        values[tuple(chance.integers(values.shape))] = value
    bases = [PublicBase("public", lambda: _opened(start))]
    found = ancestry(bases, model_of(ours, ours.tokens()), suspect, bank=null_bank(), tried=1)
    assert found is not None
    assert found.relation == ("ours" if theirs == "ours" else "base_only")


def test_a_difference_that_holds_ours_is_not_cut() -> None:
    ours = np.zeros((64, 64), np.float32)
    ours[3, 5] = 9.0
    theirs = ours + np.float32(0.01) * np.random.default_rng(0).standard_normal(ours.shape).astype(np.float32)
    theirs[3, 5] = 9.0
    assert np.array_equal(tamed(theirs, ours), theirs)
    theirs[8, 8] = -1e6
    assert tamed(theirs, ours).min() == -9.0


@pytest.mark.parametrize("theirs", ["ours", "base"])
def test_the_base_is_found_and_judged(theirs: str) -> None:
    start = llama(1)
    ours = changed(start, 0.02, 1)
    suspect = changed(ours, 0.002, 2) if theirs == "ours" else changed(start, 0.05, 2)
    bases = [PublicBase("stranger", lambda: _opened(llama(9))), PublicBase("public", lambda: _opened(start))]
    found = ancestry(bases, model_of(ours, ours.tokens()), suspect, bank=null_bank(), tried=1)
    assert found is not None
    assert found.base == "public"
    assert found.relation == ("ours" if theirs == "ours" else "base_only")
    assert rejudged(found, null_bank()) == found


@pytest.mark.parametrize(("tried", "relation"), [(1, "ours"), (3, "ours"), (4, "unclear")])
def test_the_choice_among_relatives_is_corrected_for(tried: int, relation: str) -> None:
    start = llama(1)
    ours = changed(start, 0.02, 1)
    bases, model = [PublicBase("public", lambda: _opened(start))], model_of(ours, ours.tokens())
    found = ancestry(bases, model, changed(ours, 0.002, 2), bank=null_bank(), tried=tried)
    assert found is not None
    assert found.log10_p == pytest.approx(math.log10(tried / (found.siblings + 1)))
    assert (found.relation, found.tried) == (relation, tried)
    most = ancestry(bases, model, start, bank=null_bank(), tried=1000)
    assert most is not None
    assert most.log10_p == 0.0
    assert rejudged(found, null_bank()) == found


def test_a_checkpoint_of_its_own_has_no_public_base() -> None:
    bases = [PublicBase("stranger", lambda: _opened(llama(9)))]
    ours = llama(1)
    assert ancestry(bases, model_of(ours, ours.tokens()), llama(1), bank=null_bank(), tried=1) is None


class _Opened:
    def __init__(self, one: Llama) -> None:
        self._model = model_of(one, one.tokens())

    def __enter__(self) -> object:
        return self._model

    def __exit__(self, *_error: object) -> None:
        return None


def _opened(one: Llama) -> _Opened:
    return _Opened(one)
