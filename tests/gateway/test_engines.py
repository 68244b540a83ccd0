"""The gateway as it is shipped: before an engine in another process, and before a server of another make."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.backends.stock import stock_server
from tests.gateway.house import (
    KEY,
    MODEL,
    ROOT,
    SECRET,
    Gateway,
    account,
    chat,
    code,
    head,
    house,
    post,
    read_all,
    status,
    until,
)

CLOSE = "Connection: close"
SHIPPED = {"module": "strongroom.gateway"}
CLOSURE = """
import sys, importlib.metadata
sys.stdin.close()
import strongroom.gateway.__main__
from strongroom.wiring.table import load
for port, scheme in (("completions", "unix"), ("completions", "http"), ("kept-link", "unix")):
    load(port, scheme)
owners = importlib.metadata.packages_distributions()
names = {one.partition(".")[0] for one in sys.modules}
print(*sorted({owner for name in names for owner in owners.get(name, ())} - {"strongroom"}))
"""


@contextlib.contextmanager
def engine(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.gateway.scripted_engine", str(path), SECRET]
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(command, cwd=ROOT, env=env) as process:
        until(path.exists)
        yield process
        process.kill()


def healthy(gateway: Gateway) -> bool:
    return status(gateway.talk(head("GET", "/health", CLOSE))) == 200


def test_an_engine_behind_a_link_lives_dies_and_comes_back(tmp_path: Path) -> None:
    place = tmp_path / "engine.sock"
    with house(tmp_path, engine=f"unix:{place}", **SHIPPED) as (gateway, control):
        raw = post(chat("say 3"), CLOSE)
        assert (status(gateway.talk(raw)), code(gateway.talk(raw))) == (503, "engine_unavailable")
        assert not healthy(gateway)
        with engine(place) as process:
            until(lambda: healthy(gateway))
            assert b"w0 w1 w2 " in gateway.talk(raw)
            with gateway.connect() as stream, gateway.connect() as whole:
                stream.sendall(post(chat("slow 500", stream=True)))
                whole.sendall(post(chat("hang"), CLOSE))
                assert stream.recv(100)
                process.kill()
                rest = read_all(stream)
                assert b'"code":"engine_unavailable"' in rest
                assert b"[DONE]" not in rest
                assert status(read_all(whole)) == 503
        with engine(place):
            until(lambda: healthy(gateway))
            assert b"w0 w1 w2 " in gateway.talk(raw)
    settled = [line for line in gateway.lines() if line["type"] == "Settled"]
    assert control.tokens() == sum(one["prompt_tokens"] + one["completion_tokens"] for one in settled)


def test_a_stock_server(tmp_path: Path) -> None:
    url = stock_server()
    with house(tmp_path, engine=url, models=[MODEL], **SHIPPED) as (gateway, control):
        until(lambda: healthy(gateway), 20)
        with openai.OpenAI(base_url=f"{gateway.base}/v1", api_key=KEY, max_retries=0) as client:
            words = [{"role": "user", "content": "Say hello."}]
            whole = client.chat.completions.create(model=MODEL, messages=words, max_tokens=8, seed=1)  # type: ignore[arg-type]
            assert whole.choices[0].message.content
            assert whole.usage is not None
            assert 0 < whole.usage.completion_tokens <= 8
            stream = client.chat.completions.create(
                model=MODEL,
                messages=words,  # type: ignore[arg-type]
                max_tokens=8,
                seed=1,
                stream=True,
                stream_options={"include_usage": True},
            )
            events = list(stream)
            assert events[-1].usage is not None
            assert events[-1].usage.prompt_tokens == whole.usage.prompt_tokens
        settled = gateway.settled(2)
    assert control.tokens() == sum(one["prompt_tokens"] + one["completion_tokens"] for one in settled)


def test_a_server_of_another_make_never_overshoots_a_day_that_is_nearly_over(tmp_path: Path) -> None:
    url = stock_server()

    def prepare(control: object) -> None:
        control.accounts = [account(tokens_per_day=450)]  # type: ignore[attr-defined]

    with house(tmp_path, engine=url, models=[MODEL], prepare=prepare, **SHIPPED) as (gateway, control):
        until(lambda: healthy(gateway), 20)
        answers = [gateway.talk(post(chat("Count.", max_tokens=200), CLOSE)) for _ in range(6)]
        assert status(answers[0]) == 200
        assert code(answers[-1]) == "tokens_per_day_exceeded"
        settled = [line for line in gateway.lines() if line["type"] == "Settled"]
        assert sum(one["prompt_tokens"] + one["completion_tokens"] for one in settled) <= 450
    assert control.tokens() <= 450


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with house(tmp_path, engine="http://127.0.0.1:9", models=[MODEL], **SHIPPED) as (gateway, _):
        assert code(gateway.talk(post(chat("x"), CLOSE))) == "engine_unavailable"


def test_the_process_holds_few_packages() -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", CLOSURE], capture_output=True, text=True, check=True, env=env, timeout=60
    )
    found = set(done.stdout.split())
    assert {"httptools", "uvloop", "msgspec"} <= found
    assert len(found) <= 15
    assert not found & {"torch", "numba", "numpy", "starlette", "uvicorn", "openai", "cryptography", "transformers"}


@pytest.mark.parametrize("field", ["text", "messages"])
def test_documents_are_what_they_say(tmp_path: Path, field: str) -> None:
    with house(tmp_path) as (gateway, _):
        body = {"model": MODEL, "prompt": "say 1"} if field == "text" else chat("say 1")
        target = "/v1/completions" if field == "text" else "/v1/chat/completions"
        answer = gateway.talk(post(body, CLOSE, target=target))
        document = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert document["object"] == ("text_completion" if field == "text" else "chat.completion")
        assert document["choices"][0]["logprobs"] is None
