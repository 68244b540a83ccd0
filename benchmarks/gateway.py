"""The gateway beside nginx as a reverse proxy: CPU per request and per streamed chunk, in one interleaved run.

Both stand before the same upstream (upstream.c, compiled at the start): it answers a JSON request at once and a
streaming one with 64 events, one a millisecond. nginx only passes bytes on; the gateway checks the key, parses and
judges the body, counts requests and tokens, writes usage lines, and makes the answer anew. Driven by wrk over loopback
with 32 connections that stay open; one worker each; CPU is user plus system of the process tree.

Then the gateway answers a million requests, and its resident memory is looked at ten times on the way.

    python benchmarks/gateway.py [--rounds 3] [--seconds 2] [--many 1000000] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECRET, KEY, MODEL = "ab" * 32, "sk-bench-0123456789abcdef0123456789abcdef", "m"
CHAT = {
    "model": MODEL,
    "messages": [
        {"role": "system", "content": "You are a helpful assistant who answers in one sentence."},
        {"role": "user", "content": "What is the sentence that holds every letter of the alphabet? Please answer."},
    ],
    "max_tokens": 64,
    "temperature": 0.7,
}
EVENTS = 64
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 100000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream engine {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://engine; }}
  }}
}}
"""
LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.body = [[{body}]]
"""


class Control:
    """What the gateway needs of control: one account without practical limits, and every lease granted."""

    def __init__(self) -> None:
        """Prepare."""
        self._link: object = None

    def on_open(self, link: object) -> None:
        """Say who may come in."""
        from strongroom.serving.roster import Roster, RosterAccount, RosterKey

        self._link = link
        account = RosterAccount("bench", active=True, rpm=10**9, tokens_per_day=10**12)
        key = RosterKey("key_1", hashlib.sha256(KEY.encode()).digest(), "bench", accepted=True)
        link.send(Roster(version=1, accounts=(account,), keys=(key,), terms="", models=(MODEL,)))  # type: ignore[attr-defined]

    def on_message(self, message: object) -> None:
        """Grant."""
        from strongroom.serving.roster import Leased, LeaseWanted

        if isinstance(message, LeaseWanted):
            self._link.send(Leased(budget=message.budget, day=message.day, amount=message.amount))  # type: ignore[attr-defined]

    def on_lost(self) -> None:
        """Nothing to do."""


def control_at(path: Path) -> None:
    """Run a control in a thread."""
    from strongroom.backends.link_unix import listen
    from strongroom.core.secrets import Secret
    from strongroom.serving.roster import ToControl

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    opening = listen(path, Secret(bytes.fromhex(SECRET)), lambda _: (ToControl, Control()))
    asyncio.run_coroutine_threadsafe(opening, loop).result(10)  # type: ignore[arg-type]


@contextlib.contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """Compile and run the upstream; give its port."""
    program = folder / "upstream"
    subprocess.run(["gcc", "-O2", "-w", "-o", str(program), str(ROOT / "benchmarks/upstream.c")], check=True)
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True) as process:
        yield int(process.stdout.readline() if process.stdout else "")
        process.kill()


@contextlib.contextmanager
def nginx(folder: Path, engine: int) -> Iterator[tuple[int, int]]:
    """Run nginx; give its port and process."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=engine, port=port))
    with subprocess.Popen([shutil.which("nginx") or "nginx", "-c", str(config), "-p", str(folder)]) as process:
        wait(f"http://127.0.0.1:{port}/v1/models")
        yield port, process.pid
        process.terminate()


@contextlib.contextmanager
def gateway(folder: Path, engine: int) -> Iterator[tuple[int, int]]:
    """Run the gateway; give its port and process."""
    control_at(folder / "control.sock")
    (folder / "spool").mkdir()
    setup = {
        "control": str(folder / "control.sock"),
        "secret": SECRET,
        "engine": f"http://127.0.0.1:{engine}",
        "spool": str(folder / "spool"),
        "bounds": {"open_requests": 4096, "slice_tokens": 1_000_000},
    }
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "strongroom.gateway"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as process:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("no pipes")
        process.stdin.write(json.dumps(setup).encode() + b"\n")
        process.stdin.flush()
        port = json.loads(process.stdout.readline())["port"]
        wait(f"http://127.0.0.1:{port}/health")
        yield port, process.pid
        process.terminate()


