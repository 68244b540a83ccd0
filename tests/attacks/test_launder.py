"""The attack by laundering: what is registered, how a trace is judged, and that a run which was cut short goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from strongroom.core.errors import BadInput

launder = pytest.importorskip("strongroom.attacks.launder")

from strongroom.attacks import laundering, symmetries  # noqa: E402 - after the skip
from strongroom.attacks.bodies import body_of  # noqa: E402
from strongroom.attacks.launder_lab import Lab  # noqa: E402
from strongroom.attacks.leaker import ADAPTERS, CONTINUING, TUNING  # noqa: E402
from strongroom.attacks.rows import LaunderRow  # noqa: E402
from strongroom.attacks.siblings import SIBLINGS  # noqa: E402
from strongroom.attacks.steps import STEPS, Expected, is_derived  # noqa: E402
from strongroom.attacks.suspects import cases, chosen  # noqa: E402
from strongroom.attacks.triples import ADVERSARIAL, PLAIN, TRIPLES  # noqa: E402
from strongroom.engines.folder import Folder  # noqa: E402
from strongroom.engines.reference_host import HEALING  # noqa: E402
from strongroom.lineage.findings import Finding  # noqa: E402
from tests.engines.models import write_plain  # noqa: E402

SILENT = {"units", "scales", "heads", "coordinates", "rotation"}
ROW = LaunderRow(
    attack="copy",
    expected="match",
    verdict="match",
    checkpoint="ours:1",
    log10_p=-99.0,
    p_kind="exact",
    method="units",
    effect=1.0,
    expected_named="right",
    named="right",
    derivation=("copy: as issued",),
    expected_derivation=("copy",),
    derivation_right=True,
    perplexity=0.001,
    seconds=2.5,
)


def silent(_what: str, _done: int, _total: int) -> None:
    """Watch nothing."""


def test_forty_chains_are_registered() -> None:
    assert len(set(TRIPLES)) == len(TRIPLES) == 40
    assert len(ADVERSARIAL) == 10
    for chain in TRIPLES:
        assert all(step in STEPS for step in chain)
        assert all(STEPS[step].trained is None for step in chain[1:])  # a trained step takes the copy's place
        assert set(chain) - SILENT  # each loses something
    assert all(len(SILENT & set(chain)) == 2 for chain in ADVERSARIAL)
    assert {step for chain in TRIPLES for step in chain} >= set(STEPS) - {"copy", "float32", "fp8"}
    assert {chain[0] for chain in PLAIN} >= {name for name, step in STEPS.items() if step.trained}


def test_every_suspect_has_a_name_of_its_own_and_an_expectation() -> None:
    every = cases()
    assert len({one.name for one in every}) == len(every)
    for one in every:
        assert (one.expected == "match") == bool(one.derivation)
        assert one.expected == "match" or not one.is_named
    strangers = [one for one in every if one.expected == "no_match"]
    siblings = [one for one in every if one.name.startswith("sibling-")]
    assert len(strangers) >= 10
    assert len(siblings) >= 5
    assert {one.expected for one in siblings} == {"common_ancestor"}
    assert [one.name for one in chosen(["q4_0", "copy"])] == ["copy", "q4_0"]


def test_recipes_are_those_that_are_claimed() -> None:
    assert TUNING.steps >= 300
    assert CONTINUING.steps >= 300
    assert {one.rank for one in ADAPTERS.values()} == {8, 16}
    assert replace(SIBLINGS["twin"].recipe, seed=HEALING.seed) == HEALING
    seeds = [one.recipe.seed for one in SIBLINGS.values()] + [HEALING.seed, TUNING.seed, CONTINUING.seed]
    assert len(set(seeds)) == len(seeds)


def found(kind: str, detail: str = "", **figures: float) -> Finding:
    return Finding(kind=kind, detail=detail, evidence="", figures=figures)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("step", "finding", "right"),
    [
        ("q4_0", found("quantised", "Q4_0, blocks of 32", block=32), True),
        ("q4_0", found("quantised", "Q4_1, blocks of 32", block=32), False),
        ("q4_0", found("quantised", "Q4_0, blocks of 64", block=64), False),
        ("q4_0", found("cast", "Q4_0", block=32), False),
        ("prune-50", found("pruned", "52 %", share=0.52), True),
        ("prune-50", found("pruned", "80 %", share=0.8), False),
        ("prune-50", found("pruned", "some"), False),
        ("lora-8", found("lora", "rank 8", rank=8), True),
        ("lora-8", found("fine_tuned", "rank 8", rank=8), False),
        ("shrink-32768", found("vocabulary_changed", "", tokens=-16384), True),
        ("shrink-32768", found("vocabulary_changed", "", tokens=16384), False),
        ("fp8", found("cast", "float8 (E4M3), kept in bfloat16"), True),
        ("fine-tune-300", found("fine_tuned", "anything"), True),
    ],
)
def test_a_finding_must_name_kind_and_parameter(step: str, finding: Finding, *, right: bool) -> None:
    expected = STEPS[step].expected
    assert expected.is_said(finding) == right
    assert is_derived([finding], [expected]) == right
    assert not is_derived([finding, found("noised", sigma=0.1)], [expected])  # what was not done must not be said
    assert is_derived([finding, found("cast", "bfloat16")], [expected]) == right
    assert not is_derived([], [expected])


def test_an_expectation_can_be_read() -> None:
    assert str(STEPS["q4_0"].expected) == "quantised(Q4_0, block 32)"
    assert str(STEPS["rotation"].expected) == "rotated"
    assert str(Expected(("permuted", "rotated"))) == "permuted|rotated"


def test_a_row_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such row"):
        launder.run(tmp_path, only=["everything"], tokens=0, progress=silent)
    assert list(tmp_path.iterdir()) == []


def test_kept_rows_are_not_made_again(tmp_path: Path) -> None:
    lines = [
        asdict(replace(ROW, verdict="no_match")),  # of an earlier run
        {"attack": "q4_0"},  # of an earlier version
        asdict(ROW),
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + json.dumps(asdict(ROW))[:50]  # cut off
    (tmp_path / launder.ROWS).write_text(text)
    told: list[tuple[str, int, int]] = []
    rows = launder.run(tmp_path, only=["copy"], tokens=0, progress=lambda *at: told.append(at))
    assert rows == [ROW]
    assert told == [("suspects", 0, 1), ("suspects", 1, 1)]
    assert [one.name for one in tmp_path.iterdir()] == [launder.ROWS]  # no model was made for it


def test_what_a_suspect_costs_is_taken_on_the_same_text(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "ours")
    lab = Lab(tmp_path, tokens=700, progress=silent)
    lab.__dict__["ours"] = folder  # in place of the reference host, which takes minutes
    body = body_of(folder)
    chance = np.random.default_rng(1)
    assert lab.cost(Folder(folder)) == 0.0
    assert lab.cost(symmetries.rotate(body, chance)) == pytest.approx(0, abs=1e-3)
    noisy = lab.cost(laundering.noise(body, chance, share=3.0))
    assert noisy is not None
    assert abs(noisy) > 1e-3
    cut = lab.cost(laundering.cut_vocabulary(body, chance, size=80))  # other tokens, the same text
    assert cut == pytest.approx(0, abs=0.5)
    assert cut != 0
    assert Lab(tmp_path, tokens=0, progress=silent).cost(body) is None


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_laundered_copy_is_traced_and_others_are_not(tmp_path: Path) -> None:
    ours = ("copy", "q4_0", "rotation+units+q4_0", "part")
    others = ("public-base", "sibling-twin", "tiny-same-order-01")
    rows = {row.attack: row for row in launder.run(tmp_path, only=[*ours, *others], tokens=4096, progress=silent)}
    for name in ours:
        assert (rows[name].verdict, rows[name].checkpoint, rows[name].named) == ("match", "ours:1", "right"), name
        assert rows[name].log10_p < -12, name
    for name in others:
        assert (rows[name].verdict, rows[name].named) == (rows[name].expected, "nobody"), name
    assert abs(rows["copy"].perplexity) < 0.01
    assert 0.1 < rows["q4_0"].perplexity < 0.6
    assert rows["part"].perplexity is None
    assert len((tmp_path / launder.ROWS).read_text().splitlines()) == len(rows)
    assert list((tmp_path / "launder-suspects").iterdir()) == []
    again = launder.run(tmp_path, only=["copy"], tokens=0, progress=silent)
    assert again == [rows["copy"]]
