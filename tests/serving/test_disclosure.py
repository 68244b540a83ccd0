"""The policy: everything that is not taken is refused, by its rule, and people are told all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.gateway import front
from strongroom.serving.disclosure import gate
from strongroom.serving.disclosure.fields import FIELDS, PATHS, RULES
from strongroom.serving.disclosure.tiers import BESIDE_LOGPROBS, TIERS, Tier
from strongroom.serving.policy import CHAT, EMBED, METHODS, TEXT, Finding, check, fields_of, route_of
from strongroom.serving.wire import Wanted, read_chat, read_embed, read_text
from strongroom.serving.wire_errors import KINDS, Refusal

BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    TEXT: {"model": "m", "prompt": "hi"},
    EMBED: {"model": "m", "input": "hi"},
}
STANDARD, TRUSTED, CLOSED = TIERS["standard"], TIERS["trusted"], TIERS["closed"]


def found(path: str, body: Any, *, tier: Tier = STANDARD, method: str = "POST") -> set[tuple[str, str]]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return {(one.field, one.rule) for one in check(method, path, raw, tier=tier)}


@pytest.mark.parametrize("path", BODIES)
def test_every_dangerous_field_is_refused_under_its_rule(path: str) -> None:
    for name, rule in FIELDS.items():
        if name in fields_of(path):
            continue
        for value in (1, 0, True, False, None, [], {}, "x"):
            assert found(path, BODIES[path] | {name: value}) == {(name, rule)}, name


def test_every_rule_of_a_field_or_path_has_a_sentence() -> None:
    assert {*FIELDS.values(), *PATHS.values()} <= set(RULES)
    assert all(sentence.endswith(".") for sentence in RULES.values())


@pytest.mark.parametrize("path", PATHS)
def test_every_side_door_is_closed(path: str) -> None:
    for method in ("GET", "POST"):
        assert found(path, {}, method=method) == {("path", PATHS[path])}
        assert found(f"{path}/?x=1", {}, method=method) == {("path", PATHS[path])}


def test_no_path_is_both_served_and_closed() -> None:
    assert not set(METHODS) & set(PATHS)


def test_the_gateway_has_the_routes_that_are_shown() -> None:
    assert {path.decode(): tuple(one.decode() for one in found) for path, found in front._METHODS.items()} == METHODS


@pytest.mark.parametrize(
    "path", ["/", "", "/v1", "/V1/models", "/v1/chat/completions/", "/v1/modelsx", "//health", "/x"]
)
def test_what_nobody_knows_is_refused(path: str) -> None:
    assert found(path, {}) == {("path", "unknown")}


def test_methods() -> None:
    assert found(CHAT, b"", method="GET") == {("method", "method")}
    assert found("/v1/models/m", b"", method="GET") == set()
    assert found("/v1/models", b"", method="DELETE") == {("method", "method")}
    assert route_of("/v1/fine_tuning/jobs/x") == "/v1/fine_tuning"


def test_all_refusals_are_told_at_once() -> None:
    body = BODIES[CHAT] | {
        "n_probs": 5, "grammar": "x", "odd": 1, "temperature": 9, "top_logprobs": 20, "logprobs": True, "n": 2,
        "logit_bias": {"1": 100}, "messages": [{"role": "user", "content": "x", "name": "y"}],
    }  # fmt: skip
    assert found(CHAT, body) == {
        ("n_probs", "logits"), ("grammar", "steering"), ("odd", "unknown"), ("temperature", "value"), ("n", "answers"),
        ("top_logprobs", "logprobs"), ("logit_bias", "bias_beside_logprobs"), ("messages[0].name", "unknown"),
    }  # fmt: skip


def test_tiers() -> None:
    bias = {"logit_bias": {"1": 1}}
    chat = BODIES[CHAT]
    assert found(CHAT, chat | {"logprobs": True}, tier=CLOSED) == {("logprobs", "logprobs")}
    assert found(CHAT, chat | bias, tier=CLOSED) == {("logit_bias", "logit_bias")}
    assert found(EMBED, BODIES[EMBED], tier=CLOSED) == {("path", "embeddings")}
    assert found(TEXT, BODIES[TEXT] | {"logprobs": 0}, tier=CLOSED) == {("logprobs", "logprobs")}
    six = chat | {"logprobs": True, "top_logprobs": 6}
    assert found(CHAT, six) == {("top_logprobs", "logprobs")}
    assert found(CHAT, six, tier=TRUSTED) == set()
    assert found(CHAT, chat | {"logit_bias": {str(at): 1 for at in range(33)}}) == {("logit_bias", "logit_bias")}
    assert found(CHAT, chat | {"logit_bias": {str(at): 0 for at in range(33)}}) == {("logit_bias", "logit_bias")}
    for tier in (STANDARD, TRUSTED):
        assert found(CHAT, chat | {"logit_bias": {"1": 100}}, tier=tier) == set()
        for value in (2.01, -2.01, 100, -100):
            both = chat | {"logprobs": True, "logit_bias": {"1": value}}
            assert found(CHAT, both, tier=tier) == {("logit_bias", "bias_beside_logprobs")}
        both = chat | {"logprobs": True, "logit_bias": {"1": BESIDE_LOGPROBS, "2": -BESIDE_LOGPROBS}}
        assert found(CHAT, both, tier=tier) == set()
    for tier in TIERS.values():
        assert found("/v1/fine_tuning/jobs", {}, tier=tier) == {("path", "fine_tuning")}
        assert KINDS[gate.fine_tuning(tier).code].status == (501 if tier.fine_tuning else 403)
        assert found(TEXT, BODIES[TEXT] | bias, tier=tier) == {("logit_bias", "logit_bias")}


def test_a_body_that_is_no_json_object() -> None:
    twice = json.dumps(BODIES[CHAT]).encode()[:-1] + b',"model":"m"}'
    for raw in (b"", b"{", twice, b"\xff", b'{"x":' + b"[" * 100_000):
        assert found(CHAT, raw) <= {("body", "json"), ("body", "unknown")} != set()
        assert found(CHAT, raw)
    assert found(CHAT, b"[]") == {("body", "value")}
    assert found(CHAT, {}) == {("model", "missing"), ("messages", "missing")}


names = st.sampled_from(
    [*fields_of(CHAT), *fields_of(TEXT), *fields_of(EMBED), "n_probs", "echo", "guided_json", "odd"]
) | st.text(max_size=6)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 25),
    st.floats(-3, 3),
    st.text(max_size=3),
    st.lists(st.text(max_size=3) | st.integers(0, 3), max_size=3),
    st.dictionaries(st.integers(-1, 30).map(str) | st.text(max_size=2), st.floats(-101, 101) | st.none(), max_size=4),
    st.just([{"role": "user", "content": "x"}]),
    st.just({"type": "text"}),
    st.just({"include_usage": True}),
)


@given(st.sampled_from(sorted(BODIES)), st.dictionaries(names, values, max_size=5), st.sampled_from(sorted(TIERS)))
def test_check_and_the_gateway_agree(path: str, more: dict[str, Any], name: str) -> None:
    """What `check` allows is let in by the readers and the gate of the hot path, and nothing else is."""
    tier, raw = TIERS[name], json.dumps(BODIES[path] | more).encode()
    if path == EMBED:
        asked: object = gate.embeddings(tier) or read_embed(raw)
    else:
        asked = read_chat(raw, default_tokens=5) if path == CHAT else read_text(raw)
    if isinstance(asked, Wanted):
        asked = next(iter(gate.refusals(asked, tier)), asked)
    said = check("POST", path, raw, tier=tier)
    assert isinstance(asked, Refusal) == bool(said)
    assert all(one.rule in RULES for one in said)


def test_findings_are_told_once() -> None:
    assert check("POST", CHAT, json.dumps(BODIES[CHAT] | {"echo": True}).encode(), tier=STANDARD) == (
        Finding("echo", "echo"),
    )
