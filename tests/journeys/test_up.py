"""The main job as its users meet it: real processes, a real (small) model, and what must survive kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from strongroom.access import lockbox
from tests.journeys.serving import MODEL, Service, eventually, request, small_model, up
from tests.journeys.shell import Shell

pytest.importorskip("torch")
pytest.importorskip("transformers")


def served_home(root: Path) -> Shell:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MEMORY_KIB", 64), ("_PASSES", 1), ("_LANES", 1)):
            patch.setattr(lockbox, name, value)
        made = Shell(root).settle()
    assert made("custody", "seal", str(small_model(root / "model")), MODEL, who="carla").status == 0
    return made


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return served_home(tmp_path_factory.mktemp("serve"))


@pytest.fixture(scope="module")
def service(shell: Shell) -> Iterator[Service]:
    with up(shell) as running:
        assert running.ready["models"] == [MODEL]
        yield running


def used(service: Service, name: str) -> int:
    return int(service.shell("serving", "account", "show", name, who="carla").json["account"]["tokens_today"])


def summed(service: Service, name: str) -> list[int]:
    """Return what the ledger says of an account: requests, refused, prompt, completion and marked tokens."""
    entries = service.shell("ledger", "tail", "-n", "500").json["entries"]
    rows = [json.loads(one["detail"]["accounts"]) for one in entries if one["action"] == "serving.usage"]
    mine = [row[name] for row in rows if name in row]
    return [sum(column) for column in zip(*mine, strict=True)] if mine else []


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_account_is_answered_and_its_usage_is_in_the_ledger(service: Service) -> None:
    service.account("first")
    came = service.ask("first", max_tokens=12, temperature=1.0)
    assert (came.status, came.document["choices"][0]["finish_reason"]) == (200, "length")
    usage = came.document["usage"]
    assert usage["completion_tokens"] == 12
    total = eventually(lambda: summed(service, "first"))
    assert total == [1, 0, usage["prompt_tokens"], 12, 8]


def test_whose_text_is_whose(service: Service, tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        service.account(name)
        text = service.ask(name, max_tokens=300, temperature=1.0, prompt=f"I am {name}").document["choices"][0]["text"]
        (tmp_path / name).write_text(text)
        found = service.shell("watermark", "detect", str(tmp_path / name), who="ada").json
        assert (found["verdict"], found["account"]) == ("match", name)
        assert found["p_value"] < 1e-6
        spared = service.shell(
            "watermark", "detect", str(tmp_path / name), "--harmless", str(tmp_path / name), who="ada"
        )
        assert (spared.json["verdict"], spared.json["scored"]) == ("inconclusive", 0)
        assert found["scored"] > 200
    (tmp_path / "human").write_text("It was the best of times, it was the worst of times. " * 12)
    found = service.shell("watermark", "detect", str(tmp_path / "human"), "--tokenizer", MODEL, who="owner").json
    assert found["account"] is None
    assert found["candidates"] >= 2
    assert found["verdict"] in {"no_match", "inconclusive"}
    refused = service.shell("watermark", "detect", str(tmp_path / "human"), who="rosa")
    assert (refused.status, refused.code) == (3, "access.not_permitted")


def test_a_greedy_answer_carries_no_mark(service: Service) -> None:
    service.account("greedy")
    came = service.ask("greedy", max_tokens=20, temperature=0)
    assert came.status == 200
    assert eventually(lambda: summed(service, "greedy"))[4] == 0


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_revoked_key_is_dead_when_the_command_returns(service: Service) -> None:
    service.account("gone")
    assert service.ask("gone").status == 200
    assert service.shell("serving", "key", "revoke", service.keys["gone.id"], who="owner").json["in_force"]
    came = service.ask("gone")
    assert (came.status, came.code) == (401, "invalid_api_key")


def test_limits_bite_and_change_at_once(service: Service) -> None:
    service.account("small", "--tokens-per-day", "40")
    came = service.ask("small", max_tokens=200)
    assert came.document["choices"][0]["finish_reason"] == "length"
    assert came.document["usage"]["total_tokens"] == 40
    assert service.ask("small").code == "tokens_per_day_exceeded"
    assert used(service, "small") == 40
    limited = service.shell("serving", "account", "limit", "small", "--tokens-per-day", "60", "--rpm", "1", who="carla")
    assert limited.json["in_force"]
    answers = [service.ask("small").code for _ in range(2)]
    assert "rate_limit_exceeded" in answers


def test_a_closed_account_is_let_in_no_more(service: Service) -> None:
    service.account("closed")
    assert service.shell("serving", "account", "close", "closed", who="carla").status == 0
    assert service.ask("closed").status == 403


# ── the control API ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_control_api_does_what_the_commands_do(service: Service) -> None:
    made = service.api("POST", "/accounts", {"name": "remote", "rpm": 5})
    assert (made.status, made.document["rpm"]) == (201, 5)
    key = service.api("POST", "/accounts/remote/keys").document
    assert service.ask(key["api_key"]).status == 200
    assert service.api("GET", "/accounts/remote").document["keys"][0]["id"] == key["id"]
    assert service.api("PATCH", "/accounts/remote", {"rpm": 9}).document["rpm"] == 9
    assert "remote" in service.api("GET", "/accounts").document["accounts"]
    assert service.api("DELETE", f"/keys/{key['id']}").document["status"] == "revoked"
    assert service.ask(key["api_key"]).status == 401
    assert service.api("DELETE", "/accounts/remote").document["status"] == "closed"
    assert service.api("GET", "/terms").status == 404


def test_the_control_api_refuses_strangers_and_nonsense(service: Service) -> None:
    assert service.api("GET", "/accounts", token="wrong").status == 401
    assert service.api("GET", "/health", token="").status == 401
    for body in ({"name": "../x"}, {"name": "ok", "surprise": 1}, {"name": 7}, {"name": "ok", "rpm": 0}, [], None):
        assert service.api("POST", "/accounts", body).status == 400, body
    assert service.api("GET", "/accounts/nobody").status == 404
    assert [service.api("POST", "/accounts", {"name": "twice"}).status for _ in range(2)] == [201, 409]
    assert service.api("POST", "/terms", {"text": "x" * 600_000}).status == 413
    assert service.api("PUT", "/accounts", {}).status == 405


def test_the_control_api_describes_itself(service: Service) -> None:
    described = service.api("GET", "/openapi.json", token="").document
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]["/api/accounts"]) == {"get", "post"}
    assert "NewAccount" in described["components"]["schemas"]


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_process_comes_back_and_nothing_is_lost(service: Service) -> None:
    service.account("steady", "--rpm", "100000")
    asked, tokens = 0, 0
    for name in ("gateway", "engine", "worker", "control"):
        came = eventually(lambda: (one := service.ask("steady")).status == 200 and one)
        asked, tokens = asked + 1, tokens + came.document["usage"]["total_tokens"]
        before = service.kill(name)
        assert eventually(lambda name=name, before=before: service.pids[name] not in {0, before})
        came = eventually(lambda: (one := service.ask("steady")).status == 200 and one)
        asked, tokens = asked + 1, tokens + came.document["usage"]["total_tokens"]
    eventually(lambda: service.api("GET", "/health").document["gateways"] == 1)
    total = eventually(lambda: (row := summed(service, "steady")) and row[0] == asked and row)
    assert total[2] + total[3] == tokens
    assert service.shell("ledger", "verify").status == 0
    assert request(service.ready["url"], "/v1/models", None, service.keys["steady"], "GET").status == 200


def test_what_an_account_may_learn_beside_the_text_is_its_tier_s(service: Service) -> None:
    service.account("curious", "--tier", "trusted")
    service.account("plain")
    chat = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}
    shown = chat | {"logprobs": True, "top_logprobs": 20}

    def learnt() -> Any:
        return service.ask("curious", "/v1/chat/completions", **shown).document["choices"][0]["logprobs"]

    first = learnt()
    assert len(first["content"][0]["top_logprobs"]) == 20
    came = service.ask("plain", "/v1/chat/completions", **shown)
    assert (came.status, came.code) == (403, "not_in_tier")
    forced = service.ask("plain", "/v1/chat/completions", **chat, logit_bias={"40": 100})
    assert len(set(forced.document["choices"][0]["message"]["content"])) == 1
    both = service.ask("plain", "/v1/chat/completions", **chat, logit_bias={"40": 100}, logprobs=True)
    assert (both.status, both.code) == (403, "not_in_tier")
    service.kill("control")
    eventually(lambda: service.pids["control"] and service.api("GET", "/health").status == 200)
    service.kill("gateway")
    eventually(lambda: service.pids["gateway"] and service.ask("curious").status == 200)
    assert learnt() == first  # the noise is the same after every start


def test_vectors_are_served_narrower_than_the_model(service: Service) -> None:
    service.account("searcher")
    came = service.ask("searcher", "/v1/embeddings", max_tokens=None, prompt=None, input=["a", "b"])
    assert came.code == "unsupported_parameter"
    came = request(
        service.ready["url"], "/v1/embeddings", {"model": MODEL, "input": ["one", "other"]}, service.keys["searcher"]
    )
    assert came.status == 200, came.document
    assert [len(one["embedding"]) for one in came.document["data"]] == [16, 16]  # of 32
    assert came.document["usage"]["prompt_tokens"] == len("oneother")
    eventually(lambda: used(service, "searcher") >= len("oneother"))


def test_a_killed_gateway_costs_no_budget_beyond_what_was_used(service: Service) -> None:
    service.account("thrifty", "--tokens-per-day", "100", "--rpm", "100000")
    first = service.ask("thrifty").document["usage"]["total_tokens"]
    before = service.kill("gateway")
    eventually(lambda: service.ask("thrifty", max_tokens=1).status == 200)
    eventually(lambda: service.pids["gateway"] not in {0, before})
    assert used(service, "thrifty") <= 100
    rest = service.ask("thrifty", max_tokens=200).document["usage"]["total_tokens"]
    assert first + rest > 60  # the slice that the dead gateway held is not lost


def test_an_engine_that_dies_in_mid_stream_is_an_error_event(service: Service) -> None:
    service.account("cut", "--rpm", "100000")
    parts = urlsplit(service.ready["url"])
    body = json.dumps({"model": MODEL, "prompt": "Hello", "max_tokens": 900, "stream": True}).encode()
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30) as line:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {service.keys['cut']}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        line.sendall(head.encode() + body)
        said = line.recv(2000)
        service.kill("engine")
        while more := line.recv(65536):
            said += more
    assert b'data: {"error"' in said
    assert b"[DONE]" not in said
    eventually(lambda: service.ask("cut").status == 200)


# ── what a reviewer tried ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_revocation_that_a_frozen_control_missed_counts_when_it_is_back(service: Service) -> None:
    service.account("frozen", "--rpm", "100000")
    control = service.pids["control"]
    os.kill(control, signal.SIGSTOP)
    try:
        said = service.shell("serving", "key", "revoke", service.keys["frozen.id"], who="carla")
        assert (said.status, said.json["in_force"]) == (0, False)
    finally:
        os.kill(control, signal.SIGCONT)
    assert eventually(lambda: service.ask("frozen").status == 401)


def test_an_altered_record_shuts_its_account_out_and_stops_no_revocation(service: Service) -> None:
    for name in ("spoilt", "other"):
        service.account(name)
    with closing(sqlite3.connect(service.shell.home / "records.sqlite3")) as records, records:
        records.execute("update records set document = ? where key like 'account:spoilt/%'", (b"{}",))
    assert service.shell("serving", "key", "revoke", service.keys["other.id"], who="carla").json["in_force"]
    assert service.ask("other").status == 401
    assert service.ask("spoilt").status in {401, 403}
    assert service.shell("serving", "account", "show", "spoilt", who="carla").code == "records.altered"


def test_prompts_beyond_all_bounds_hold_up_nobody(service: Service) -> None:
    for name in ("huge", "small-fry"):
        service.account(name, "--tokens-per-day", "100000000")
    with ThreadPoolExecutor(4) as pool:
        huge = [pool.submit(service.ask, "huge", prompt="word " * 200_000) for _ in range(4)]
        began = time.monotonic()
        assert service.ask("small-fry").status == 200
        assert time.monotonic() - began < 5
        assert {one.result().status for one in huge} == {400}


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = served_home(tmp_path)
    (tmp_path / "evil").mkdir()
    for name in ("uvicorn", "uvloop", "msgspec"):
        (tmp_path / "evil" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path / "evil")
    program = Path(sys.executable).with_name("strongroom")
    with up(shell, program=[str(program)]) as running:
        assert running.stop() == 0
    assert not (tmp_path / "ran").exists()


def test_no_word_and_no_key_is_in_any_file_or_log(tmp_path: Path) -> None:
    shell = served_home(tmp_path)
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write('[log]\nlevel = "debug"\n[serving]\nusage_seconds = 1\n')
    prompt = "a prompt that nobody may keep"
    with up(shell) as service:
        service.account("acme")
        key = service.keys["acme"]
        texts = [
            service.ask("acme", prompt=prompt, max_tokens=200).document["choices"][0]["text"],
            service.ask("acme", "/v1/chat/completions", messages=[{"role": "user", "content": prompt}]).document,
        ]
        service.ask("acme", prompt=prompt, logit_bias={prompt: 1})
        service.ask(f"{key}x", prompt=prompt)
        service.kill("engine")
        service.ask("acme", prompt=prompt)
        eventually(lambda: summed(service, "acme"))
        kept = b"".join(file.read_bytes() for file in shell.home.rglob("*") if file.is_file())
        kept += (shell.root / "stderr").read_bytes()
        assert service.stop() == 0
    answer = str(texts[0])
    secrets = [prompt, answer[20:60], key, key[31:], shell.passphrase("carla").read_text().strip()]
    for secret in secrets:
        assert len(secret) > 8
        assert secret.encode() not in kept
        assert secret.encode().hex().encode() not in kept


# ── starting and stopping ────────────────────────────────────────────────────────────────────────────────────────────
def test_a_home_is_served_once(service: Service) -> None:
    second = service.shell.process("up", "--port", "0", who="carla")
    assert (second.status, second.code) == (6, "serving.already_up")


@pytest.mark.parametrize("who", ["rosa", "ada"])
def test_only_owners_and_custodians_serve(service: Service, who: str) -> None:
    assert service.shell("up", who=who).code == "access.not_permitted"
    assert service.shell("serving", "account", "add", "x", who=who).code == "access.not_permitted"
    assert service.shell("serving", "account", "show", "first", who=who).code == "access.not_permitted"


def test_an_owner_may_not_open_the_model_that_is_to_be_served(service: Service) -> None:
    assert service.shell("up", who="owner").code == "access.not_permitted"


def test_no_secret_of_the_service_is_in_a_process_list_or_an_environment(service: Service) -> None:
    secrets = [(service.shell.home / "run" / name).read_text().encode() for name in ("api-token", "command-secret")]
    secrets += [
        service.shell.passphrase("carla").read_bytes().strip(),
        *(key.encode() for key in service.keys.values()),
    ]
    for pid in (service.process.pid, *service.pids.values()):
        try:
            seen = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        except PermissionError:  # not even root's test may look: the process has shut itself
            seen = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not any(secret in seen for secret in secrets)


def test_one_signal_ends_it_all_and_a_killed_parent_leaves_no_orphans(tmp_path: Path) -> None:
    shell = served_home(tmp_path)
    with up(shell) as service:
        children = service.pids.values()
        assert service.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    assert [file.name for file in (shell.home / "run").iterdir()] == ["lock"]
    with up(shell) as again:
        children = again.pids.values()
        assert all(children)
        again.process.kill()
        again.process.wait()
        eventually(lambda: not any(_alive(pid) for pid in children))
    with up(shell) as third:
        third.account("late")
        assert third.ask("late").status == 200
        assert third.stop() == 0
    assert shell("ledger", "verify").status == 0


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
