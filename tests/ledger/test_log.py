"""append · entry · latest · find · tail · follow · prove."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import (
    AlreadyClaimed,
    AlreadyExists,
    BadInput,
    EntryTooLarge,
    LedgerUnavailable,
    NoSuchEntry,
)
from strongroom.ledger import combine
from strongroom.ledger.events import Event, Receipt
from strongroom.ledger.keys import LogKey, load_log_key
from strongroom.ledger.log import Ledger
from strongroom.ledger.writer import _Plan

Make = Callable[..., Event]


def test_append_returns_where_the_event_is(ledger: Ledger, make_event: Make) -> None:
    first, second = make_event(), make_event()
    assert ledger.append(first) == Receipt(0, 1)
    assert ledger.append(second) == Receipt(1, 2)
    assert ledger.entry(1).event == second
    assert ledger.checkpoint().size == 2
    assert ledger.verify().size == 2


def test_appending_the_same_event_again_is_harmless(ledger: Ledger, make_event: Make) -> None:
    event = make_event(claim="request:1")
    assert ledger.append(event).index == 0
    ledger.append(make_event())
    assert ledger.append(event) == Receipt(0, 2)
    assert ledger.checkpoint().size == 2


def test_another_event_under_a_used_id_is_refused(ledger: Ledger, make_event: Make) -> None:
    event = make_event()
    ledger.append(event)
    with pytest.raises(AlreadyExists):
        ledger.append(make_event(id=event.id, why="another"))


def test_an_event_with_a_field_of_the_wrong_type_is_refused(ledger: Ledger, make_event: Make) -> None:
    for changes in ({"why": 7}, {"outcome": "maybe"}, {"detail": {"x": 1.5}}, {"type": "strongroom/event@2"}):
        with pytest.raises(BadInput):
            ledger.append(make_event(**changes))
    with pytest.raises(EntryTooLarge):
        ledger.append(make_event(why="x" * 65_536))
    assert ledger.checkpoint().size == 0


@pytest.mark.usefixtures("ledger")
def test_a_log_is_not_begun_twice(tmp_path: Path, key: LogKey) -> None:
    with pytest.raises(AlreadyExists):
        Ledger.create(SqliteLog(tmp_path / "ledger" / "log.db"), key)


def test_what_one_ledger_writes_another_reads_and_extends(tmp_path: Path, ledger: Ledger, make_event: Make) -> None:
    other = Ledger(SqliteLog(tmp_path / "ledger" / "log.db"), load_log_key(tmp_path / "ledger" / "log.key"))
    for turn in range(600):
        (ledger if turn % 2 else other).append(make_event(detail={"n": turn}))
    assert [entry.event.detail["n"] for entry in ledger.tail(600)] == list(range(600))
    assert ledger.verify() == other.verify()
    other.close()


def test_latest_find_and_tail(ledger: Ledger, make_event: Make) -> None:
    for turn in range(700):
        ledger.append(make_event(action=f"a{turn % 3}", object=f"o{turn % 2}", detail={"n": turn}))
    ledger.append(make_event(claim="request:9"))
    newest = ledger.latest("a0", "o1")
    assert newest is not None
    assert newest.index == 699
    assert ledger.latest("a0", "nothing") is None
    assert [entry.index for entry in ledger.find(object="o1")] == list(range(1, 700, 2))
    assert [entry.index for entry in ledger.find(action="a1", object="o0")] == list(range(4, 700, 6))
    assert [entry.index for entry in ledger.find(claim="request:9")] == [700]
    assert len(list(ledger.find())) == 701
    assert [entry.index for entry in ledger.tail(2)] == [699, 700]
    assert len(ledger.tail(1000)) == 701
    assert ledger.tail(0) == []


def test_no_such_entry(ledger: Ledger, make_event: Make) -> None:
    ledger.append(make_event())
    for index in (-1, 1):
        with pytest.raises(NoSuchEntry):
            ledger.entry(index)


def test_follow_sees_old_and_new_and_stops(ledger: Ledger, make_event: Make) -> None:
    for _ in range(300):
        ledger.append(make_event())
    stop = threading.Event()
    seen: list[int] = []

    def read() -> None:
        for entry in ledger.follow(10, stop=stop):
            seen.append(entry.index)
            if entry.index == 400:
                stop.set()

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(101):
        ledger.append(make_event())
    reader.join()
    assert seen == list(range(10, 401))
    assert [entry.index for entry in ledger.follow(399, timeout=0)] == [399, 400]
    assert list(ledger.follow(500, timeout=0)) == []
    assert list(ledger.follow(0, stop=stop)) == []


def test_many_threads_share_the_log(ledger: Ledger, make_event: Make) -> None:
    receipts: dict[int, str] = {}

    def write() -> None:
        for _ in range(40):
            event = make_event()
            receipts[ledger.append(event).index] = event.id

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(receipts) == list(range(640))
    assert ledger.verify().size == 640
    assert all(entry.event.id == receipts[entry.index] for entry in ledger.find())


def test_a_crowd_shares_commits(ledger: Ledger, make_event: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first writer is held inside its turn until all others have queued: they must all go into one commit.
    writer, group = ledger._group._settle.__self__, ledger._group
    commits: list[int] = []
    original, queued = writer._commit, threading.Event()

    def commit(tree: object, plan: _Plan, turn: object) -> object:
        commits.append(len(plan.accepted))
        if len(commits) == 1:
            queued.wait()
        return original(tree, plan, turn)

    monkeypatch.setattr(writer, "_commit", commit)
    threads = [threading.Thread(target=ledger.append, args=(make_event(),)) for _ in range(33)]
    for thread in threads:
        thread.start()
    while len(group._queue) + sum(commits) < 33:
        threading.Event().wait(0.001)
    queued.set()
    for thread in threads:
        thread.join()
    assert sum(commits) == 33
    assert len(commits) == 2


def test_one_of_many_threads_gets_the_claim(ledger: Ledger, make_event: Make) -> None:
    outcomes: list[object] = []

    def write() -> None:
        try:
            outcomes.append(ledger.append(make_event(claim="request:1")))
        except AlreadyClaimed as error:
            outcomes.append(error)
        outcomes.append(ledger.append(make_event()))  # the rest of the batch goes in

    threads = [threading.Thread(target=write) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(one, AlreadyClaimed) for one in outcomes) == 15
    assert ledger.verify().size == 17
    assert len(list(ledger.find(claim="request:1"))) == 1


CHILD = """
import sys, threading
from pathlib import Path
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import AlreadyClaimed
from strongroom.core.ids import new_id
from strongroom.ledger.events import Event
from strongroom.ledger.keys import load_log_key
from strongroom.ledger.log import Ledger

