"""What happens to the log when a process, a disk or an intruder does its worst.

kill -9 shows that nothing tears; it can't show durability, for the page cache survives it. Durability is shown by
replaying a traced run with every write dropped that no fsync had covered when the entry was acknowledged.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import (
    LedgerAltered,
    LedgerTruncated,
    LedgerUnavailable,
    StrongroomError,
)
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.log import Ledger
from tests.faults.logs import event, open_log

WRITER = """
import os, signal, sys
from pathlib import Path
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import load_log_key
from strongroom.ledger.log import Ledger

home, count, kill_at, pragmas = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
ledger = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
connection = ledger._store._writer
for pragma in pragmas:
    connection.execute(f"PRAGMA {pragma}").fetchall()
left = kill_at
def step(statement):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
if kill_at:
    connection.set_trace_callback(step)
for turn in range(count):
    event = Event(id=new_id("evt"), at="t", who="os:1", action="a", object="o", host="h", why="", outcome="done")
    ledger.append(event)
    os.write(1, f"ack {event.id}\\n".encode())
connection.set_trace_callback(None)
"""


def store_of(log: Ledger) -> SqliteLog:
    assert isinstance(log._store, SqliteLog)
    return log._store


def checked(home: Path, acknowledged: list[str], before: SignedCheckpoint) -> int:
    """Open the log after a fault: whole, not forked, nothing lost, and it still grows. Return its size."""
    log = open_log(home)
    verified = log.verify(before)
    assert {*acknowledged} <= {entry.event.id for entry in log.find()}
    receipt = log.append(event())  # what a killed waiter left in the spool may come in with it
    assert log.verify(before).size == receipt.size > verified.size
    log.close()
    return verified.size


def head(home: Path) -> SignedCheckpoint:
    log = open_log(home)
    found = log.checkpoint()
    log.close()
    return found


def acks(output: bytes) -> list[str]:
    return [line.split()[1] for line in output.decode().splitlines() if line.startswith("ack ")]


def writer(home: Path, count: int, kill_at: int = 0, *pragmas: str) -> list[str]:
    return [sys.executable, "-c", WRITER, str(home), str(count), str(kill_at), *pragmas]


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_kill_at_every_statement_of_an_append(home: Path) -> None:
    before, killed = head(home), 0
    for step in range(1, 100):
        run = subprocess.run(writer(home, 2, step), stdout=subprocess.PIPE, check=False)
        checked(home, acks(run.stdout), before)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
        killed += 1
    assert killed > 10  # two appends: begin, look, insert, tile, head, commit, each
    assert run.returncode == 0


STRACE = shutil.which("strace")
REQUIRED = os.environ.get("STRONGROOM_REQUIRE_SERVICES") == "1"


def strace(*arguments: str, command: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command under strace, or skip; a machine that promises all services must have it."""
    if STRACE is None:
        (pytest.fail if REQUIRED else pytest.skip)("strace is not installed")
    done = subprocess.run([STRACE, "-f", *arguments, *command], capture_output=True, check=False)
    if b"ptrace" in done.stderr and b"not permitted" in done.stderr:
        (pytest.fail if REQUIRED else pytest.skip)("this machine lets nobody trace")
    return done


def test_kill_at_every_system_call_that_writes(home: Path) -> None:
    # finer than statements: within a COMMIT lie several writes and a sync, and closing folds the write-ahead log back
    before, killed = head(home), 0
    calls = "pwrite64,fdatasync,fsync,ftruncate,unlink,rename"
    for step in range(1, 200):
        inject = f"inject={calls}:signal=SIGKILL:when={step}"
        run = strace("-o", "/dev/null", "-e", f"trace={calls}", "-e", inject, command=writer(home, 1))
        checked(home, acks(run.stdout), before)
        if run.returncode == 0:
            break
        killed += 1
    assert killed > 5
    assert run.returncode == 0


def test_kill_several_writers_in_the_middle_of_their_work(home: Path) -> None:
    # each child is killed after so many acknowledgements were read: where in its work, the scheduler throws dice
    acknowledged: list[str] = []
    for counts in ((1, 40, 7), (25, 3, 58), (11, 12, 13), (90, 1, 1)):
        before = head(home)
        children = [subprocess.Popen(writer(home, 10_000), stdout=subprocess.PIPE) for _ in range(3)]
        for child, count in zip(children, counts, strict=True):
            assert child.stdout is not None
            for _ in range(count):
                acknowledged += acks(child.stdout.readline())
            child.kill()
        for child in children:
            acknowledged += acks(child.communicate()[0])
        size = checked(home, acknowledged, before)
    assert size >= 300 + len(acknowledged)


def test_what_a_killed_waiter_left_in_the_spool_is_written_once(home: Path) -> None:
    log = open_log(home)
    waiting = event()
    turn = store_of(log)._turn
    from strongroom.ledger import events

    turn._leave([events.encode(waiting)])
    log.append(event())
    turn._leave([events.encode(waiting)])  # as if the writer was killed between its commit and the clean-up
    log.append(event())
    assert [entry.event.id for entry in log.find()].count(waiting.id) == 1
    assert log.append(waiting).index == 301
    assert not list((home / "spool").iterdir())
    log.close()


@pytest.mark.parametrize("data", [b"", b"nonsense", b"strongroom/spool@1\n" + bytes(40)])
def test_a_malformed_spool_file_is_set_aside(home: Path, data: bytes) -> None:
    (home / "spool" / "x.offer").write_bytes(data)
    (home / "spool" / "y.tmp").write_bytes(data)
    log = open_log(home)
    assert log.append(event()).index == 300
    log.close()
    assert [path.name for path in (home / "spool").iterdir()] == ["x.bad"]


