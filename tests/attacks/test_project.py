"""The projection attack: its arithmetic, its stock server's formula, and its thief's books."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

project = pytest.importorskip("strongroom.attacks.project")

from strongroom.attacks.project_doors import Purse  # noqa: E402 - after the skip
from strongroom.attacks.project_lab import ATTACKS, Lab  # noqa: E402
from strongroom.attacks.project_plans import Bisected, Catch, Lifted, Plan, by_number, echoed, whole  # noqa: E402
from strongroom.attacks.project_policy import Bare, Policed  # noqa: E402
from strongroom.attacks.project_thief import go_on  # noqa: E402
from strongroom.attacks.project_wire import Query  # noqa: E402
from strongroom.attacks.projection import block, cliff, estimate, last_layer_error, vector_rank  # noqa: E402
from strongroom.attacks.stock_logits import Places  # noqa: E402
from strongroom.core.errors import BadInput  # noqa: E402
from strongroom.serving.disclosure.tiers import TIERS  # noqa: E402
from tests.attacks.project_places import PROMPTS, SIDE, VOCABULARY, WIDTH, aim, lab_in, product  # noqa: E402


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_in(tmp_path_factory.mktemp("places"))


# ── arithmetic ───────────────────────────────────────────────────────────────────────────────────────────────────────
@given(width=st.integers(10, 40), seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_the_cliff_is_at_the_hidden_size(width: int, seed: int) -> None:
    logits, _ = product(width, rows=2 * width, tokens=2 * width, seed=seed)
    size, gap = cliff(logits)
    assert size == width
    assert gap > 1e3


def test_a_matrix_no_larger_than_the_hidden_size_tells_nothing() -> None:
    logits, _ = product(64, rows=48, tokens=48)
    assert cliff(logits)[0] != 64
    assert cliff(logits[:8, :8]) == (0, 0.0)


def test_rounding_is_no_guard_and_noise_is_one_for_a_while() -> None:
    logits, _ = product(24, rows=128, tokens=128)
    noise = np.random.default_rng(3).normal(size=logits.shape)
    assert cliff(np.round(logits, 3))[0] == 24
    assert cliff(logits + 0.01 * noise)[0] == 24
    assert cliff(logits + 3.0 * noise)[1] < 1.5


def test_a_number_a_prompt_does_not_hide_the_size() -> None:
    logits, _ = product(20, rows=60, tokens=50)
    shifted = logits - np.random.default_rng(2).normal(size=(60, 1)) * 30
    found = estimate({row: dict(enumerate(values)) for row, values in enumerate(shifted.tolist())})
    assert (found.prompts, found.tokens, found.size) == (60, 50, 20)
    assert found.is_found(20)
    assert not found.is_found(21)
    assert not replace(found, gap=1.49).is_found(20)


@given(st.integers(3, 12), st.integers(3, 12), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_block_has_no_hole(rows: int, tokens: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    seen = {row: {token: 0.0 for token in range(20) if token < tokens or draw.random() < 0.2} for row in range(rows)}
    chosen, common = block(seen)
    assert all(token in seen[row] for row in chosen for token in common)
    assert min(len(chosen), len(common)) >= min(rows, tokens)


def test_vectors_tell_their_rank_and_the_last_layer() -> None:
    logits, states = product(20, rows=60)
    assert vector_rank(states)[0] == 20
    assert vector_rank(states[:15]) == (0, 0.0)
    assert last_layer_error(states, logits) < 1e-9
    assert last_layer_error(states[:, :10], logits) > 0.1


# ── the stock server ─────────────────────────────────────────────────────────────────────────────────────────────────
@given(
    row=st.integers(0, PROMPTS - 1),
    bias=st.dictionaries(st.integers(0, VOCABULARY - 1), st.floats(-100, 100), max_size=40),
    count=st.integers(1, 20),
)
@settings(max_examples=150, deadline=None)
def test_the_grouped_formula_is_the_softmax(row: int, bias: dict[int, float], count: int) -> None:
    logits, states = product(WIDTH)
    places = Places(
        logits.astype(np.float32),
        states.astype(np.float32),
        names=[str(token) for token in range(VOCABULARY)],
        prompts=[str(one) for one in range(PROMPTS)],
    )
    biased = logits.astype(np.float32).astype(np.float64)[row]
    for token, added in bias.items():
        biased[token] += added
    expected = biased - biased.max() - np.log(np.exp(biased - biased.max()).sum())
    found = places.likeliest(row, list(bias.items()), count)
    assert len(found) == count
    assert [value for _, value in found] == pytest.approx(np.sort(expected)[::-1][:count].tolist(), abs=1e-8)
    assert [value for _, value in found] == pytest.approx([expected[token] for token, _ in found], abs=1e-8)


# ── the thief ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("plan", [Lifted(5), Lifted(20), Lifted(20, repeats=2, dither=True), by_number, echoed, whole])
def test_every_way_finds_the_size_without_a_guard(lab: Lab, plan: Plan) -> None:
    purse, catch = Purse(Bare(lab.places)), Catch()
    plan(purse, aim(lab), catch)
    assert estimate(catch.seen()).is_found(WIDTH)
    assert purse.refused == 0


def test_bisection_finds_logits_without_log_probabilities(lab: Lab) -> None:
    purse, catch, wanted = Purse(Bare(lab.places)), Catch(), aim(lab, 4)
    Bisected(14)(purse, wanted, catch)
    assert purse.queries == 4 * (SIDE - 1) * 14
    for row in wanted.rows:
        truth = lab.places.logits[row].astype(float)
        for token, value in catch.row(row).items():
            assert value == pytest.approx(truth[token] - truth[wanted.tokens[0]], abs=20 / 2**13)


def test_a_purse_counts_what_is_refused_and_ends(lab: Lab) -> None:
    purse = Purse(Policed(lab.places, TIERS["standard"], lab.codec), most=30)
    plain, lifted = Query("chat", 0, top=5), Query("chat", 0, ((1, 100.0),), 5)
    purse.ask([plain, plain, lifted])
    assert (purse.queries, purse.refused, purse.first_refused) == (3, 1, 3)
    assert len(purse.ask([plain] * 100)) == 27
    assert (purse.queries, purse.left) == (30, 0)
    assert purse.ask([plain]) == []
    assert purse.codes == {"403 not_in_tier": 1}


def test_what_is_joined_agrees_with_what_was_known() -> None:
    catch = Catch()
    catch.join(0, [(1, -1.0), (2, -2.0)])
    catch.join(0, [(2, -7.0), (3, -9.0)])
    assert catch.row(0) == {1: -1.0, 2: -2.0, 3: -4.0}
    catch.join(0, [(8, -1.0), (9, -2.0)])  # nothing in common: which number belongs to it is not known
    assert set(catch.row(0)) == {1, 2, 3}


def test_repeats_are_averaged() -> None:
    catch = Catch()
    for value in (1.0, 2.0, 6.0):
        catch.note(4, [(7, value)])
    assert catch.seen() == {4: {7: 3.0}}


@pytest.mark.parametrize("tier", ["closed", "standard", "trusted"])
def test_the_thief_spends_his_purse_and_stays_below_the_days_sets(lab: Lab, tier: str) -> None:
    purse, catch = Purse(Policed(lab.places, TIERS[tier], lab.codec), most=3000), Catch()
    Lifted(5)(purse, aim(lab), catch)
    assert not catch.seen()  # a bias of 100 beside log probabilities is refused
    go_on(purse, aim(lab), catch)
    assert purse.queries == (3000 if tier != "closed" else purse.queries)
    most = max((len(values) for values in catch.seen().values()), default=0)
    shown = TIERS[tier].top_logprobs
    assert most <= max(0, shown) * (TIERS[tier].bias_sets + 1)
    assert bool(catch.seen()) == (shown > 0)


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_name_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="top-5"):
        project.run(tmp_path, only=["nonsense"], progress=lambda *_: None)


def test_rows_are_kept_and_made_again_only_when_asked(
    tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = next(one for one in ATTACKS if one.name == "top-20")
    monkeypatch.setattr(project, "ATTACKS", (replace(attack, side=SIDE, is_live=False),))
    monkeypatch.setattr(project._Labs, "get", lambda *_: lab)
    first = project.run(tmp_path, only=["top-20"], progress=lambda *_: None)
    assert [(row.guard, row.found) for row in first.rows] == [("none", True), ("standard", False), ("trusted", False)]
    assert first.benign == first.agreement == ()
    kept = (tmp_path / "project-rows.jsonl").read_text()
    (tmp_path / "project-rows.jsonl").write_text(kept + '{"cut')
    assert project.run(tmp_path, only=["top-20"], progress=lambda *_: None) == first
    project.run(tmp_path, only=["top-20"], fresh=True, progress=lambda *_: None)
    assert (tmp_path / "project-rows.jsonl").read_text().count('"trusted"') == 2
