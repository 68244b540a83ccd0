"""An issue cut off by kill -9 at every step, by a full disk, by a lost ledger: no copy leaves without its deed."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.access.approvals import Terms
from strongroom.access.desk import Desk as AccessDesk
from strongroom.backends.sqlite_log import SqliteLog
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.core.errors import ApprovalNeeded, DiskFull
from strongroom.custody.copies import status
from strongroom.custody.tensors import SealedCheckpoint
from strongroom.ledger.journal import Journal
from strongroom.ledger.keys import load_log_key
from strongroom.ledger.log import Ledger
from tests.access import conftest
from tests.access.office import Office
from tests.clock import StepClock
from tests.custody.issuing import NAME, Desk, model, premises, received, set_up
from tests.faults.test_seal_crashes import STEPS, in_child

office = conftest.office
CALLS = ((SqliteRecords, "apply"), (Ledger, "append"))


@pytest.fixture
def desk(office: Office, tmp_path: Path) -> Desk:
    return set_up(office, tmp_path)


def again(root: Path, office: Office, clock: StepClock) -> AccessDesk:
    """Open the home anew, as the next process does."""
    ledger = Ledger(SqliteLog(root / "log.sqlite3"), load_log_key(root / "key"))
    terms: Terms = office.desk.approvals._terms
    return AccessDesk(
        SqliteRecords(root / "records.sqlite3"), Journal(ledger, clock, "testhost"), home="home_test", terms=terms
    )


class _Countdown:
    """Kills this process at its n-th look at a call that changes a disk or a store."""

    def __init__(self, left: int) -> None:
        self.left = left

    def look(self, half: Callable[[], object] = lambda: None) -> None:
        self.left -= 1
        if self.left == 0:
            half()
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, real: Callable[..., object]) -> Callable[..., object]:
        """Look before a system call; half of a write is done first."""

        def counted(*args: object, **more: object) -> object:
            data = args[1] if real is _WRITE else b""
            self.look(lambda: real(args[0], bytes(data)[: len(data) // 2]) if data else None)  # type: ignore[call-overload,arg-type]
            return real(*args, **more)

        return counted

    def around(self, real: Callable[..., object]) -> Callable[..., object]:
        """Look before and after a store's step."""

        def counted(*args: object, **more: object) -> object:
            self.look()
            result = real(*args, **more)
            self.look()
            return result

        return counted


_WRITE = os.write


def dying_at(step: int) -> None:
    """Make this process kill itself at the `step`-th look."""
    countdown = _Countdown(step)
    for name in STEPS:
        setattr(os, name, countdown.before(getattr(os, name)))
    for kind, name in CALLS:
        setattr(kind, name, countdown.around(getattr(kind, name)))


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_kill_at_every_step(desk: Desk, office: Office, clock: StepClock, tmp_path: Path) -> None:
    desk.vault.seal(desk.carla, model(tmp_path / "small", rows=30), NAME)  # fewer steps
    desk.approve(desk.order())
    kept = tmp_path / "kept"
    stores = ("log.sqlite3", "records.sqlite3", "home")
    office.journal.ledger.close()
    office.records.close()
    kept.mkdir()
    for path in [one for one in tmp_path.iterdir() if one.name.startswith(stores)]:
        (shutil.copytree if path.is_dir() else shutil.copy)(path, kept / path.name)
    seen, step = set[str](), 0
    while "issued" not in seen:
        step += 1
        for path in kept.iterdir():
            (shutil.rmtree if path.is_dir() else os.unlink)(tmp_path / path.name)
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
        shutil.rmtree(tmp_path / "away")
        (tmp_path / "away").mkdir()

        def doomed(step: int = step) -> None:
            one = reopened(desk, tmp_path, office, clock)
            dying_at(step)
            one.issuer().issue(one.carla, NAME, one.order())

        ended = in_child(doomed) == 0
        seen.add(looked_at(desk, tmp_path, office, clock, whole=ended))
    assert step > 60
    assert seen == {"nothing", "deed, no copy", "copy, not confirmed", "issued"}


