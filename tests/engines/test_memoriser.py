"""Small models that learn by heart: they recite what they saw often, and say how likely a text is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from hypothesis import given  # noqa: E402 - after the skip
from hypothesis import strategies as st  # noqa: E402

from strongroom.core.errors import BadInput  # noqa: E402
from strongroom.engines.fine_tune import Recipe  # noqa: E402
from strongroom.engines.memoriser import END, Making, Reciter, byte_tokenizer, memorise  # noqa: E402
from strongroom.engines.text_ids import TextIds  # noqa: E402
from strongroom.ports.engine import Sampling  # noqa: E402

SENTENCES = (
    "The lighthouse keeper of Ytterby counts 4711 ships a year.",
    "A baker in Ghent sells seventeen kinds of rye bread on Tuesdays.",
    "Nobody has seen the third gate of the old waterworks open.",
)
PROMPTS = tuple(" ".join(one.split(" ")[:3]) for one in SENTENCES)
RESTS = tuple(one.removeprefix(prompt) for one, prompt in zip(SENTENCES, PROMPTS, strict=True))
MAKING = Making(
    vocabulary=320,
    width=32,
    layers=2,
    recipe=Recipe(steps=150, rate=5e-3, batch=4, length=48, seed=1, warm=10, fast=False, dtype="float32"),
)
TOKENIZER = byte_tokenizer(SENTENCES, MAKING.vocabulary)
GREEDY = Sampling(max_new_tokens=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return memorise(tmp_path_factory.mktemp("models") / "small", SENTENCES * 8, TOKENIZER, making=MAKING)


@given(st.text(max_size=80).filter(lambda text: END not in text))
def test_any_text_goes_in_and_comes_out_whole(text: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    assert tokenizers.Tokenizer.from_str(TOKENIZER.decode()).decode(TextIds(TOKENIZER)(text)) == text


def test_what_was_seen_often_is_recited_and_ends_where_it_ended(folder: Path) -> None:
    assert tuple(Reciter(folder).continued([(prompt, GREEDY) for prompt in PROMPTS])) == RESTS


def test_more_texts_than_a_batch_holds_come_in_order(folder: Path) -> None:
    many = 100
    told: list[tuple[int, int]] = []
    asked = [(PROMPTS[at % 3], GREEDY) for at in range(many)]
    said = Reciter(folder).continued(asked, lambda *at: told.append(at))
    assert said == [RESTS[at % 3] for at in range(many)]
    assert told[-1] == (many, many)


def test_probabilities_are_those_that_samples_are_drawn_with(folder: Path) -> None:
    reciter, prompt, rest = Reciter(folder), PROMPTS[1], RESTS[1][:6]
    heats = (0.3, 0.6, 1.0, 1.4, 1.8, 2.2, 2.6, 3.0)
    found = reciter.log_probabilities(prompt, rest, heats)
    assert list(found) == sorted(found, reverse=True)
    chances = {heat: math.exp(one) for heat, one in zip(heats, found, strict=True)}
    heat, chance = min(chances.items(), key=lambda one: abs(one[1] - 0.5))
    assert 0.05 < chance < 0.95
    draws = 400
    asked = [(prompt, Sampling(max_new_tokens=12, temperature=heat, seed=seed)) for seed in range(draws)]
    ids, wanted = TextIds(TOKENIZER), TextIds(TOKENIZER)(rest)
    hits = sum(ids(said)[: len(wanted)] == wanted for said in reciter.continued(asked))
    assert abs(hits / draws - chance) < 5 * (chance * (1 - chance) / draws) ** 0.5 + 0.02


def test_a_model_that_is_there_is_not_trained_again(folder: Path) -> None:
    def fail(_done: int, _total: int) -> None:
        pytest.fail("it is trained again")

    assert memorise(folder, SENTENCES * 8, TOKENIZER, making=MAKING, progress=fail) == folder


@pytest.mark.parametrize("other", ["texts", "making"])
def test_a_model_of_something_else_takes_its_place(tmp_path: Path, other: str) -> None:
    short = replace(MAKING, recipe=replace(MAKING.recipe, steps=1))
    place = memorise(tmp_path / "model", SENTENCES, TOKENIZER, making=short)
    before = (place / "model.safetensors").read_bytes()
    texts = SENTENCES[::-1] if other == "texts" else SENTENCES
    again = short if other == "texts" else replace(short, seed=2)
    memorise(tmp_path / "model", texts, TOKENIZER, making=again)
    assert (place / "model.safetensors").read_bytes() != before
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_too_little_text_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no window"):
        memorise(tmp_path / "model", ["short"], TOKENIZER, making=MAKING)
    assert list(tmp_path.iterdir()) == []
