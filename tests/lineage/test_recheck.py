"""What a trace says of itself is made again from its figures: nothing else passes."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.errors import ProofInvalid
from strongroom.lineage.ancestry import AncestorFound, rejudged
from strongroom.lineage.bank import null_bank
from strongroom.lineage.compare import Comparison, Outcome
from strongroom.lineage.findings import Finding
from strongroom.lineage.layers import LayerMatch
from strongroom.lineage.recheck import needs_bank, recheck
from strongroom.lineage.residual import coordinates
from strongroom.lineage.traced import ColluderFound, Evidence, Histogram, LineageFound, RecipientFound, conclude, limits
from strongroom.lineage.verdict import judge

replace = msgspec.structs.replace
BANK = null_bank()
NOTHING = np.zeros((0, 8), np.float32)


def evidence(*tests: Outcome, tried: int = 3, layers: tuple[LayerMatch, ...] = ()) -> Evidence:
    """Return what a trace says where its tests came out so."""
    judged = judge(tests, BANK, tried=tried)
    found = Comparison(tests, layers, coordinates(NOTHING, NOTHING), None, (4, 6))
    lineage = LineageFound.of(judged, found, tried=tried)
    return Evidence(checkpoint="chat:v1", related=judged.related, lineage=lineage, opened=1, registered=tried)


def ordered(hits: int, layers: int = 4, sources: int = 6, method: str = "units") -> Outcome:
    of = 128 * layers
    return Outcome(
        method=method,  # type: ignore[arg-type]
        effect=hits / of,
        hits=hits,
        of=of,
        permutations=layers,
        choices=layers * math.log10(sources),
    )


COORDINATES = Outcome(method="coordinates", effect=0.25, hits=16, of=64)
FEW = Outcome(method="coordinates", effect=1 / 64, hits=1, of=64)
MATCHED = Outcome(method="matching", effect=0.75)


def refused(seen: Evidence) -> None:
    with pytest.raises(ProofInvalid):
        recheck(seen, BANK)


@settings(max_examples=60, deadline=None)
@given(
    hits=st.integers(0, 512),
    matched=st.none() | st.floats(0, 1),
    tried=st.integers(1, 1000),
    off=st.floats(0.01, 100),
)
def test_what_is_judged_passes_and_no_other_p(hits: int, matched: float | None, tried: int, off: float) -> None:
    tests = [COORDINATES, ordered(hits)]
    if matched is not None:
        tests.append(Outcome(method="matching", effect=matched))
    seen = evidence(*tests, tried=tried)
    recheck(seen, BANK)
    assert seen.lineage is not None
    refused(replace(seen, lineage=replace(seen.lineage, log10_p=seen.lineage.log10_p - off)))
    refused(replace(seen, lineage=replace(seen.lineage, effect=(seen.lineage.effect + 0.5) % 1)))


def test_figures_that_no_comparison_has_are_refused() -> None:
    good = ordered(300)
    recheck(evidence(COORDINATES, good), BANK)
    for bad in (
        replace(good, hits=600, effect=600 / 512),
        replace(good, effect=0.99),
        replace(good, choices=0.7),  # no whole number of layers
        replace(good, choices=1e5),
        replace(good, of=128 * 5, effect=300 / 640),
        replace(good, of=510, effect=300 / 510),
    ):
        refused(evidence(COORDINATES, bad))
    refused(evidence(COORDINATES, good, replace(MATCHED, hits=3)))
    refused(evidence(replace(COORDINATES, permutations=2), good))
    refused(evidence(good))
    refused(evidence(COORDINATES, good, good))


def test_an_adapters_ranks_are_among_its_shuffles() -> None:
    ranks = (0, 0, 3, 200)
    good = Outcome(method="adapter", effect=0.75, hits=4, of=399, ranks=ranks)
    recheck(evidence(good), BANK)
    for bad in (
        replace(good, effect=1.0),
        replace(good, of=10_000),
        replace(good, hits=3),
        replace(good, ranks=(0, 0, 0, 400)),
        replace(good, ranks=(0, 0, 0, -1)),
    ):
        refused(evidence(bad) if min(bad.ranks) >= 0 else replaced(evidence(good), bad))
    refused(evidence(COORDINATES, good))
    refused(evidence(COORDINATES, replace(ordered(300), ranks=ranks)))


def replaced(seen: Evidence, test: Outcome) -> Evidence:
    assert seen.lineage is not None
    return replace(seen, lineage=replace(seen.lineage, tests=(test,)))


def test_a_map_is_of_as_many_layers_as_were_compared() -> None:
    layers = tuple(LayerMatch(at, at + 1, 0.5) for at in range(4))
    fits = evidence(COORDINATES, ordered(300), layers=layers)
    recheck(fits, BANK)
    assert fits.lineage is not None
    for bad in (
        [(0, 1, 0.2), (0, 2, 0.2)],
        [(at, 0, 0.1) for at in range(5)],
    ):
        refused(replace(fits, lineage=replace(fits.lineage, layer_map=tuple(bad))))
    many = tuple((at, at, 0.1) for at in range(4))
    short = evidence(COORDINATES, ordered(300, sources=3))
    assert short.lineage is not None
    refused(replace(short, lineage=replace(short.lineage, layer_map=many, layers=(4, 3))))


def test_the_base_is_judged_again() -> None:
    seen = evidence(COORDINATES, ordered(400))
    said = AncestorFound(
        base="smollm",
        relation="unclear",
        slope=1.01,
        scatter=0.02,
        noise=0.01,
        cosine=0.9,
        tensors=42,
        log10_p=0.0,
        siblings=0,
        tried=1,
    )
    good = rejudged(said, BANK)
    assert good.relation == "ours"
    refused(replace(seen, ancestor=rejudged(replace(said, tried=2), BANK)))  # of one that was opened
    recheck(replace(seen, ancestor=rejudged(replace(said, tried=2), BANK), opened=2), BANK)
    recheck(replace(seen, ancestor=good), BANK)
    assert needs_bank(replace(seen, ancestor=good))
    assert not needs_bank(seen)
    for bad in (
        said,
        replace(good, slope=0.4),
        replace(good, relation="base_only"),
        replace(good, log10_p=good.log10_p - 1),
        replace(good, siblings=10_000),
        replace(good, tried=2),
        replace(good, tensors=3),
    ):
        refused(replace(seen, ancestor=bad))


def test_only_what_is_related_is_looked_at_closely() -> None:
    apart = evidence(FEW, ordered(8))
    assert apart.related == "no"
    recheck(apart, BANK)
    marked = RecipientFound(verdict="match", name="north", copy="c", log10_p=-40.0, candidates=1, tried=1)
    refused(replace(apart, recipient=marked))
    refused(replace(apart, derivation=(Finding(kind="copy", detail="", evidence=""),)))
    refused(replace(apart, histogram=Histogram(edges_low=-5.0, edges_high=5.0, counts=(1, 2), sigma=0.1)))
    refused(replace(apart, checkpoint=None))
    refused(Evidence(checkpoint=None, related="yes"))
    recheck(Evidence(checkpoint=None), BANK)
    recheck(Evidence(checkpoint=None, registered=3), BANK)
    for opened, registered in ((0, 3), (4, 3), (1, 2)):
        refused(replace(apart, opened=opened, registered=registered))
    refused(Evidence(checkpoint=None, opened=1, registered=3))
    related = evidence(COORDINATES, ordered(400))
    refused(replace(related, histogram=Histogram(edges_low=5.0, edges_high=-5.0, counts=(1, 2), sigma=0.1)))


NAMED = RecipientFound(
    verdict="match",
    name="north",
    copy="one",
    log10_p=-40.0,
    candidates=3,
    tried=5,
    checkpoint_log10_p=-30.0,
    scores=(-40.0, -0.5, 0.0),
    reason="The file was made from the copy of north.",
)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "south"},
        {"name": None},
        {"copy": None},
        {"log10_p": -3.0},
        {"log10_p": -400.0},
        {"checkpoint_log10_p": -56.0},
        {"scores": (-0.5, 0.0, 0.0)},
        {"scores": (0.0, -0.5, -40.0)},
        {"scores": (-40.0,)},
        {"tried": 2},
        {"candidates": 0, "scores": ()},
        {"verdict": "inconclusive"},
        {"verdict": "inconclusive", "name": None, "copy": None},
        {"verdict": "no_match", "name": None, "copy": None, "log10_p": -1.0, "scores": (-1.0, 0.0, 0.0)},
        {"verdict": "inconclusive", "name": None, "copy": None, "log10_p": -2.0, "scores": (-1.0, 0.0, 0.0)},
        {"colluders": ({"name": "north", "copy": "one", "log10_p": -40.0},)},
    ],
)
def test_nobody_is_named_by_scores_that_name_nobody(changes: dict[str, object]) -> None:
    seen = evidence(COORDINATES, ordered(400))
    recheck(replace(seen, recipient=NAMED), BANK)
    bad = msgspec.convert(msgspec.to_builtins(NAMED) | changes, RecipientFound)
    refused(replace(seen, recipient=bad))


def test_colluders_are_named_by_their_scores() -> None:
    seen = evidence(COORDINATES, ordered(400))
    several = tuple(ColluderFound(name=name, copy=name, log10_p=p) for name, p in (("north", -40.0), ("east", -7.0)))
    reason = "The file was made from 2 copies together: of north, east."
    good = replace(NAMED, copy="north", colluders=several, reason=reason)
    recheck(replace(seen, recipient=good), BANK)
    for bad in (
        replace(good, colluders=several[::-1]),
        replace(good, colluders=(several[0], replace(several[1], log10_p=-5.0))),
        replace(good, colluders=(several[0], replace(several[1], copy="north"))),
        replace(good, colluders=(several[0], replace(several[1], name="west"))),
        replace(good, scores=(-39.0, -0.5, 0.0)),
        replace(good, candidates=1, scores=(-40.0,)),
    ):
        refused(replace(seen, recipient=bad))


def test_what_a_verdict_does_not_show_follows_from_it() -> None:
    apart, related = evidence(FEW, ordered(8)), evidence(COORDINATES, ordered(400))
    few, more = limits(conclude(apart)), limits(conclude(related))
    most = limits(conclude(replace(related, recipient=NAMED)))
    assert set(few) < set(more) < set(most)
