"""A stock llama.cpp server behind the gateway: unmarked, and said so."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from strongroom.wiring.open_engine import open_routes
from tests.backends.stock import stock_server
from tests.journeys.serving import up
from tests.journeys.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, quick_argon: None) -> Shell:
    return Shell(tmp_path).settle()


def test_a_foreign_engine_is_served_unmarked_within_the_same_limits(shell: Shell) -> None:
    allow_open_engines(shell)
    with up(shell, "--engine", stock_server(), who="owner") as service:
        assert service.ready["marked"] is False
        assert "engine" not in service.ready["pids"]
        [model] = service.ready["models"]
        service.account("acme", "--tokens-per-day", "600")
        turns = [{"role": "user", "content": "Say hello."}]
        came = service.ask("acme", "/v1/chat/completions", model=model, messages=turns, max_tokens=4)
        assert came.status == 200, came.document
        assert came.document["usage"]["completion_tokens"] == 4
        came = service.ask("acme", model=model, max_tokens=3000)
        assert came.status == 200  # it may end by itself before the budget does
        assert came.document["usage"]["total_tokens"] <= 600
        assert service.ask("acme", model=model, n_probs=10).code == "unsupported_parameter"
        assert service.ask("acme", "/props").status == 404
        assert service.stop() == 0


def allow_open_engines(shell: Shell) -> None:
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write('[serving]\nopen_engine = "serve"\n')


def test_an_engine_that_answers_without_a_key_is_not_served(shell: Shell) -> None:
    said = shell("up", "--engine", stock_server(), who="owner")
    assert (said.status, said.code) == (3, "serving.open_engine")
    for route in ("/v1/chat/completions", "/completion", "/tokenize", "/props"):
        assert route in said.json["error"]["message"]


def test_an_engine_behind_a_key_may_still_have_a_side_door() -> None:
    with keyed_server(side_door="/invocations") as url:
        assert open_routes(url, "m") == ("/invocations",)
    with keyed_server() as url:
        assert open_routes(url, "m") == ()
        assert open_routes(f"{url}/v1", "m") == ()


def test_an_engine_that_breaks_off_its_answer_has_answered() -> None:
    with keyed_server(side_door="/completion", spoilt=True) as url:
        assert open_routes(url, "m") == ("/completion",)


@contextlib.contextmanager
def keyed_server(side_door: str = "", *, spoilt: bool = False) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200 if self.path == side_door else 401 if self.path.startswith("/v1") else 404)
            if spoilt:
                self.send_header("transfer-encoding", "chunked")  # and what comes is none of that
            self.end_headers()
            self.wfile.write(b"no chunk\r\n" * spoilt)

        do_POST = do_GET  # noqa: N815 - the name is the base class's

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_the_settings_can_refuse_engines_that_do_not_mark(shell: Shell) -> None:
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write('[serving]\nforeign_engine = "refuse"\n')
    said = shell("up", "--engine", "http://127.0.0.1:9", who="owner")
    assert (said.status, said.code) == (2, "usage.bad_input")


@pytest.mark.parametrize("url", ["ftp://x", "http://user:secret@x", "nonsense", "http://"])
def test_what_is_no_engine_is_refused(shell: Shell, url: str) -> None:
    said = shell("up", "--engine", url, who="owner")
    assert (said.status, said.code) == (2, "usage.bad_input")
    assert "secret" not in said.out


def test_an_engine_that_is_not_there_is_said_before_anything_starts(shell: Shell) -> None:
    said = shell("up", "--engine", "http://127.0.0.1:9", who="owner")
    assert (said.status, said.code) == (7, "storage.unavailable")


def test_a_home_without_a_checkpoint_says_so(shell: Shell) -> None:
    assert shell("up", who="carla").code == "custody.no_such_checkpoint"
    assert shell("watermark", "detect", str(shell.passphrase("ada")), who="ada").code == "watermark.nothing_marked"
    assert shell("serving", "status", who="owner").json == {"running": None}
