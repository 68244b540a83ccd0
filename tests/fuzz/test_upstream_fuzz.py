"""What an upstream server sends, bent at will: read as answers of which one is the last, or refused by known errors."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.backends.http_answers import reading
from strongroom.core.errors import InputTooLarge
from strongroom.ports.completions import Answer, Ask, Ended, Failed

ASK = Ask(id="r", account="a", model="m", prompt="p", max_tokens=4, budget=9, top_logprobs=1)
TOKEN = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
CHUNKS = [
    {"choices": [{"text": "a", "logprobs": {"content": [TOKEN]}}]},
    {"choices": [{"delta": {"content": "é"}, "finish_reason": None}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
]
STREAM = b"".join(b"data: " + json.dumps(one, ensure_ascii=False).encode() + b"\n\n" for one in CHUNKS)
STREAM += b"data: [DONE]\n\n"
BODIES = {b"text/event-stream": STREAM, b"application/json": json.dumps(CHUNKS[2]).encode()}
EXPECTED = (msgspec.MsgspecError, InputTooLarge, UnicodeDecodeError, RecursionError)


@pytest.mark.parametrize("kind", BODIES)
@given(data=st.data())
def test_bent_answers(kind: bytes, data: st.DataObject) -> None:
    raw = bytearray(BODIES[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        raw = raw or bytearray(b" ")
    cut = data.draw(st.integers(0, len(raw)))
    said: list[Answer] = []
    reader = reading(ASK, data.draw(st.sampled_from([200, 200, 400, 500])), kind)
    try:
        said += reader.feed(bytes(raw[:cut]))
        said += reader.feed(bytes(raw[cut:]))
        said += reader.end()
    except EXPECTED:
        return
    last = [isinstance(one, Ended | Failed) for one in said]
    assert last.count(True) == 1
    assert last[-1]
