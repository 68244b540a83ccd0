"""`strongroom up` as a program, over a small real model, and a customer's way to ask it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.journeys.shell import Shell

MODEL = "small:v1"
CONTEXT = 1024


def small_model(place: Path) -> Path:
    """Write a small Llama with random weights and a tokenizer of single letters: it never ends by itself."""
    from tests.engines.models import write_plain

    write_plain(place)
    for file in ("config.json", "generation_config.json"):
        written = json.loads((place / file).read_text())
        (place / file).write_text(json.dumps(written | {"max_position_embeddings": CONTEXT, "eos_token_id": None}))
    return place


@dataclass
class Came:
    """An answer."""

    status: int
    document: Any
    headers: dict[str, str]

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


@dataclass
class Service:
    """A running `up`."""

    shell: Shell
    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> dict[str, int]:
        """The processes as they are now, by what they run."""
        found = {}
        for name, module in (("control", "console"), ("engine", "engine_process"), ("gateway", "gateway")):
            found[name] = self._child(module)
        return found | {"worker": self._child("worker_process")}

    def kill(self, name: str) -> int:
        """Kill a process as the kernel would; return what it was."""
        pid = self.pids[name]
        assert pid, f"no {name} is running"
        os.kill(pid, signal.SIGKILL)
        return pid

    def _child(self, module: str) -> int:
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.process.pid and len(words) > 3 and words[3].decode().endswith(module):
                    return int(entry.name)
        return 0

    def account(self, name: str, *words: str) -> None:
        """Make an account with a key."""
        assert self.shell("serving", "account", "add", name, *words, who="carla").status == 0
        made = self.shell("serving", "key", "add", name, who="carla").json
        assert made["in_force"]
        self.keys[name] = made["api_key"]
        self.keys[f"{name}.id"] = made["id"]

    def ask(self, who: str, path: str = "/v1/completions", **body: Any) -> Came:
        """Send a request as `who`."""
        prompt = {} if "messages" in body else {"prompt": "Hello"}
        whole = {"model": MODEL, "max_tokens": 8} | prompt | body
        return request(self.ready["url"], path, whole, self.keys.get(who, who))

    def api(self, method: str, path: str, body: Any = None, token: str | None = None) -> Came:
        """Send a request to the control API."""
        shown = (self.shell.home / "run" / "api-token").read_text() if token is None else token
        return request(self.ready["api"], f"/api{path}", body, shown, method=method)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def request(url: str, path: str, body: Any, key: str, method: str = "POST") -> Came:
    parts = urlsplit(url)
    line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    line.request(method, path, None if body is None else json.dumps(body), headers)
    answer = line.getresponse()
    raw = answer.read()
    line.close()
    return Came(answer.status, json.loads(raw or b"null"), dict(answer.getheaders()))


@contextlib.contextmanager
def up(shell: Shell, *words: str, who: str = "carla", program: Sequence[str] = ()) -> Iterator[Service]:
    """Run `strongroom up` until the end of the block."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    command = [*(program or (sys.executable, "-m", "strongroom")), *shell.words(("up", "--port", "0", *words), who)]
    with (
        (shell.root / "stderr").open("ab") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=clean) as process,
    ):
        try:
            said = b""
            assert process.stdout is not None
            while line := process.stdout.readline():
                said += line
                if line.rstrip() == b"}":
                    break
            yield Service(shell, process, json.loads(said))
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def eventually(true: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until `true` returns something true, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if found := true():
                return found
        time.sleep(0.05)
    raise AssertionError("it never came true")