def wait(url: str) -> None:
    """Wait until a URL answers well."""
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in tree(int(child)))]


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process tree."""
    ticks = 0
    for one in tree(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> float:
    """Return the resident megabytes of a process tree."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def drive(port: int, pid: int, script: Path, *, seconds: float) -> dict[str, float]:
    """Let wrk ask for a while; return requests and CPU per thousand."""
    before = cpu(pid)
    command = ["wrk", "-t1", "-c32", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, text=True, check=True
    )
    used = cpu(pid) - before
    found = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(done.stdout)
    requests = int(found.group(1))
    return {"requests_s": requests / float(found.group(2)), "cpu_s_per_1000": 1000 * used / requests}


def measure(rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Let both take turns; return medians."""
    taken: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        engine = stack.enter_context(upstream(folder))
        doors = {
            "nginx": stack.enter_context(nginx(folder, engine)),
            "gateway": stack.enter_context(gateway(folder, engine)),
        }
        scripts = {"json": folder / "json.lua", "stream": folder / "stream.lua"}
        for kind, script in scripts.items():
            body = json.dumps(CHAT | ({"stream": True} if kind == "stream" else {}), separators=(",", ":"))
            script.write_text(LUA.format(key=KEY, body=body))
        for turn in range(rounds + 1):
            for kind, script in scripts.items():
                for door, (port, pid) in doors.items():
                    figures = drive(port, pid, script, seconds=seconds if turn else 1) | {"rss_mb": rss(pid)}
                    if turn:  # the first is for warming up
                        taken.setdefault((kind, door), []).append(figures)
    return {
        kind: {
            door: {what: statistics.median(one[what] for one in taken[kind, door]) for what in taken[kind, door][0]}
            | {
                "cpu_min": min(one["cpu_s_per_1000"] for one in taken[kind, door]),
                "cpu_max": max(one["cpu_s_per_1000"] for one in taken[kind, door]),
            }
            for door in ("nginx", "gateway")
        }
        for kind in ("json", "stream")
    }


def flat(many: int) -> dict[str, float]:
    """Let the gateway answer `many` requests; return its resident megabytes after so many of them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        port, pid = stack.enter_context(gateway(folder, stack.enter_context(upstream(folder))))
        script = folder / "json.lua"
        script.write_text(LUA.format(key=KEY, body=json.dumps(CHAT, separators=(",", ":"))))
        done, seen = 0.0, [(0, round(rss(pid), 1))]
        while done < many:
            done += 10 * drive(port, pid, script, seconds=10)["requests_s"]
            seen.append((int(done), round(rss(pid), 1)))
        step = max(1, len(seen) // 10)
        return {f"{count:,} requests": megabytes for count, megabytes in (*seen[:-1:step], seen[-1])}


def main(rounds: int = 3, seconds: float = 2, many: int = 1_000_000) -> dict[str, object]:
    """Measure everything and return the figures."""
    sys.path.insert(0, str(ROOT / "src"))
    found = measure(rounds, seconds)
    memory = flat(many) if many else {}
    each = {kind: {door: row["cpu_s_per_1000"] for door, row in rows.items()} for kind, rows in found.items()}
    return {
        "gateway / nginx, CPU a JSON request": round(each["json"]["gateway"] / each["json"]["nginx"], 2),
        "gateway / nginx, CPU a streamed chunk": round(each["stream"]["gateway"] / each["stream"]["nginx"], 2),
        "us_per_chunk": {door: round(1e3 * value / EVENTS, 2) for door, value in each["stream"].items()},
        "resident MB": memory,
        "figures": found,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--many", type=int, default=1_000_000)
    words = parser.parse_args()
    result = json.dumps(main(words.rounds, words.seconds, words.many), indent=1)
    print(result)
    if words.json:
        words.json.write_text(result + "\n")
