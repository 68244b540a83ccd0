"""The page of a trace: everything that a trace can say is on it, and hostile text stays text."""

from __future__ import annotations

import math
from typing import get_args

import msgspec
import pytest

from strongroom.access.keys import Keyring, new_seed
from strongroom.cli.trace_page import render
from strongroom.cli.trace_words import words
from strongroom.custody.copy_formats import CopyIssuer
from strongroom.lineage.ancestry import AncestorFound
from strongroom.lineage.bank import null_bank
from strongroom.lineage.compare import Method, Outcome
from strongroom.lineage.findings import Finding
from strongroom.lineage.traced import (
    ColluderFound,
    Evidence,
    Histogram,
    LineageFound,
    RecipientFound,
    conclude,
)
from strongroom.lineage.verdict import judge
from strongroom.wiring.lineage_report import LineageReport, Looked, Replayed
from strongroom.wiring.trace import ConsideredBase, Figures, TracedCheckpoint
from tests.cli.test_report_page import EVIL, read

DIGEST = "0123456789abcdef" * 4
TESTS = (
    Outcome(method="coordinates", effect=0.0, hits=0, of=576),
    Outcome(method="units", effect=0.25, hits=128, of=512, permutations=4, choices=4 * math.log10(5)),
    Outcome(method="matching-anchored", effect=0.9),
)


def evidence(text: str, *, named: int = 2, based: bool = True) -> Evidence:
    """Return a trace in which everything was found, and every word is `text`."""
    judged = judge(TESTS, null_bank(), tried=3)
    lineage = LineageFound(
        log10_p=judged.log10_p,
        p_kind=judged.p_kind,
        effect=judged.effect,
        method=text,
        layer_map=((0, 0, 0.9), (1, 3, 0.5), (2, 3, 0.1)),
        layers=(4, 5),
        tests=TESTS,
        tried=3,
        log10_tail=-12.0,
        pairs=105,
        largest=0.1,
        assumption=text,
    )
    several = tuple(ColluderFound(name=text, copy=text, log10_p=-20.0 + at) for at in range(named))
    recipient = RecipientFound(
        verdict="match" if named else "inconclusive",
        name=text if named else None,
        copy=text if named else None,
        log10_p=-20.0 if named else -3.0,
        candidates=500,
        tried=600,
        colluders=several if named > 1 else (),
        checkpoint_log10_p=-30.0,
        scores=tuple(sorted([*(-20.0 + at for at in range(named)), *(-3.0 + at / 200 for at in range(500 - named))])),
        reason=text,
    )
    base = AncestorFound(
        base=text,
        relation="base_only",
        slope=0.3,
        scatter=0.5,
        noise=0.1,
        cosine=0.9,
        tensors=42,
        log10_p=-1.0,
        siblings=135,
        tried=1,
    )
    return Evidence(
        checkpoint=text,
        related="yes",
        lineage=lineage,
        recipient=recipient if named else RecipientFound(),
        ancestor=base if based else None,
        derivation=(Finding(kind="noised", detail=text, evidence=text),),
        histogram=Histogram(edges_low=-5.0, edges_high=5.0, counts=(1, 20, 300, 20, 0), sigma=0.05),
    )


def unrelated(*, opened: int) -> Evidence:
    """Return a trace that found nothing among three registered checkpoints."""
    seen = evidence("x", named=0, based=False)
    return msgspec.structs.replace(seen, related="no", derivation=(), opened=opened, registered=3)


def better(seen: Evidence) -> Evidence:
    """Return a trace whose recipient is surer than the checkpoint."""
    return msgspec.structs.replace(seen, recipient=msgspec.structs.replace(seen.recipient, log10_p=-80.0))


def marked(seen: Evidence) -> Evidence:
    """Return a trace in which the checkpoint's mark was read, and no copy's."""
    recipient = RecipientFound(candidates=1, scores=(0.0,), tried=1, checkpoint_log10_p=-30.0)
    return msgspec.structs.replace(seen, recipient=recipient)


def related_by(method: str) -> Evidence:
    """Return a trace without a mark, that rests on `method`."""
    seen = evidence(method, named=0, based=method == "differences")
    if seen.ancestor is None:
        return seen
    return msgspec.structs.replace(seen, ancestor=msgspec.structs.replace(seen.ancestor, relation="ours"))


def replayed(text: str, seen: Evidence) -> Replayed:
    keys = Keyring("carla", new_seed()).public
    figures = Figures(
        suspect=DIGEST,
        vocabulary=DIGEST,
        bank=DIGEST,
        bases=(ConsideredBase(name=text, digest=DIGEST),),
        evidence=seen,
        checkpoint=TracedCheckpoint(name=text, version=3, manifest=DIGEST, weights=DIGEST),
        commitments=(DIGEST,) * len(seen.recipient.colluders or (1,)),
    )
    said = LineageReport(
        made=text,
        tracer=CopyIssuer(name="carla", keys=keys),
        file=text,
        figures=figures,
        marks=None,
        traced="",
        sealed=None,
    )
    looked = Looked(ledger=True, marks=False, suspect=False, tests=False)
    return Replayed(said, conclude(seen), (), looked, ())


