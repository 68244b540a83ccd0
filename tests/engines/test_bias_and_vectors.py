"""Bias moves what is written and nothing that is shown; vectors are the model's own, whatever else it writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from strongroom.engines import vectors
from strongroom.engines.service import Service
from strongroom.engines.transformers_engine import Engine
from tests.engines.models import WORDS, MemorySource
from tests.ports.asking import Asker, Marks, answer, ask, begin, embed


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def engine(request: pytest.FixtureRequest, make_plain: Callable[..., Path]) -> Engine:
    return Engine.load(MemorySource(make_plain(request.param)))


def answers(engine: Engine, *asked: Any) -> list[Asker]:
    async def go() -> list[Asker]:
        service = Service(engine, Marks())
        heard = [begin(service, one) for one in asked]
        for one in heard:
            await one.ended()
        service.close()
        return heard

    return asyncio.run(go())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_bias_of_100_forces_a_token_and_one_of_minus_100_bans_it(engine: Engine, temperature: float) -> None:
    token = WORDS.index("q")
    forced, plain = answers(
        engine,
        ask(1, logit_bias=((token, 100.0),), temperature=temperature),
        ask(2, temperature=temperature, seed=3),
    )
    assert forced.text == "q" * 8
    banned = tuple((WORDS.index(letter), -100.0) for letter in sorted(set(plain.text)))
    (other,) = answers(engine, ask(3, logit_bias=banned, temperature=temperature, seed=3))
    assert not set(other.text) & set(plain.text)


def test_log_probabilities_are_the_model_s_own_before_any_bias(engine: Engine) -> None:
    """So a biased token shows as the one that was written, and drags none into sight."""
    token = WORDS.index("q")
    plain, biased = answers(
        engine,
        ask(1, top_logprobs=5, max_tokens=1),
        ask(2, top_logprobs=5, max_tokens=1, logit_bias=((token, 100.0),)),
    )
    (one,), (two,) = plain.pieces[0].logprobs, biased.pieces[0].logprobs
    assert two.token == "q"
    assert [(text, raw) for text, raw, _ in one.top] == [(text, raw) for text, raw, _ in two.top]
    assert np.allclose([value for _, _, value in one.top], [value for _, _, value in two.top])


def test_a_bias_moves_nobody_else_s_text(engine: Engine) -> None:
    alone = answers(engine, ask(1, max_tokens=12))[0].text
    beside = answers(engine, ask(1, max_tokens=12), ask(2, max_tokens=12, logit_bias=((20, 50.0),)))[0].text
    assert alone == beside


def test_a_bias_on_a_token_that_there_is_not(engine: Engine) -> None:
    (heard,) = answers(engine, ask(1, logit_bias=((engine.vocabulary, 1.0),)))
    assert heard.code == "bad_prompt"


TEXTS = ["hello there", "x", "a somewhat longer text of fifty letters, or nearly so"]


def mean_state(engine: Engine, text: str) -> Any:
    with torch.inference_mode():
        model: Any = engine.model
        hidden = model(torch.tensor([engine.tokens.encode(text)]), output_hidden_states=True).hidden_states[-1][0]
    return torch.nn.functional.normalize(hidden.float().mean(0), dim=0).numpy()


def unpacked(heard: Asker) -> Any:
    made = heard.embedded
    return np.frombuffer(made.vectors, "<f4").reshape(-1, made.width)


@pytest.mark.parametrize("chunk", [128, 5])
def test_vectors_are_the_mean_of_the_last_hidden_states(
    engine: Engine, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK", chunk)
    heard, writing = answers(engine, embed(*TEXTS), ask(1, max_tokens=20))
    assert np.allclose(unpacked(heard), [mean_state(engine, text) for text in TEXTS], atol=1e-4)
    assert heard.embedded.prompt_tokens == sum(len(engine.tokens.encode(text)) for text in TEXTS)
    assert writing.text == answers(engine, ask(1, max_tokens=20))[0].text


@pytest.mark.parametrize(
    ("texts", "choice", "code"),
    [
        (["a" * 65], {}, "prompt_too_long"),
        (["a" * 20, "a" * 20], {"budget": 39}, "prompt_too_long"),
        (["a", ""], {}, "bad_prompt"),
    ],
)
def test_texts_that_there_is_no_room_for(engine: Engine, texts: Sequence[str], choice: Any, code: str) -> None:
    (heard,) = answers(engine, embed(*texts, **choice))
    assert heard.code == code


def test_a_model_that_fails_fails_the_texts_and_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        service = Service(engine, Marks())
        with monkeypatch.context() as patch:
            patch.setattr(vectors.Vectors, "step", lambda _: 1 / 0)
            assert (await answer(service, embed("a"))).code == "failed"
        assert (await answer(service, embed("a", number=1))).embedded.width == 32
        service.close()
        assert (await answer(service, embed("a", number=2))).code == "unavailable"

    asyncio.run(go())


def test_a_cancel_is_heard(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    step = vectors.Vectors.step

    def slowly(made: vectors.Vectors) -> bool:
        time.sleep(0.02)
        return step(made)

    monkeypatch.setattr(vectors.Vectors, "step", slowly)

    async def go() -> None:
        service = Service(engine, Marks())
        gone = begin(service, embed(*TEXTS * 20, budget=100_000))
        await asyncio.sleep(0.1)
        service.cancel("r0")
        assert (await answer(service, embed("a", number=1))).embedded
        assert gone.heard == []
        service.close()

    asyncio.run(go())