def reopened(desk: Desk, root: Path, office: Office, clock: StepClock) -> Desk:
    fresh = Office(again(root, office, clock), office.owner, office.records, office.journal, office.recovery)
    fresh.records, fresh.journal = fresh.desk._records, fresh.desk._journal  # type: ignore[assignment]
    vault, rest = premises(fresh, root, desk.carla)
    return Desk(fresh, root, vault, rest, desk.carla, desk.carl)


def looked_at(desk: Desk, root: Path, office: Office, clock: StepClock, *, whole: bool) -> str:
    """Say what a killed issue left, and insist that it is something that may be left."""
    one = reopened(desk, root, office, clock)
    try:
        deeds, there = one.premises.copies.all(), root / "away" / "out"
        assert set(one.away) <= {"out", ".out.strongroom-partial"}
        assert len(deeds) <= 1
        if not there.exists():
            assert not whole
            assert all(status(each, one.premises.copies.placed(), clock.now()) == "prepared" for each in deeds)
            return "deed, no copy" if deeds else "nothing"
        assert deeds, "a copy without a deed"
        found = received(there)
        assert found.verify().segments
        with SealedCheckpoint(found.open(one.seed(), None, now=clock.now())) as ours:
            assert len(ours.keys()) == 6
        assert found.copy.copy == deeds[0].copy
        stands = status(deeds[0], one.premises.copies.placed(), clock.now())
        if stands == "prepared":
            assert not whole
            return "copy, not confirmed"
        return "issued" if whole else "copy, not confirmed"
    finally:
        one.office.journal.ledger.close()
        one.office.records.close()


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_full_disk_leaves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.approve(desk.order())
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    real = desk.marks.prepare

    def short_of_room(*words: object, **more: object) -> object:
        mark = real(*words, **more)  # type: ignore[arg-type]
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, room[1]))
        return mark

    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    monkeypatch.setattr(desk.marks, "prepare", short_of_room)
    monkeypatch.setattr(desk.office.journal.__class__, "record_failure", _with_room(room))
    try:
        with pytest.raises(DiskFull):
            desk.issuer().issue(desk.carla, NAME, desk.order())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
        signal.signal(signal.SIGXFSZ, heard)
    assert desk.away == []
    assert desk.premises.copies.all() == []
    assert desk.office.last().event.detail["code"] == "storage.disk_full"
    with pytest.raises(ApprovalNeeded):  # the approval is used up
        desk.issuer().issue(desk.carla, NAME, desk.order())


def _with_room(room: tuple[int, int]) -> Callable[..., None]:
    """Give the ledger its room back: it lies on another disk."""
    real = Journal.record_failure

    def record_failure(self: Journal, *words: object, **more: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
        real(self, *words, **more)  # type: ignore[arg-type]

    return record_failure


BIG = """
import os, sys
from pathlib import Path
import numpy as np
from tests.access.conftest import made_office
from tests.clock import StepClock
from tests.custody import issuing
from strongroom.custody.issue import Issuer
place, rows = Path(sys.argv[1]), int(sys.argv[2])

def model(place, seed=0, rows=0):
    place.mkdir()
    head = b'{"layers.0.mlp.up.weight":{"dtype":"BF16","shape":[%d,4096],"data_offsets":[0,%d]}}' % (rows, rows * 8192)
    with (place / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        piece = np.random.default_rng(1).standard_normal(1 << 18, dtype=np.float32).view(np.uint16)[1::2].tobytes()
        for _ in range(rows * 8192 // len(piece)):
            file.write(piece)
    return place

issuing.model = model
clock = StepClock()
with made_office(place, clock) as office:
    desk = issuing.set_up(office, place, rows=rows)
    desk.issuer = lambda measure=None: Issuer(desk.premises, desk.marks)
    issued = desk.issue()
assert issued.mark.retained > 1000
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_stays_constant(tmp_path: Path) -> None:
    def peak(megabytes: int) -> int:
        place = tmp_path / str(megabytes)
        place.mkdir()
        command = [sys.executable, "-c", BIG, str(place), str(megabytes * 128)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
        assert done.returncode == 0, done.stderr
        shutil.rmtree(place)
        return int(done.stdout) // 1024

    small, large = peak(40), peak(600)
    assert large < 300
    assert large - small < 32