def shown(text: str, seen: Evidence) -> str:
    return render(replayed(text, seen), vkey=text, report=text)


@pytest.mark.parametrize("named", [0, 1, 3])
def test_hostile_text_stays_text(named: int) -> None:
    plain, hostile = (read(shown(text, evidence(text, named=named))) for text in ("harmless", EVIL))
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes
    assert sum(EVIL in one for one in hostile.text) >= 8
    assert not {"script", "img", "link", "iframe", "object", "a", "form"} & set(hostile.tags)
    names = {name for name, _ in hostile.attributes}
    assert not {"src", "href", "style", "xlink:href"} & names
    assert not [name for name in names if name.startswith("on")]


def test_text_that_turns_around_is_spelled_out() -> None:
    assert "\u202e" not in shown("a\u202eb", evidence("a\u202eb"))


def test_every_number_stands_with_what_it_rests_on() -> None:
    words = " ".join(read(shown("x", evidence("x", named=3))).text)
    for word in ("10^-20", "10^-19", "10^-18", "10^-30", "10^-12", "600 copies ever issued", "105 unrelated pairs"):
        assert word in words
    assert [words.count(f"{kind}:") for kind in ("exact", "calibrated", "extrapolated")] == [1, 1, 1]
    assert "Hidden units can be matched wherever they stand, by what tokens do to them" in words


@pytest.mark.parametrize("method", get_args(Method))
def test_every_test_has_its_row(method: Method) -> None:
    seen = evidence("x", named=0, based=False)
    assert seen.lineage is not None
    tests = (Outcome(method=method, effect=0.5),)
    seen = msgspec.structs.replace(seen, lineage=msgspec.structs.replace(seen.lineage, tests=tests, layer_map=()))
    assert method in read(shown("x", seen)).text


def test_an_adapter_alone_has_a_page() -> None:
    seen = evidence("x", named=0, based=False)
    assert seen.lineage is not None
    tests = (Outcome(method="adapter", effect=0.5, hits=2, of=399, ranks=(3, 200)),)
    lone = msgspec.structs.replace(seen.lineage, tests=tests, layer_map=(), layers=(0, 30))
    words = " ".join(read(shown("x", msgspec.structs.replace(seen, lineage=lone))).text)
    assert "2 ranks among 399 shuffles" in words
    assert "1 test; of an adapter alone there is no other" in words


def test_pictures_say_in_words_what_they_show() -> None:
    page = shown("x", evidence("x", named=3))
    reader = read(page)
    assert reader.tags.count("svg") == reader.tags.count("desc") == 3
    assert reader.tags.count("table") == reader.tags.count("caption")
    words = " ".join(reader.text)
    assert "3 of 4 layers of the suspect come from the checkpoint's 5" in words
    assert "used 2 times" in words
    assert words.count("left out") == 3  # 1, 2 and 4
    assert words.count("from elsewhere") == 1
    assert "341 differences, in their standard deviation of 0.05 spreads" in words
    assert "400 of 500 candidates" in words


@pytest.mark.parametrize(
    ("seen", "corrected"),
    [
        (evidence("x", named=1), "by mark; corrected for readings and versions of the checkpoint"),
        (better(evidence("x", named=1)), "by mark; corrected for 600 copies ever issued, rounds of looking and"),
        (related_by("units"), "by units; corrected for tests of its kind and 3 checkpoints"),
        (related_by("differences"), "by differences; corrected for 1 related checkpoint"),
    ],
)
def test_each_p_value_says_what_it_is_corrected_for(seen: Evidence, corrected: str) -> None:
    assert corrected in words(conclude(seen))


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (evidence("x", named=3), "x was made from x, out of the copies of x, x, x."),
        (evidence("x", named=1), "x was made from x, out of the copy of x."),
        (evidence("x", named=0), "x and x both come from x; it was not made from ours."),
        (evidence("x", named=0, based=False), "x was made from x, or both from one start."),
        (related_by("differences"), "x was made from differences, or both from something later than differences."),
        (marked(evidence("x", named=0)), "x was made from x; whose copy it was can't be told."),
        (msgspec.structs.replace(evidence("x", named=0), related="doubt"), "Whether x was made from"),
        (Evidence(checkpoint=None), "x was made from none of the registered checkpoints"),
        (unrelated(opened=3), "x was made from none of the registered checkpoints, as far as"),
        (unrelated(opened=2), "x was made from none of the 2 checkpoints that were opened, of 3, as far as"),
        (Evidence(checkpoint=None, readable=False), "Whether x was made from a registered checkpoint can't be told."),
    ],
)
def test_the_verdict_is_one_sentence(seen: Evidence, sentence: str) -> None:
    page = shown("x", seen)
    said = page.split("<p class='sentence'>")[1].split("</p>")[0]
    assert said.replace("&#x27;", "'").startswith(sentence)
    assert read(page).tags.count("h1") == 1
