"""The service around the loop: a bounded queue, cancels, marks that must be had, troubles that stay where they are."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from strongroom.core.log import configure
from strongroom.engines.decode import Batch
from strongroom.engines.service import Service
from strongroom.engines.transformers_engine import Engine
from tests.engines.models import MemorySource
from tests.ports.asking import Marks, answer, ask, begin


@pytest.fixture(scope="module")
def engine(make_plain: Callable[..., Path]) -> Engine:
    return Engine.load(MemorySource(make_plain()))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take long enough for a test to act between them."""
    step = Batch.step

    def slowly(batch: Batch) -> list[object]:
        time.sleep(0.02)
        return step(batch)  # type: ignore[return-value]

    monkeypatch.setattr(Batch, "step", slowly)


def test_more_than_fit_wait_their_turn_and_then_it_is_busy(engine: Engine, slow: None) -> None:
    async def go() -> None:
        service = Service(engine, Marks(), max_batch=2, max_waiting=3)
        askers = [begin(service, ask(number, prompt="abc", max_tokens=6)) for number in range(6)]
        for asker in askers:
            await asker.ended()
        assert askers[5].code == "busy"
        assert {asker.text for asker in askers[:5]} == {askers[0].text}
        assert (await answer(service, ask(9))).end.finish
        service.close()

    asyncio.run(go())


def test_a_cancel_frees_the_row_and_nothing_more_is_heard(engine: Engine, slow: None) -> None:
    async def go() -> None:
        service = Service(engine, Marks(), max_batch=1, max_waiting=4)
        first, second = begin(service, ask(1, max_tokens=50)), begin(service, ask(2, max_tokens=3))
        third = begin(service, ask(3))
        await first.spoken()
        service.cancel("r1")
        service.cancel("r3")
        service.cancel("r3")
        heard = len(first.heard)
        assert (await second.ended()).end.completion_tokens <= 3
        await asyncio.sleep(0.1)
        assert len(first.heard) == heard < 40
        assert third.heard == []
        service.close()

    asyncio.run(go())


def test_without_a_mark_nothing_is_written(engine: Engine) -> None:
    async def go() -> None:
        marks = Marks()
        service = Service(engine, marks)
        marked = await answer(service, ask(1, temperature=1.0, seed=4, max_tokens=20))
        assert marked.begun.marked
        assert 0 < marked.end.marked_tokens <= marked.end.completion_tokens - 4
        marks.gone = True
        refused = await answer(service, ask(2, temperature=1.0))
        assert (refused.code, len(refused.heard)) == ("mark_unavailable", 1)
        cold = await answer(service, ask(3))
        assert (cold.begun.marked, cold.end.marked_tokens) == (False, 0)
        service.close()

    asyncio.run(go())


def test_one_seed_and_account_is_one_text_and_another_account_writes_another(engine: Engine) -> None:
    async def go() -> None:
        service = Service(engine, Marks())
        hot = {"temperature": 1.3, "seed": 7, "max_tokens": 30}
        texts = [(await answer(service, ask(n, **hot, account=who))).text for n, who in enumerate(("a", "a", "b"))]
        assert texts[0] == texts[1] != texts[2]
        service.close()

    asyncio.run(go())


def test_a_cancel_while_the_mark_is_fetched(engine: Engine) -> None:
    async def go() -> None:
        marks = Marks()
        marks.slow = 5
        service = Service(engine, marks)
        asker = begin(service, ask(1, temperature=1.0))
        await asyncio.sleep(0)
        service.cancel("r1")
        assert (await answer(service, ask(2))).end
        assert asker.heard == []
        service.close()

    asyncio.run(go())


def test_a_model_that_fails_fails_its_batch_without_a_word_and_the_next_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_batch: Batch) -> None:
        raise RuntimeError("abc: the prompt, in the message of an error")

    async def go() -> None:
        service = Service(engine, Marks())
        with monkeypatch.context() as patch:
            patch.setattr(Batch, "_forward", broken)
            failed = [await answer(service, ask(number)) for number in range(2)]
        assert [(asker.code, asker.heard[-1].message) for asker in failed] == [("failed", "the engine failed")] * 2  # type: ignore[union-attr]
        assert (await answer(service, ask(3))).end
        service.close()

    configure("warning")
    asyncio.run(go())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["code"]) for line in lines] == [("writing failed", "engine.failed")] * 2
    assert "prompt" not in json.dumps(lines)


def test_a_thread_that_ends_fails_everybody(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_batch: Batch) -> None:
        raise RuntimeError("out of order")

    async def go() -> None:
        service = Service(engine, Marks())
        monkeypatch.setattr(Batch, "step", broken)
        assert (await answer(service, ask(1))).code == "unavailable"
        assert not service.ready()
        assert (await answer(service, ask(2))).code == "unavailable"

    asyncio.run(go())


def test_draining_lets_the_open_ones_end_and_takes_no_more(engine: Engine, slow: None) -> None:
    async def go() -> None:
        service = Service(engine, Marks())
        short, long = begin(service, ask(1, max_tokens=4)), begin(service, ask(2, max_tokens=50, prompt="a"))
        draining = asyncio.create_task(service.drain(0.4))
        await asyncio.sleep(0)
        assert (await answer(service, ask(3))).code == "unavailable"
        await draining
        assert (await short.ended()).end
        assert (await long.ended()).code == "unavailable"
        assert not service.ready()

    asyncio.run(go())
