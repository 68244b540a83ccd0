"""Bodies in OpenAI's format: what is taken, what is refused, and that a refusal quotes no value."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.ports.completions import ENGINE_CODES, TokenLogprob
from strongroom.ports.engine import Sampling
from strongroom.serving.wire import Wanted, read_acceptance, read_chat, read_text
from strongroom.serving.wire_answers import Frames, Totals
from strongroom.serving.wire_errors import KINDS, OF_ENGINE, Refusal, document, refuse

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi"}


def chat(raw: Any) -> Wanted | Refusal:
    return read_chat(raw if isinstance(raw, bytes) else json.dumps(raw).encode(), default_tokens=1024)


def text(raw: Any) -> Wanted | Refusal:
    return read_text(raw if isinstance(raw, bytes) else json.dumps(raw).encode())


TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_tokens": ({"max_tokens": 5}, {"max_tokens": 5}),
    "max_completion_tokens": ({"max_completion_tokens": 6}, {"max_tokens": 6}),
    "temperature": ({"temperature": 0}, {"temperature": 0.0}),
    "top_p": ({"top_p": 0.5}, {"top_p": 0.5}),
    "stop": ({"stop": "x"}, {"stop": ("x",)}),
    "stops": ({"stop": ["x", "y"]}, {"stop": ("x", "y")}),
    "stream": ({"stream": True}, {"stream": True}),
    "usage": ({"stream": True, "stream_options": {"include_usage": True}}, {"include_usage": True}),
    "padding": ({"stream": True, "stream_options": {"include_obfuscation": True}}, {"include_usage": False}),
    "logprobs": ({"logprobs": True}, {"top_logprobs": 0}),
    "top_logprobs": ({"logprobs": True, "top_logprobs": 5}, {"top_logprobs": 5}),
    "no logprobs": ({"logprobs": False}, {"top_logprobs": None}),
    "nearly cold": ({"temperature": 1e-4}, {"temperature": 1e-4}),
    "as good as cold": ({"temperature": 9e-5}, {"temperature": 0.0}),
    "least top_p": ({"top_p": 1e-6}, {"top_p": 1e-6}),
    "bias": ({"logit_bias": {"7": -2, "5": 1.5, "6": 0}}, {"logit_bias": ((5, 1.5), (7, -2.0)), "biased": 3}),
    "seed": ({"seed": 0}, {"seed": 0}),
    "last seed": ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}),
    "n": ({"n": 1}, {}),
    "user": ({"user": "u"}, {}),
    "format": ({"response_format": {"type": "text"}}, {}),
    "nulls": (dict.fromkeys(("max_tokens", "temperature", "top_p", "stop", "stream", "seed", "n", "user")), {}),
    "parts": ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}, {}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_every_field_reaches_the_engine(name: str) -> None:
    more, wanted = TAKEN[name]
    found = chat(CHAT | more)
    assert isinstance(found, Wanted)
    assert {field: getattr(found, field) for field in wanted} == wanted
    plain = chat(CHAT)
    changed = {field for field in Wanted.__struct_fields__ if getattr(found, field) != getattr(plain, field)}
    assert changed - {"room", "turns", "stream"} <= set(wanted)


REFUSED: dict[str, tuple[Any, str, str | None]] = {
    **{
        f"field {name}": (CHAT | {name: value}, "unsupported_parameter", name)
        for name, value in {
            "tools": [], "functions": [], "prediction": {}, "store": True, "top_k": 5,
            "watermarking": False, "vllm_xargs": {}, "n_probs": 9, "grammar": "x", "prompt_logprobs": 1, "echo": True,
            "allowed_token_ids": [1], "metadata": {}, "n": 2, "response_format": {"type": "json_object"},
            "guided_json": {}, "prompt_logprob_token_ids": [1], "reasoning_effort": "low", "best_of": 1,
        }.items()
    },
    "in a message": (CHAT | {"messages": [{"role": "user", "content": "x", "name": "y"}]}, "unsupported_parameter",
                     "messages[0].name"),
    "in options": (CHAT | {"stream": True, "stream_options": {"x": 1}}, "unsupported_parameter", "stream_options.x"),
    "no model": ({"messages": CHAT["messages"]}, "missing_parameter", "model"),
    "no messages": ({"model": "m"}, "missing_parameter", "messages"),
    "empty messages": (CHAT | {"messages": []}, "invalid_value", "messages"),
    "tool role": (CHAT | {"messages": [{"role": "tool", "content": "x"}]}, "invalid_value", "messages[0].role"),
    "no content": (CHAT | {"messages": [{"role": "user", "content": None}]}, "invalid_value", "messages[0].content"),
    "image": (CHAT | {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]},
              "invalid_value", "messages[0].content[0].type"),
    "hot": (CHAT | {"temperature": 2.1}, "invalid_value", "temperature"),
    "cold": (CHAT | {"temperature": -1}, "invalid_value", "temperature"),
    "top_p": (CHAT | {"top_p": 0}, "invalid_value", "top_p"),
    "tiny top_p": (CHAT | {"top_p": 9e-7}, "invalid_value", "top_p"),
    "top_p over 1": (CHAT | {"top_p": 1.01}, "invalid_value", "top_p"),
    "negative seed": (CHAT | {"seed": -1}, "invalid_value", "seed"),
    "seed over 63 bits": (CHAT | {"seed": 2**63}, "invalid_value", "seed"),
    "five stops": (CHAT | {"stop": ["a"] * 5}, "invalid_value", "stop"),
    "empty stop": (CHAT | {"stop": ""}, "invalid_value", "stop"),
    "21 logprobs": (CHAT | {"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
    "bias beyond": (CHAT | {"logit_bias": {"1": 101}}, "invalid_value", "logit_bias[...]"),
    "bias as a list": (CHAT | {"logit_bias": [[1, 5]]}, "invalid_value", "logit_bias"),
    "bias as a ban": (CHAT | {"logit_bias": {"1": False}}, "invalid_value", "logit_bias[...]"),
    "bias on a word": (CHAT | {"logit_bias": {"x": 1}}, "invalid_value", "logit_bias"),
    "a token spelt twice": (CHAT | {"logit_bias": {"1": 1, "01": 2}}, "invalid_value", "logit_bias"),
    "a token's newline": (CHAT | {"logit_bias": {"1\n": 1}}, "invalid_value", "logit_bias"),
    "a token twice": (json.dumps(CHAT).encode()[:-1] + b',"logit_bias":{"1":1,"1":2}}', "invalid_json", None),
    "bias on too many": (CHAT | {"logit_bias": {str(at): 1 for at in range(1025)}}, "invalid_value", "logit_bias"),
    "top without": (CHAT | {"top_logprobs": 1}, "invalid_value", "top_logprobs"),
    "options without": (CHAT | {"stream_options": {}}, "invalid_value", "stream_options"),
    "both": (CHAT | {"max_tokens": 1, "max_completion_tokens": 1}, "invalid_value", "max_tokens"),
    "none": (CHAT | {"max_tokens": 0}, "invalid_value", "max_tokens"),
    "true": (CHAT | {"max_tokens": True}, "invalid_value", "max_tokens"),
    "huge": (b'{"model":"m","messages":[],"seed":' + b"9" * 5000 + b"}", "invalid_value", "messages"),
    "huge seed": (json.dumps(CHAT).encode()[:-1] + b',"seed":' + b"9" * 5000 + b"}", "invalid_value", "seed"),
    "infinite": (json.dumps(CHAT).encode()[:-1] + b',"temperature":1e999}', "invalid_value", "temperature"),
    "NaN": (json.dumps(CHAT).encode()[:-1] + b',"temperature":NaN}', "invalid_json", None),
    "twice": (b'{"model":"m","model":"m","messages":[{"role":"user","content":"x"}]}', "invalid_json", None),
    "twice, escaped": (b'{"model":"m","mod\\u0065l":"m","messages":[{"role":"user","content":"x"}]}', "invalid_json",
                       None),
    "twice, inside": (b'{"model":"m","messages":[{"role":"user","role":"user","content":"x"}]}', "invalid_json", None),
    "surrogate": (b'{"model":"m","messages":[{"role":"user","content":"\\ud800 "}]}', "invalid_json", None),
    "not UTF-8": (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "invalid_json", None),
    "deep": (b'{"model":"m","messages":' + b"[" * 200_000, "invalid_value", "messages[0]"),
    "deep unknown": (b'{"x":' + b"[" * 200_000, "unsupported_parameter", "x"),
    "array": (b"[]", "invalid_value", None),
    "empty": (b"", "invalid_json", None),
    "half": (json.dumps(CHAT).encode()[:-1], "invalid_json", None),
    "trailing": (json.dumps(CHAT).encode() + b" x", "invalid_json", None),
    "odd name": (b'{"\\u0000 evil":1}', "unsupported_parameter", None),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    raw, code, param = REFUSED[name]
    found = chat(raw)
    assert isinstance(found, Refusal)
    assert (found.code, found.param) == (code, param)


@pytest.mark.parametrize(
    ("more", "param"),
    [({"prompt": ["a"]}, "prompt"), ({"prompt": [1, 2]}, "prompt"), ({"logprobs": 6}, "logprobs"),
     ({"logprobs": True}, "logprobs"), ({"echo": True}, "echo"), ({"best_of": 2}, "best_of"), ({"n": 2}, "n"),
     ({"suffix": "x"}, "suffix"), ({"messages": []}, "messages"), ({"logit_bias": {}}, "logit_bias")],
)  # fmt: skip
def test_refused_completions(more: dict[str, Any], param: str) -> None:
    found = text(TEXT | more)
    assert isinstance(found, Refusal)
    assert found.param == param


def test_completions() -> None:
    found = text(TEXT | {"logprobs": 2, "echo": False, "best_of": 1})
    assert isinstance(found, Wanted)
    assert (found.prompt, found.max_tokens, found.top_logprobs) == ("hi", 16, 2)
    assert found.turns == ()


@given(st.integers(-(2**70), 2**70), st.floats(), st.floats())
def test_whatever_is_taken_an_engine_of_ours_takes(seed: int, top_p: float, temperature: float) -> None:
    for found in (chat(CHAT | {"seed": seed, "top_p": top_p, "temperature": temperature}), text(TEXT | {"seed": seed})):
        if isinstance(found, Wanted):
            Sampling(temperature=found.temperature, top_p=found.top_p, seed=found.seed)


CANARY = "zq9canary"
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(CANARY),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "role", "x"]), inner),
    max_leaves=6,
)
_names = st.sampled_from([*TAKEN, "model", "messages", "prompt", "echo", "tools", "top_logprobs", "stream_options"])


@given(st.dictionaries(_names, _values, max_size=8))
def test_no_value_is_ever_quoted(body: dict[str, Any]) -> None:
    for found in (chat(body), text(body)):
        if isinstance(found, Refusal):
            assert CANARY not in document(found).decode()


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_judged(raw: bytes) -> None:
    for found in (chat(raw), text(raw), read_acceptance(raw)):
        assert isinstance(found, Refusal)


@given(st.text(max_size=400), st.integers(1, 50))
def test_the_bound_holds_for_every_prompt(content: str, turns: int) -> None:
    try:
        content.encode()
    except UnicodeEncodeError:
        return
    found = chat({"model": "m", "messages": [{"role": "user", "content": content}] * turns})
    assert isinstance(found, Wanted)
    assert found.room >= turns * len(content.encode())


_spaces = st.sampled_from(["", " ", "\t", "\n", "\r"])


@given(st.lists(st.sampled_from(["model", "seed", "user", "temperature", "n"]), max_size=6), st.data())
def test_a_name_that_comes_twice_is_always_seen(names: list[str], data: st.DataObject) -> None:
    values = {"model": '"m"', "seed": "1", "user": '"a\\":"', "temperature": "null", "n": "1"}
    fields = ['"messages":[{"role":"user","content":"x"}]', '"model":"m"']
    fields += [f'"{name}"{data.draw(_spaces)}:{data.draw(_spaces)}{values[name]}' for name in names]
    raw = ("{" + ",".join(data.draw(st.permutations(fields))) + "}").encode()
    once = len(set(names)) == len(names) and "model" not in names
    assert isinstance(chat(raw), Wanted) is once


# ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.text(max_size=50).filter(lambda one: one.isprintable()), st.booleans(), st.booleans())
def test_answers_are_json(said: str, usage: bool, logprobs: bool) -> None:  # noqa: FBT001
    shown = (TokenLogprob("é", (195, 169), -math.inf, (("a", (97,), -1.0),)),)
    for shape, body in (("chat", CHAT), ("text", TEXT)):
        options = {"stream_options": {"include_usage": usage}, "stream": True}
        wanted = (chat if shape == "chat" else text)(body | options)
        assert isinstance(wanted, Wanted)
        frames = Frames(wanted, request="req_1", created=1)
        stream = frames.opening() + frames.piece(said, shown if logprobs else ())
        stream += frames.closing("stop", Totals(1, 2))
        events = [json.loads(one[6:]) for one in stream.decode().split("\n\n") if one and "[DONE]" not in one]
        assert all(("usage" in one) is usage for one in events)
        whole = json.loads(frames.whole(said, shown if logprobs else None, finish="stop", totals=Totals(1, 2)))
        found = whole["choices"][0]
        assert (found["message"]["content"] if shape == "chat" else found["text"]) == said
        assert whole["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def test_every_code_can_be_said() -> None:
    for code in KINDS:
        assert json.loads(document(refuse(code)))["error"]["code"] == code
    assert set(OF_ENGINE) == set(ENGINE_CODES)
    assert set(OF_ENGINE.values()) <= set(KINDS)
    assert all(refuse(code).retry_after for code, kind in KINDS.items() if kind.status in {429, 503})