def test_a_spool_file_with_something_else_than_events_is_set_aside(home: Path) -> None:
    from strongroom.backends.file_turn import encode_offer

    (home / "spool" / "x.offer").write_bytes(encode_offer([b'{"not":"an event"}']))
    log = open_log(home)
    assert log.append(event()).index == 300
    log.close()
    assert [path.name for path in (home / "spool").iterdir()] == ["x.bad"]


# ── durability ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Disk:
    """What a disk holds that keeps only what was synced: fed with the system calls of a traced run."""

    cached: dict[str, bytearray]
    durable: dict[str, bytes]
    open: dict[int, str]

    def call(self, name: str, arguments: str, result: int) -> None:
        if result < 0:
            return
        if name == "openat":
            self.open[result] = unescape(arguments.split('"')[1]).decode()
            self.cached.setdefault(self.open[result], bytearray())
            return
        if name == "unlink":
            path = unescape(arguments.split('"')[1]).decode()
            self.cached.pop(path, None)
            self.durable.pop(path, None)
            return
        path = self.open.get(int(arguments.split(",", maxsplit=1)[0]), "")
        if name == "close":
            self.open.pop(int(arguments), None)
        elif name == "pwrite64" and path:
            data, offset = unescape(arguments.split('"')[1]), int(arguments.rsplit(",", 1)[1])
            file = self.cached[path]
            file.extend(bytes(max(0, offset + len(data) - len(file))))
            file[offset : offset + len(data)] = data
        elif name == "ftruncate":
            del self.cached[path][int(arguments.split(",")[1]) :]
        elif name in {"fsync", "fdatasync"}:
            self.durable[path] = bytes(self.cached[path])


def unescape(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)", re.DOTALL)
TRACED = "openat,close,pwrite64,ftruncate,fsync,fdatasync,unlink,write"


def crashes(home: Path, out: Path, *pragmas: str) -> Iterator[tuple[list[str], Path]]:
    """Run a writer; for each acknowledgement yield the ids acknowledged so far and what the disk then surely held."""
    begin = {str(home / "log.db"): (home / "log.db").read_bytes()}
    disk = Disk({path: bytearray(data) for path, data in begin.items()}, dict(begin), {})
    trace = out / "trace"
    run = strace(
        "-xx", "-s", "1000000", "-o", str(trace), "-e", f"trace={TRACED}", command=writer(home, 12, 0, *pragmas)
    )
    assert run.returncode == 0, run.stderr
    acknowledged: list[str] = []
    for line in trace.read_text().splitlines():
        if not (found := CALL.match(line)):
            continue
        if found[1] != "write":
            disk.call(found[1], found[2], int(found[3]))
        elif found[2].startswith("1,"):
            acknowledged += acks(unescape(found[2].split('"')[1]))
            crash = out / f"crash-{len(acknowledged)}"
            crash.mkdir()
            for name in ("log.db", "log.db-wal"):
                if (data := disk.durable.get(str(home / name))) is not None:
                    (crash / name).write_bytes(data)
            shutil.copy(home / "log.key", crash)
            yield list(acknowledged), crash


@pytest.mark.parametrize("fold", [8192, 20])  # with and without SQLite folding the write-ahead log into the file
def test_an_acknowledged_entry_survives_the_loss_of_all_unsynced_writes(home: Path, tmp_path: Path, fold: int) -> None:
    before, count = head(home), 0
    for acknowledged, crash in crashes(home, tmp_path, f"wal_autocheckpoint = {fold}"):
        checked(crash, acknowledged, before)
        count += 1
    assert count == 12


def test_that_this_test_would_notice_a_missing_sync(home: Path, tmp_path: Path) -> None:
    before, lost = head(home), 0
    for acknowledged, crash in crashes(home, tmp_path, "synchronous = OFF"):
        try:
            checked(crash, acknowledged, before)
        except (AssertionError, StrongroomError):
            lost += 1
    assert lost == 12


# ── no room, no disk ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_full_database_is_a_typed_error_and_the_log_goes_on_when_there_is_room(home: Path) -> None:
    log = open_log(home)
    connection = store_of(log)._writer
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    refused = event(why="x" * 60_000)
    with pytest.raises(LedgerUnavailable):
        log.append(refused)
    assert log.verify().size == 300
    connection.execute("PRAGMA max_page_count = 1000000")
    assert log.append(refused).index == 300
    assert log.verify().size == 301
    log.close()


FULL = """
import resource, sys
from pathlib import Path
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import LedgerUnavailable
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import load_log_key
from strongroom.ledger.log import Ledger

home = Path(sys.argv[1])
ledger = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
def event():
    return Event(id=new_id("evt"), at="t", who="os:1", action="a", object="o", host="h", why="x" * 5000, outcome="done")
ledger.append(event())
room = (home / "log.db-wal").stat().st_size + 100_000
resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
written, refused = 1, None
while refused is None:
    one = event()
    try:
        ledger.append(one)
        written += 1
    except LedgerUnavailable:
        refused = one
assert ledger.verify().size == 300 + written
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert ledger.append(refused).index == 300 + written
assert ledger.verify().size == 301 + written
"""


def test_a_disk_that_takes_no_more_is_a_typed_error_and_the_log_goes_on_when_it_does(home: Path) -> None:
    subprocess.run([sys.executable, "-c", FULL, str(home)], check=True)


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        SqliteLog(tmp_path / "none" / "log.db")


def test_a_file_that_is_no_database(home: Path) -> None:
    (home / "log.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(LedgerAltered):
        SqliteLog(home / "log.db")


def test_an_empty_store_is_not_taken_for_a_log(home: Path) -> None:
    (home / "log.db").unlink()
    with pytest.raises(LedgerTruncated):
        open_log(home)
