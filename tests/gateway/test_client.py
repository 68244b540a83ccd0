"""OpenAI's official client, unchanged, against the real gateway process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.gateway.house import KEY, MODEL, Gateway, account, chat, house


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**chat("say 3"), max_tokens=10, temperature=0.5, seed=1, stop=["x"])
    assert answer.choices[0].message.content == "w0 w1 w2 "
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 3, 5)


def test_its_own_answer_can_be_sent_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(**chat("say 1"))
    turns = [{"role": "user", "content": "a"}, first.choices[0].message, {"role": "user", "content": "say 2"}]
    again = client.chat.completions.create(model=MODEL, messages=turns)  # type: ignore[arg-type]
    assert again.choices[0].message.content == "w0 w1 "


def test_a_stream_with_usage(client: openai.OpenAI) -> None:
    events = list(client.chat.completions.create(**chat("say 3"), stream=True, stream_options={"include_usage": True}))
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in events[:-1]) == "w0 w1 w2 "
    assert [one.choices[0].finish_reason for one in events[:-1]] == [None] * 4 + ["stop"]
    assert events[-1].choices == []
    assert events[-1].usage is not None
    assert events[-1].usage.total_tokens == 5
    assert all(one.usage is None and "usage" in one.model_fields_set for one in events[:-1])


def test_a_stream_without_usage(client: openai.OpenAI) -> None:
    events = list(client.chat.completions.create(**chat("say 2"), stream=True))
    assert all(one.choices for one in events)
    assert not any("usage" in one.model_fields_set for one in events)


def test_the_helper_for_streams(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=[{"role": "user", "content": "say 4"}]) as stream:
        assert stream.get_final_completion().choices[0].message.content == "w0 w1 w2 w3 "


def test_legacy_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="say 3", logprobs=2)
    assert answer.choices[0].text == "w0 w1 w2 "
    shown = answer.choices[0].logprobs
    assert shown is not None
    assert shown.tokens == ["w"] * 3
    assert shown.text_offset == [0, 1, 2]
    assert shown.token_logprobs == [-9999.0] * 3
    assert shown.top_logprobs == [{"t0": -0.1235, "t1": -1.1235}] * 3
    assert len(client.completions.create(model=MODEL, prompt="say 99").choices[0].text.split()) == 16
    events = list(client.completions.create(model=MODEL, prompt="say 2", stream=True))
    assert "".join(one.choices[0].text for one in events) == "w0 w1 "


def test_chat_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**chat("say 1"), logprobs=True, top_logprobs=2)
    shown = answer.choices[0].logprobs
    assert shown is not None
    assert shown.content is not None
    assert [one.token for one in shown.content[0].top_logprobs] == ["t0", "t1"]
    assert shown.content[0].bytes == [119]


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        ("fail bad_prompt", openai.BadRequestError, "bad_prompt"),
        ("fail prompt_too_long", openai.BadRequestError, "prompt_too_long"),
        ("fail busy", openai.RateLimitError, "busy"),
        ("fail unavailable", openai.InternalServerError, "engine_unavailable"),
        ("fail mark_unavailable", openai.InternalServerError, "mark_unavailable"),
        ("fail failed", openai.InternalServerError, "engine_failed"),
        ("fail what_is_this", openai.InternalServerError, "engine_failed"),
        ("die 2", openai.InternalServerError, "engine_failed"),
    ],
)
def test_engine_errors(client: openai.OpenAI, script: str, error: type[openai.APIStatusError], code: str) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**chat(script))
    assert caught.value.code == code
    assert caught.value.request_id
    assert caught.value.request_id.startswith("req_")


def test_an_engine_that_dies_in_mid_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(**chat("die 3"), stream=True)
    seen = [next(stream).choices[0].delta.content or "" for _ in range(4)]
    with pytest.raises(openai.APIError, match="failed while it wrote") as caught:
        next(stream)
    assert "".join(seen) == "w0 w1 w2 "
    assert caught.value.code == "engine_failed"


def test_wrong_keys_and_models(gateway: Gateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=f"{gateway.base}/v1", api_key="x") as other:
        other.chat.completions.create(**chat("say 1"))
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "say 1"}])
    assert caught.value.code == "model_not_found"


def test_the_client_gives_up_in_time(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=0, timeout=0.3)
    with client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**chat("hang"))


def test_the_client_comes_back_when_it_is_told(tmp_path: Path) -> None:
    def prepare(control: object) -> None:
        control.accounts = [account(rpm=1)]  # type: ignore[attr-defined]

    with house(tmp_path, prepare=prepare) as (gateway, _):
        with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=0) as client:
            client.chat.completions.create(**chat("say 1"))
            with pytest.raises(openai.RateLimitError) as caught:
                client.chat.completions.create(**chat("say 1"))
        wait = caught.value.response.headers["retry-after"]
        assert 55 <= int(wait) <= 61


def test_it_retries_what_is_busy(gateway: Gateway) -> None:
    start = time.monotonic()
    client = openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=1)
    with client, pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**chat("fail busy"))
    assert 0.9 < time.monotonic() - start < 5  # retry-after of one second was honoured


def test_many_at_once_with_the_async_client(gateway: Gateway) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        stream = await client.chat.completions.create(**chat(f"say {number}"), stream=True)
        return "".join([event.choices[0].delta.content or "" async for event in stream])

    async def run() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=0) as client:
            return await asyncio.gather(*[one(client, number) for number in range(1, 15)])

    found = asyncio.run(run())
    assert [len(text.split()) for text in found] == list(range(1, 15))
