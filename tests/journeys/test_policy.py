"""`serving policy`: what is taken, and what one request would be refused for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.serving.disclosure.tiers import TIERS
from tests.journeys.shell import Shell

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def shell(tmp_path: Path, quick_argon: None) -> Shell:
    return Shell(tmp_path)


def request(place: Path, body: Any, **more: str) -> str:
    file = place / "request.json"
    document = {"method": "POST", "path": "/v1/chat/completions"} | more | {"body": body}
    file.write_text(json.dumps(document))
    return str(file)


def test_a_request_is_judged_without_a_home(shell: Shell, tmp_path: Path) -> None:
    said = shell("serving", "policy", "check", request(tmp_path, CHAT))
    assert (said.status, said.json) == (0, {"allowed": True, "refused": []})
    said = shell("serving", "policy", "check", request(tmp_path, CHAT | {"n_probs": 9, "prompt_logprobs": 1, "odd": 1}))
    refused = [("n_probs", "logits"), ("prompt_logprobs", "logits"), ("odd", "unknown")]
    assert said.status == 3
    assert said.json == {"allowed": False, "refused": [{"field": name, "rule": rule} for name, rule in refused]}
    said = shell("serving", "policy", "check", request(tmp_path, {}, path="/props", method="GET"))
    assert said.json["refused"] == [{"field": "path", "rule": "model_details"}]


def test_an_account_is_judged_by_its_tier(shell: Shell, tmp_path: Path) -> None:
    shell.settle()
    body = CHAT | {"logprobs": True, "top_logprobs": 20}
    for tier, status in (("trusted", 0), ("standard", 3), ("closed", 3)):
        assert shell("serving", "account", "add", f"{tier}-one", "--tier", tier, who="owner").status == 0
        file = request(tmp_path, body)
        assert shell("serving", "policy", "check", file, "--account", f"{tier}-one", who="owner").status == status
    said = shell("serving", "policy", "check", request(tmp_path, body), "--account", "nobody", who="owner")
    assert said.code == "serving.no_such_account"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"method":"POST"}', '{"method":"x","path":"/"}', '{"method":1,"path":"/"}']
)
def test_what_is_no_request(shell: Shell, tmp_path: Path, text: str) -> None:
    file = tmp_path / "request.json"
    file.write_text(text)
    said = shell("serving", "policy", "check", str(file))
    assert (said.status, said.code) == (2, "usage.bad_input")


def test_a_body_is_read_as_the_gateway_reads_it(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    twice = json.dumps(CHAT)[:-1] + ',"model":"n"}'
    file.write_text(f'{{"method":"POST","path":"/v1/chat/completions","body":{twice}}}')
    assert shell("serving", "policy", "check", str(file)).json["refused"] == [{"field": "body", "rule": "json"}]


def test_the_policy_is_shown(shell: Shell) -> None:
    said = shell("serving", "policy", "show").json
    assert [one["name"] for one in said["tiers"]] == list(TIERS)
    assert said["refused"]["fields"]["prompt_logprob_token_ids"] == "logits"
    assert {*said["refused"]["fields"].values(), *said["refused"]["paths"].values()} <= set(said["rules"])
