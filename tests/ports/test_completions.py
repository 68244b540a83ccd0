"""The contract of ports.completions: for the engine in this process, over a link, and over HTTP to a stock server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

pytest.importorskip("torch")
pytest.importorskip("transformers")

from strongroom.backends.engine_http import HttpCompletions
from strongroom.backends.engine_link import LinkCompletions
from strongroom.backends.link_unix import listen
from strongroom.core.secrets import Secret
from strongroom.engines.link_server import gateways
from strongroom.engines.service import Service
from strongroom.engines.transformers_engine import Engine
from strongroom.ports.completions import Begun, Completions, Ended, Turn
from tests.backends.stock import stock_server
from tests.engines.models import MemorySource, write_plain
from tests.ports.asking import Asker, Marks, answer, ask, begin, until_ready

SECRET = Secret(b"s" * 32)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine.load(MemorySource(write_plain(tmp_path_factory.mktemp("plain"))))


@asynccontextmanager
async def in_process(engine: Engine, _place: Path) -> AsyncIterator[Completions]:
    service = Service(engine, Marks())
    try:
        yield service
    finally:
        await service.drain(1)


@asynccontextmanager
async def by_link(engine: Engine, place: Path) -> AsyncIterator[Completions]:
    service = Service(engine, Marks())
    listening = await listen(place / "engine", SECRET, gateways(service, service.introduce("tiny:v1")))
    client = LinkCompletions(place / "engine", SECRET)
    await client.start()
    try:
        yield client
    finally:
        client.close()
        listening.close()
        await service.drain(1)


@asynccontextmanager
async def by_http(_engine: Engine, _place: Path) -> AsyncIterator[Completions]:
    client = HttpCompletions(stock_server(), Secret(b"unchecked"), model="smollm2")
    await client.start()
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)  # so that the loop drops what was aborted


KINDS = {"service": in_process, "link": by_link, "http": by_http}


@pytest.fixture(params=sorted(KINDS))
def run(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Callable[..., None]:
    """Run a test against one kind of completions."""

    def run(test: Callable[[Completions], Awaitable[None]]) -> None:
        async def go() -> None:
            async with KINDS[request.param](engine, tmp_path) as completions:
                await until_ready(completions)
                await test(completions)

        # the gateway's loop for what the gateway uses: its transports are not asyncio's own classes
        factory = None if request.param == "service" else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(go())

    return run


def test_an_answer_begins_and_ends(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        asker = await answer(completions, ask(1))
        assert isinstance(asker.heard[0], Begun)
        assert isinstance(asker.heard[-1], Ended)
        assert asker.begun.prompt_tokens in {0, asker.end.prompt_tokens}
        assert asker.end.prompt_tokens > 0
        assert asker.end.finish == "length"
        assert asker.end.completion_tokens == 8 == sum(piece.tokens for piece in asker.pieces)
        assert {one.id for one in asker.heard} == {"r1"}
        assert asker.text
        whole = await answer(completions, ask(2, streamed=False))
        assert (whole.text, whole.end.completion_tokens) == (asker.text, 8)

    run(check)


def test_a_conversation_is_answered(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        turns = (Turn("developer", "Be short."), Turn("user", "hi"))
        for streamed in (True, False):
            asker = await answer(completions, ask(1, turns=turns, streamed=streamed))
            assert asker.end.prompt_tokens > 2
            assert asker.end.completion_tokens > 0

    run(check)


def test_many_at_once_are_kept_apart(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        prompts = ["abc", "The cat", "one two three", "z"]
        alone = [(await answer(completions, ask(n, prompt=one))).text for n, one in enumerate(prompts)]
        askers = [begin(completions, ask(10 + n, prompt=one)) for n, one in enumerate(prompts)]
        together = [(await asker.ended()).text for asker in askers]
        assert together == alone

    run(check)


def test_a_stop_string_is_left_out(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        text = (await answer(completions, ask(1, max_tokens=12))).text
        stop = text[3:6]
        for streamed in (True, False):
            asker = await answer(completions, ask(2, max_tokens=12, stop=(stop,), streamed=streamed))
            assert asker.text == text[: text.find(stop)]
            assert asker.end.finish == "stop"

    run(check)


def test_logprobs_come_with_their_tokens(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        for streamed in (True, False):
            for wanted in ({"prompt": "abc"}, {"turns": (Turn("user", "hi"),)}):
                asker = await answer(completions, ask(1, top_logprobs=2, max_tokens=4, streamed=streamed, **wanted))
                found = [one for piece in asker.pieces for one in piece.logprobs]
                assert all(len(one.top) == 2 and one.logprob <= 0 for one in found)
                assert all(one.top[0][2] == pytest.approx(one.logprob, abs=1e-3) for one in found)
                if (
                    "prompt" in wanted or len(asker.text) > 1
                ):  # a tiny model answers a conversation with special tokens, which have no text
                    assert "".join(one.token for one in found) == asker.text
                    assert b"".join(bytes(one.bytes) for one in found).decode() == asker.text

    run(check)


def test_refusals(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        assert (await answer(completions, ask(1, prompt="x y z" * 2000))).code == "prompt_too_long"
        assert (await answer(completions, ask(2, prompt=""))).code == "bad_prompt"
        assert (await answer(completions, ask(3))).end

    run(check)


def test_a_cancelled_request_is_silent(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        asker = begin(completions, ask(1, max_tokens=60, prompt="a"))
        completions.cancel("r1")
        completions.cancel("nobody")
        assert (await answer(completions, ask(2))).end
        assert asker.heard == []

    run(check)


def test_an_id_twice_at_once_is_refused(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        first, second = begin(completions, ask(1, max_tokens=30)), begin(completions, ask(1))
        assert (await second.ended()).code == "failed"
        assert (await first.ended()).end

    run(check)


def test_close_fails_what_is_open(run: Callable[..., None]) -> None:
    async def check(completions: Completions) -> None:
        asker: Asker = begin(completions, ask(1, max_tokens=60, prompt="a"))
        completions.close()
        assert (await asker.ended()).code == "unavailable"
        assert not completions.ready()
        assert (await answer(completions, ask(2))).code == "unavailable"

    run(check)
