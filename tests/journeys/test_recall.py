"""`serving recall`: a corpus is indexed, the index attached to what is served, and a reciting model is held back."""

from __future__ import annotations

import codecs
import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest

from tests.journeys.serving import Service, eventually, up
from tests.journeys.shell import Shell

NAMES = sorted(topics)
PASSAGE = " ".join(" ".join(topics[one] for one in NAMES[::2]).split()[300:480])
FRESH = "Nobody has written this sentence down before, and so it may be shown."


@pytest.fixture
def shell(tmp_path: Path, quick_argon: None) -> Shell:
    made = Shell(tmp_path).settle()
    with (made.home / "strongroom.toml").open("a") as settings:
        settings.write('[serving]\nopen_engine = "serve"\n')
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for at, name in enumerate(NAMES[::2]):
        (corpus / f"{at}.txt").write_text(topics[name])
    return made


@contextlib.contextmanager
def reciting() -> Iterator[str]:
    """Run a server of another make that writes what its prompt spells in ROT13."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = codecs.decode(body["messages"][-1]["content"] if "messages" in body else "uryyb", "rot13")
            said = [text[at : at + 4] for at in range(0, len(text), 4)]
            usage = {"prompt_tokens": 5, "completion_tokens": len(said), "total_tokens": 5 + len(said)}
            if not body.get("stream"):
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                self._send(json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode())
                return
            events: list[Any] = [{"choices": [{"index": 0, "delta": {"content": one}}]} for one in said]
            events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            events.append({"choices": [], "usage": usage})
            raw = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events) + b"data: [DONE]\n\n"
            self._send(raw, kind="text/event-stream")

        def _send(self, raw: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def index(shell: Shell, out: str = "corpus.index", *more: str) -> str:
    corpus, place = str(shell.root / "corpus"), str(shell.root / out)
    said = shell("privacy", "index", "build", corpus, "--out", place, "--jobs", "1", *more, who="carla")
    assert said.status == 0, said.err
    return place


def recite(service: Service, text: str) -> tuple[int, str, str]:
    turns = [{"role": "user", "content": codecs.encode(text, "rot13")}]
    came = service.ask("acme", "/v1/chat/completions", model="m", messages=turns, max_tokens=1000)
    if came.status != 200:
        return came.status, "", came.code
    [choice] = came.document["choices"]
    return came.status, choice["message"]["content"], choice["finish_reason"]


def test_attach_serve_restart_and_detach(shell: Shell) -> None:
    place = index(shell, "corpus.index", "--window", "5", "--stride", "4")
    assert shell("serving", "recall", "detach", who="carla").code == "serving.nothing_attached"
    assert shell("serving", "recall", "show", who="carla").json == {"recall": None}
    with reciting() as engine:
        with up(shell, "--engine", engine, "--gateways", "2", who="carla") as service:
            service.account("acme", "--tokens-per-day", "100000")
            assert recite(service, PASSAGE) == (200, PASSAGE, "stop")
            said = shell("serving", "recall", "attach", place, "--incidents-per-day", "100", who="carla")
            assert said.status == 0, said.err
            assert said.json["in_force"] is True
            for _ in range(6):  # whichever of the two gateways it is
                assert recite(service, PASSAGE) == (200, "", "content_filter")
                assert recite(service, FRESH) == (200, FRESH, "stop")
            usage = shell("serving", "usage", "--account", "acme", who="carla").json["accounts"]["acme"]
            assert usage["incidents"] == 6
            shown = shell("serving", "account", "show", "acme", who="carla").json["account"]
            assert shown["recall"] == {"incidents_today": 6, "near_today": 0}
            assert service.stop() == 0
        with up(shell, "--engine", engine, who="carla") as service:
            service.keys = {"acme": _key(shell)}
            assert eventually(lambda: recite(service, PASSAGE)[0] == 200)
            assert recite(service, PASSAGE) == (200, "", "content_filter")
            shown = shell("serving", "recall", "show", who="carla").json["recall"]
            assert (shown["folder"], shown["window"], shown["stride"]) == (place, 5, 4)
            assert shown["policy"]["incidents_per_day"] == 100
            assert shell("serving", "recall", "detach", who="carla").json["in_force"] is True
            assert recite(service, PASSAGE) == (200, PASSAGE, "stop")


def _key(shell: Shell) -> str:
    return str(shell("serving", "key", "add", "acme", who="carla").json["api_key"])


def test_an_index_that_was_put_in_the_other_s_place_shuts_the_door(shell: Shell) -> None:
    place, other = Path(index(shell)), Path(index(shell, "other.index"))
    assert shell("serving", "recall", "attach", str(place), who="carla").json["in_force"] is False
    place.rename(shell.root / "away")
    other.rename(place)
    with reciting() as engine, up(shell, "--engine", engine, who="carla") as service:
        service.account("acme")
        assert recite(service, FRESH) == (503, "", "recall_unavailable")
        place.rename(other)
        (shell.root / "away").rename(place)
        assert eventually(lambda: recite(service, FRESH) == (200, FRESH, "stop"))


def test_who_may_attach_what(shell: Shell) -> None:
    place = index(shell)
    assert shell("serving", "recall", "attach", place, who="rosa").code == "access.not_permitted"
    assert shell("serving", "recall", "show", who="rosa").code == "access.not_permitted"
    empty = shell.root / "empty"
    empty.mkdir()
    assert shell("serving", "recall", "attach", str(empty), who="carla").code == "privacy.no_such_index"
    words = ("--action", "refuse", "--tell", "quiet")
    assert shell("serving", "recall", "attach", place, *words, who="carla").code == "usage.bad_input"
    key = shell.root / "key"
    key.write_bytes(bytes(range(32)))
    foreign = index(shell, "foreign.index", "--key-file", str(key))
    assert shell("serving", "recall", "attach", foreign, who="carla").code == "custody.wrong_key"
    file = Path(place) / "windows.rest"
    file.write_bytes(file.read_bytes()[:-1])
    assert shell("serving", "recall", "attach", place, who="carla").code == "privacy.index_altered"
