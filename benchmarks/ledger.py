"""How many acts a second the ledger takes, durable and integrated, beside what the same disk does without it.

Contenders take turns, round after round, in one run:

    raw          one thread: write 250 bytes, fdatasync, again
    sqlite_one   one thread: SQLite WAL FULL, one 250-byte row per commit
    sqlite_100   the same, 100 rows per commit (nobody waits for a row of their own)
    threads_1    the ledger, one writer
    threads_64   the ledger, 64 writer threads, each waiting for its own receipt
    threads_64_slow  the same, every commit made 4 ms longer: what a disk without a write cache takes to sync
    processes_2  the ledger, two processes of 32 writer threads

A ledger's append is: typed event → RFC 8785 → Merkle tree, tiles, signed log checkpoint → fsync → receipt.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.backends.sqlite_log import SqliteLog, _SqliteTurn
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import create_log_key, load_log_key
from strongroom.ledger.log import Ledger
from strongroom.ports.log_store import LogWrite

ROUNDS = 3
SLOW_S = 0.004
Figures = dict[str, float]


def event(turn: int) -> Event:
    """Return an event of some 250 bytes."""
    return Event(
        id=new_id("evt"),
        at="2026-11-23T07:17:39.125Z",
        who="person:alice",
        action="custody.open",
        object=f"checkpoint:model-{turn % 50}:v1",
        host="host-1",
        why="evaluation",
        outcome="granted",
    )


def figures(latencies: list[float], seconds: float, cpu: float) -> Figures:
    """Sum up a run: rate, CPU per append, latency to acknowledgement."""
    ordered = sorted(latencies)
    return {
        "per_second": len(ordered) / seconds,
        "cpu_us": cpu / len(ordered) * 1e6,
        "p50_ms": ordered[len(ordered) // 2] * 1e3,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
    }


def timed(step: Callable[[int], object], count: int) -> Figures:
    """Run `step` again and again in this thread."""
    latencies: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    for turn in range(count):
        begin = time.perf_counter()
        step(turn)
        latencies.append(time.perf_counter() - begin)
    return figures(latencies, time.perf_counter() - start, time.process_time() - cpu)


def raw(home: Path) -> Figures:
    """Append 250 bytes and sync, in the way of a plain log file."""
    descriptor = os.open(home / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def step(_: int) -> None:
        os.write(descriptor, bytes(250))
        os.fdatasync(descriptor)

    try:
        return timed(step, 2000)
    finally:
        os.close(descriptor)


def plain_sqlite(home: Path, batch: int) -> Figures:
    """Insert rows into a plain table, `batch` to a commit."""
    database = sqlite3.connect(home / "plain.db", isolation_level=None)
    database.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE e (at INTEGER, raw BLOB);"
    )

    def step(turn: int) -> None:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO e VALUES (?, ?)", [(turn, bytes(250))] * batch)
        database.execute("COMMIT")

    found = timed(step, max(200, 2000 // batch))
    database.close()
    return found | {"per_second": found["per_second"] * batch, "cpu_us": found["cpu_us"] / batch}


@contextmanager
def counted(delay_s: float) -> Iterator[list[int]]:
    """Count this process's commits in the list's one element; let each take `delay_s` longer."""
    count, original = [0], _SqliteTurn.commit

    def commit(turn: _SqliteTurn, write: LogWrite) -> None:
        original(turn, write)
        if delay_s:
            time.sleep(delay_s)
        count[0] += 1

    _SqliteTurn.commit = commit  # type: ignore[method-assign] - a benchmark looks inside
    try:
        yield count
    finally:
        _SqliteTurn.commit = original


def crowd(ledger: Ledger, writers: int, each: int, *, delay_s: float = 0) -> tuple[list[float], list[int]]:
    """Append from many threads; return the latencies, and how many commits each append waited through."""
    latencies: list[float] = []
    waited: list[int] = []

    def write(count: list[int]) -> None:
        for turn in range(each):
            one, begin, commits = event(turn), time.perf_counter(), count[0]
            ledger.append(one)
            latencies.append(time.perf_counter() - begin)
            waited.append(count[0] - commits)

    with counted(delay_s) as count:
        threads = [threading.Thread(target=write, args=(count,)) for _ in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return latencies, waited


def threads(home: Path, writers: int, *, each: int, delay_s: float = 0) -> Figures:
    """Run the ledger with threads of one process."""
    ledger = Ledger.create(SqliteLog(home / "log.db"), create_log_key(home / "log.key", "strongroom.local/bench"))
    start, cpu = time.perf_counter(), time.process_time()
    latencies, waited = crowd(ledger, writers, each, delay_s=delay_s)
    found = figures(latencies, time.perf_counter() - start, time.process_time() - cpu)
    ledger.verify()
    ledger.close()
    waited.sort()
    return found | {"p50_commits": waited[len(waited) // 2], "p99_commits": waited[len(waited) * 99 // 100]}


def processes(home: Path, count: int, writers: int, *, each: int) -> Figures:
    """Run the ledger with threads of several processes."""
    Ledger.create(SqliteLog(home / "log.db"), create_log_key(home / "log.key", "strongroom.local/bench")).close()
    command = [sys.executable, __file__, "child", str(home), str(writers), str(each)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)]
    for child in children:
        child.stdout.readline()  # type: ignore[union-attr] - a pipe
    start = time.perf_counter()
    for child in children:
        child.stdin.write(b"go\n")  # type: ignore[union-attr] - a pipe
        child.stdin.flush()  # type: ignore[union-attr] - a pipe
    results = [json.loads(child.communicate()[0]) for child in children]
    seconds = time.perf_counter() - start
    latencies = [latency for result in results for latency in result["latencies"]]
    ledger = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
    ledger.verify()
    ledger.close()
    return figures(latencies, seconds, sum(result["cpu"] for result in results))


def child(home: Path, writers: int, each: int) -> None:
    """Be one of several processes."""
    ledger = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    latencies, _ = crowd(ledger, writers, each)
    print(json.dumps({"latencies": latencies, "cpu": time.process_time() - cpu}))
    ledger.close()


CONTENDERS: dict[str, Callable[[Path], Figures]] = {
    "raw": raw,
    "sqlite_one": lambda home: plain_sqlite(home, 1),
    "sqlite_100": lambda home: plain_sqlite(home, 100),
    "threads_1": lambda home: threads(home, 1, each=2000),
    "threads_64": lambda home: threads(home, 64, each=1000),
    "threads_64_slow": lambda home: threads(home, 64, each=200, delay_s=SLOW_S),
    "processes_2": lambda home: processes(home, 2, 32, each=1000),
}


def main() -> dict[str, object]:
    """Run all contenders in turn, several rounds; return medians, spreads and ratios."""
    rounds: dict[str, list[Figures]] = {name: [] for name in CONTENDERS}
    for _ in range(ROUNDS):
        for name, contender in CONTENDERS.items():
            with tempfile.TemporaryDirectory() as home:
                rounds[name].append(contender(Path(home)))
    medians = {
        name: {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
        for name, runs in rounds.items()
    }
    fsync_ms, slow_ms = medians["raw"]["p50_ms"], medians["raw"]["p50_ms"] + SLOW_S * 1e3

    def ratio(name: str, base: str) -> float:
        return round(medians[name]["per_second"] / medians[base]["per_second"], 2)

    return {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version},
        "rounds": ROUNDS,
        "fsync_p50_ms": fsync_ms,
        "median": medians,
        "per_second_rounds": {name: [round(run["per_second"]) for run in runs] for name, runs in rounds.items()},
        "ratios": {
            "threads_64 / raw": ratio("threads_64", "raw"),
            "threads_64 / sqlite_one": ratio("threads_64", "sqlite_one"),
            "threads_64 / sqlite_100": ratio("threads_64", "sqlite_100"),
            "processes_2 / threads_64": ratio("processes_2", "threads_64"),
            "threads_1 p50 / fsync": round(medians["threads_1"]["p50_ms"] / fsync_ms, 2),
            "threads_64 p50 / fsync": round(medians["threads_64"]["p50_ms"] / fsync_ms, 2),
            "threads_64_slow p50 / its fsync": round(medians["threads_64_slow"]["p50_ms"] / slow_ms, 2),
        },
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        print(json.dumps(main(), indent=2))