home = Path(sys.argv[1])
ledger = Ledger(SqliteLog(home / "log.db"), load_log_key(home / "log.key"))
won = []
def write(who):
    for turn in range(25):
        event = Event(id=new_id("evt"), at="t", who=who, action="a", object="o", host="h", why="", outcome="done",
                      claim=f"request:{turn}")
        try:
            ledger.append(event)
            won.append(turn)
        except AlreadyClaimed:
            ledger.append(Event(id=new_id("evt"), at="t", who=who, action="a", object="o", host="h", why="",
                                outcome="refused"))
print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=write, args=(f"os:{n}",)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(" ".join(map(str, won)), flush=True)
"""


def test_processes_share_the_log_and_one_gets_each_claim(tmp_path: Path, ledger: Ledger) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "ledger")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    outputs = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        outputs.append(child.communicate()[0])
        assert child.returncode == 0
    assert sorted(int(turn) for output in outputs for turn in output.split()) == list(range(25))
    assert ledger.verify().size == 3 * 8 * 25
    assert not list((tmp_path / "ledger" / "spool").iterdir())


def test_a_child_after_fork_is_refused(ledger: Ledger, make_event: Make) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ledger.append(make_event())
        except LedgerUnavailable:
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.append(make_event()).index == 0


def test_an_interrupted_leader_leaves_nobody_waiting(
    ledger: Ledger, make_event: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ledger._group._settle.__self__

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writer, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(make_event())
    assert ledger.append(make_event()).index == 0


@pytest.mark.parametrize("promoted", [False, True])
def test_an_interrupted_waiter_is_forgotten(
    make_event: Make, monkeypatch: pytest.MonkeyPatch, *, promoted: bool
) -> None:
    class Interrupted:
        """A gate at which Ctrl-C arrives, perhaps just when its owner is told to lead."""

        def __init__(self, owner: combine.Pending) -> None:
            self.owner = owner

        def acquire(self) -> None:
            self.owner.promoted = promoted
            raise KeyboardInterrupt

    class Impatient(combine.Pending):
        def __init__(self, draft: combine.Draft) -> None:
            super().__init__(draft)
            self.gate = Interrupted(self)  # type: ignore[assignment]

    monkeypatch.setattr(combine, "Pending", Impatient)
    group = combine.GroupCommit(lambda pending, more: None)  # noqa: ARG005
    group._led = True  # somebody else leads
    event = make_event()
    with pytest.raises(KeyboardInterrupt):
        group.append(combine.Draft(event, b""))
    assert not group._queue
    assert group._led is not promoted  # a promoted waiter hands the lead on: here, to whoever comes next
