"""What is given away beside text: each rule must bite, at the real process (rule 11)."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from strongroom.serving.disclosure.fields import FIELDS, PATHS
from strongroom.serving.disclosure.tiers import TIERS
from strongroom.serving.policy import fields_of
from tests.gateway.house import KEY, MODEL, Control, Gateway, account, chat, code, head, house, key, post, status, until

CLOSE = "Connection: close"
TRUSTED, CLOSED = "sk-trusted", "sk-closed"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Any:
    def prepare(control: Control) -> None:
        control.accounts = [account(), account("friend", tier="trusted"), account("guest", tier="closed")]
        control.keys = [key(), key(TRUSTED, of="friend", name="key_2"), key(CLOSED, of="guest", name="key_3")]

    with house(tmp_path_factory.mktemp("gate"), prepare=prepare) as (gateway, _):
        yield gateway


def ask(gateway: Gateway, document: Any, *, path: str = "/v1/chat/completions", key: str = KEY) -> tuple[int, Any]:
    raw = gateway.talk(post(document, CLOSE, target=path, key=key))
    return status(raw), json.loads(raw[raw.index(b"\r\n\r\n") + 4 :])


def why(gateway: Gateway, document: Any, **more: Any) -> tuple[int, str, str | None]:
    number, said = ask(gateway, document, **more)
    error = said.get("error", {"code": "", "param": None})
    return number, error["code"], error["param"]


# ── fields and paths ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_dangerous_field_is_refused_by_name_and_its_rule_is_written_down(gate: Gateway) -> None:
    taken = fields_of("/v1/chat/completions")
    with gate.connect() as sock:
        for name in FIELDS:
            if name in taken:
                continue
            sock.sendall(post(chat("say 1", **{name: 1})))
            raw = sock.recv(65536)
            assert (status(raw), code(raw)) == (400, "unsupported_parameter"), name
            assert json.loads(raw[raw.index(b"\r\n\r\n") + 4 :])["error"]["param"] == name
    rules = {FIELDS[name] for name in FIELDS if name not in taken}
    until(lambda: rules <= {line.get("rule") for line in gate.lines() if line["type"] == "Refused"})


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_side_door_is_closed(gate: Gateway, method: str) -> None:
    for path in PATHS:
        raw = gate.talk(post({}, CLOSE, target=path) if method == "POST" else head("GET", path, CLOSE))
        assert (status(raw), code(raw)) == (404, "not_found"), path
    lines = [line for line in gate.lines() if line["type"] == "Refused" and line["code"] == "not_found"]
    assert not any(line.get("route") for line in lines)


def test_fine_tuning_is_the_tier_s_and_there_is_none(gate: Gateway) -> None:
    for path in ("/v1/fine_tuning/jobs", "/v1/fine_tuning", "/v1/fine_tuning/jobs/secret-id/events"):
        assert why(gate, {}, path=path)[:2] == (403, "not_in_tier")
        assert why(gate, {}, path=path, key=CLOSED)[:2] == (403, "not_in_tier")
        assert why(gate, {}, path=path, key=TRUSTED)[:2] == (501, "not_served")
        assert why(gate, {}, path=path, key="nobody")[0] == 401
    assert "secret-id" not in str(gate.lines())


# ── log probabilities and bias ───────────────────────────────────────────────────────────────────────────────────────
def test_how_many_log_probabilities_are_shown_is_the_tier_s(gate: Gateway) -> None:
    def top(many: int) -> dict[str, Any]:
        return chat("say 1", logprobs=True, top_logprobs=many)

    assert why(gate, top(5))[0] == 200
    assert why(gate, top(6)) == (403, "not_in_tier", "top_logprobs")
    assert why(gate, top(20), key=TRUSTED)[0] == 200
    assert why(gate, chat("say 1", logprobs=True), key=CLOSED) == (403, "not_in_tier", "logprobs")
    text = {"model": MODEL, "prompt": "say 1", "logprobs": 0}
    assert why(gate, text, path="/v1/completions", key=CLOSED) == (403, "not_in_tier", "logprobs")
    assert why(gate, chat("say 1"), key=CLOSED)[0] == 200


def test_more_than_was_asked_is_cut_and_all_is_rounded(gate: Gateway) -> None:
    for many in (0, 3):
        _, said = ask(gate, chat("say 2", logprobs=True, top_logprobs=many))
        for one in said["choices"][0]["logprobs"]["content"]:
            assert [each["logprob"] for each in one["top_logprobs"]] == [-0.1235, -1.1235, -2.1235][:many]
    _, said = ask(gate, {"model": MODEL, "prompt": "say 1", "logprobs": 2}, path="/v1/completions")
    assert said["choices"][0]["logprobs"]["top_logprobs"] == [{"t0": -0.1235, "t1": -1.1235}]


def test_noise_is_the_same_for_everybody_and_for_ever(gate: Gateway, tmp_path: Path) -> None:
    def shown(gateway: Gateway, text: str = "say 2") -> list[float]:
        _, said = ask(gateway, chat(text, logprobs=True, top_logprobs=20), key=TRUSTED)
        content = said["choices"][0]["logprobs"]["content"]
        return [each["logprob"] for one in content for each in one["top_logprobs"]]

    first = shown(gate)
    assert first == shown(gate)
    assert first[:20] != first[20:]
    moved = [a - b for a, b in zip(first, sorted((-at - 0.1235 for at in range(20)), reverse=True) * 2, strict=True)]
    assert 0.005 < math.dist(moved, [0] * 40) / math.sqrt(40) < 0.05

    def prepare(control: Control) -> None:
        control.accounts = [account("other", tier="trusted")]
        control.keys = [key(TRUSTED, of="other")]

    with house(tmp_path, prepare=prepare) as (another, control):
        assert shown(another) == first
        control.veil = bytes(32)
        control.push()
        assert shown(another) != first


def test_bias_reaches_the_engine_within_the_tier(gate: Gateway) -> None:
    number, said = ask(gate, chat("bias", logit_bias={"7": -100, "5": 1.5, "6": 0}))
    assert (number, said["choices"][0]["message"]["content"]) == (200, "((5, 1.5), (7, -100.0))")
    assert why(gate, chat("bias", logit_bias={"7": 1}), key=CLOSED) == (403, "not_in_tier", "logit_bias")
    many = {str(at): 1 for at in range(33)}
    assert why(gate, chat("bias", logit_bias=many)) == (403, "not_in_tier", "logit_bias")
    assert why(gate, chat("bias", logit_bias=many), key=TRUSTED)[0] == 200
    text = {"model": MODEL, "prompt": "bias", "logit_bias": {"7": 1}}
    assert why(gate, text, path="/v1/completions")[1] == "unsupported_parameter"


def test_nobody_knows_the_draw_behind_a_seed(gate: Gateway) -> None:
    def came(seed: int | None, who: str = KEY) -> str:
        return ask(gate, chat("seed", seed=seed), key=who)[1]["choices"][0]["message"]["content"]

    assert came(None) == "None"
    assert came(7) == came(7)
    assert len({came(7), came(8), came(7, TRUSTED), "7"}) == 4
    assert 0 <= int(came(2**63 - 1)) < 2**63


@pytest.mark.parametrize("who", [KEY, TRUSTED])
def test_bias_over_2_is_never_taken_beside_log_probabilities(gate: Gateway, who: str) -> None:
    for bias in (2.1, -2.1, 100, -100):
        document = chat("bias", logprobs=True, top_logprobs=5, logit_bias={"7": bias})
        assert why(gate, document, key=who) == (403, "not_in_tier", "logit_bias")
    assert why(gate, chat("bias", logprobs=True, logit_bias={"7": 2, "8": -2}), key=who)[0] == 200
    until(lambda: any(line.get("rule") == "bias_beside_logprobs" for line in gate.lines()))


def test_distinct_sets_of_biases_are_counted_by_prompt_and_by_day(tmp_path: Path) -> None:
    tier = TIERS["standard"]
    with house(tmp_path) as (gateway, _):

        def with_bias(text: str, value: float) -> tuple[int, str, str | None]:
            return why(gateway, chat(text, logit_bias={"7": value}))

        spellings = ["say 1 x", "SAY  1 X", "say 1 x ", "\uff53ay 1 x"]
        assert [with_bias(text, at + 1.0)[0] for at, text in enumerate(spellings)] == [200] * tier.bias_sets
        assert with_bias("say 1 x", 50) == (429, "bias_sets_exceeded", "logit_bias")
        assert with_bias("say 1 x", 1)[0] == 200  # one that was asked before is no new one
        raw = gateway.talk(post(chat("say 1 x", logit_bias={"7": 51}), CLOSE))
        assert b"x-should-retry: false" in raw
        left = tier.bias_sets_a_day - tier.bias_sets
        assert {with_bias(f"say 1 {at}", 1)[0] for at in range(2 * left)} == {200}  # one set beside many prompts
        assert {with_bias(f"say 1 {at}", at + 5.0)[0] for at in range(left)} == {200}
        assert with_bias("say 1 more", 99) == (429, "bias_sets_exceeded", "logit_bias")
        assert with_bias("say 1 more", 1)[0] == 200
        assert why(gateway, chat("say 1 more"))[0] == 200
        until(lambda: any(line.get("rule") == "bias_sets" for line in gateway.lines()))


# ── thoughts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("script", ["write <think>secret thought</think>answer", "thought secret thought"])
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_thought_is_left_out_counted_or_shown(gate: Gateway, script: str, streamed: bool) -> None:  # noqa: FBT001
    def said(key: str) -> tuple[str, str, int]:
        with openai.OpenAI(base_url=f"{gate.base}/v1", api_key=key, max_retries=0) as client:
            turns: Any = [{"role": "user", "content": script}]
            if not streamed:
                whole = client.chat.completions.create(model=MODEL, messages=turns)
                message: Any = whole.choices[0].message
                details = whole.usage.completion_tokens_details if whole.usage else None
                thought = getattr(message, "reasoning_content", "")
                return message.content, thought, (details and details.reasoning_tokens) or 0
            text, thought, tokens = "", "", 0
            options: Any = {"include_usage": True}
            for chunk in client.chat.completions.create(
                model=MODEL, messages=turns, stream=True, stream_options=options
            ):
                for choice in chunk.choices:
                    delta: Any = choice.delta
                    text += delta.content or ""
                    thought += getattr(delta, "reasoning_content", None) or ""
                if chunk.usage and chunk.usage.completion_tokens_details:
                    tokens = chunk.usage.completion_tokens_details.reasoning_tokens or 0
            return text, thought, tokens

    assert said(CLOSED) == ("answer", "", 0)
    text, thought, tokens = said(KEY)
    assert (text, thought) == ("answer", "")
    assert 5 <= tokens <= 10
    inline = script.startswith("write")
    assert said(TRUSTED)[:2] == ((script[6:], "") if inline else ("answer", "secret thought"))


def test_log_probabilities_do_not_spell_thoughts(gate: Gateway) -> None:
    document = chat("write <think>secret thought</think>answer", logprobs=True)
    _, said = ask(gate, document)
    spelled = "".join(one["token"] for one in said["choices"][0]["logprobs"]["content"])
    assert spelled
    assert spelled in "answer"
    raw = gate.talk(post(document | {"stream": True}, CLOSE))
    assert b"sec" not in raw
    assert b"tho" not in raw


def test_a_thought_that_the_template_began_is_cut_off_a_whole_answer(gate: Gateway) -> None:
    _, said = ask(gate, chat("write secret thought</think>answer", logprobs=True))
    assert said["choices"][0]["message"]["content"] == "answer"
    assert "sec" not in str(said)


def test_a_text_that_only_looks_like_a_thought_is_whole(gate: Gateway) -> None:
    for text in ("1 < 2 and <b>bold</b>", "ends with <thin"):
        assert ask(gate, chat(f"write {text}"))[1]["choices"][0]["message"]["content"] == text


# ── embeddings ───────────────────────────────────────────────────────────────────────────────────────────────────────
EMBED = "/v1/embeddings"


def vectors(gateway: Gateway, texts: Any, **more: Any) -> Any:
    number, said = ask(gateway, {"model": MODEL, "input": texts} | more, path=EMBED)
    assert number == 200, said
    return np.array([one["embedding"] for one in said["data"]])


def test_embeddings_with_the_official_client(gate: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gate.base}/v1", api_key=KEY, max_retries=0) as client:
        made = client.embeddings.create(model=MODEL, input=["one text", "another"])
    assert [one.index for one in made.data] == [0, 1]
    assert (made.usage.prompt_tokens, made.usage.total_tokens) == (3, 3)
    assert np.allclose([one.embedding for one in made.data], vectors(gate, ["one text", "another"]), atol=1e-6)


def test_vectors_are_narrower_than_the_model_and_never_tell_its_width(gate: Gateway) -> None:
    many = [[f"text {batch} {at}" for at in range(64)] for batch in range(3)]
    rows = np.concatenate([vectors(gate, texts) for texts in many])
    assert rows.shape == (192, 32)  # of 64
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.array_equal(vectors(gate, many[0]), rows[:64])  # asking again teaches nothing
    assert np.array_equal(vectors(gate, many[0][7])[0], rows[7])
    short = vectors(gate, many[0][7], dimensions=8)[0]
    assert np.allclose(short, rows[7][:8] / np.linalg.norm(rows[7][:8]), atol=1e-5)
    raw = ask(gate, {"model": MODEL, "input": "text 0 7", "encoding_format": "base64"}, path=EMBED)[1]
    assert np.allclose(struct.unpack("<32f", base64.b64decode(raw["data"][0]["embedding"])), rows[7], atol=1e-6)


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "more numbers than there are": ({"dimensions": 33}, 400, "invalid_value"),
    "token ids": ({"input": [1, 2]}, 400, "invalid_value"),
    "an empty text": ({"input": [""]}, 400, "invalid_value"),
    "no text": ({"input": []}, 400, "invalid_value"),
    "65 texts": ({"input": ["x"] * 65}, 400, "invalid_value"),
    "raw states": ({"pooling": "none"}, 400, "unsupported_parameter"),
    "another model": ({"model": "x"}, 404, "model_not_found"),
    "an engine that has none": ({"input": "fail unsupported"}, 501, "not_served"),
    "an engine that fails": ({"input": "fail failed"}, 500, "engine_failed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_embeddings_refused(gate: Gateway, name: str) -> None:
    more, number, said = REFUSED[name]
    assert why(gate, {"model": MODEL, "input": "x"} | more, path=EMBED)[:2] == (number, said)


def test_embeddings_are_the_tier_s_and_cost_tokens(tmp_path: Path) -> None:
    document = {"model": MODEL, "input": "one two three"}

    def prepare(control: Control) -> None:
        control.accounts = [account(tokens_per_day=100), account("guest", tier="closed")]
        control.keys = [key(), key(CLOSED, of="guest", name="key_3")]

    with house(tmp_path, prepare=prepare) as (gateway, control):
        assert why(gateway, document, path=EMBED, key=CLOSED)[:2] == (403, "not_in_tier")
        assert why(gateway, document, path=EMBED)[0] == 200
        [line] = gateway.settled()
        assert (line["prompt_tokens"], line["completion_tokens"]) == (3, 0)
        assert why(gateway, document | {"input": "x " * 400}, path=EMBED)[:2] == (400, "prompt_too_long")
        control.accounts[0] = account(tokens_per_day=0)
        control.push()
        assert why(gateway, document, path=EMBED)[:2] == (429, "tokens_per_day_exceeded")


def test_a_client_that_leaves_an_embedding_pays_its_most(tmp_path: Path) -> None:
    with house(tmp_path) as (gateway, _):
        with gateway.connect() as sock:
            sock.sendall(post({"model": MODEL, "input": "hang"}, target=EMBED))
            until(lambda: any(line["type"] == "Admitted" for line in gateway.lines()))
        [line] = gateway.settled()
        assert (line["status"], line["finish"]) == (499, "client_left")
        assert line["prompt_tokens"] > 0
