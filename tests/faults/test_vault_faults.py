"""kill -9 at every step at which a journey of the vault touches a store: nothing is lost, nothing is given twice."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.backends.localfs import LocalBlobs, LocalStage
from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.ledger.log import Ledger
from tests.journeys.shell import Shell, model_folder

STEPS = (
    (SqliteRecords, "apply"),
    (Ledger, "append"),
    (LocalStage, "publish"),
    (LocalStage, "put"),
    (LocalBlobs, "discard"),
)


class _Countdown:
    """Kills this process at its n-th look: once before and once after every step."""

    def __init__(self, left: int) -> None:
        self.left = left

    def look(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, step: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            self.look()
            result = step(*args, **kwargs)
            self.look()
            return result

        return run


def killed_at(moment: int, act: Callable[[], object]) -> bool:
    """Run `act` in a child that is killed at the given moment; return whether it was (else it came to its end)."""
    child = os.fork()
    if not child:
        countdown = _Countdown(moment)
        for kind, name in STEPS:
            setattr(kind, name, countdown.around(getattr(kind, name)))
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.fixture
def home(tmp_path: Path, quick_argon: None) -> Iterator[Shell]:
    """A settled home, kept aside so that every moment starts from the same."""
    settled = Shell(tmp_path).settle()
    settled.home.rename(tmp_path / "template")
    return settled


def fresh(shell: Shell) -> None:
    shutil.rmtree(shell.home, ignore_errors=True)
    shutil.copytree(shell.root / "template", shell.home)


def test_sealing_goes_on_after_a_kill_at_every_step(home: Shell, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model")
    words = ("custody", "seal", str(model), "chat:v1")
    marker = (model / "model-00001-of-00002.safetensors").read_bytes()[-64:]
    moment, fresh_ends = 0, False
    while not fresh_ends:
        moment += 1
        fresh(home)
        fresh_ends = not killed_at(moment, lambda: home(*words, who="carla"))
        listed = home("custody", "ls").json["checkpoints"]
        assert len(listed) <= 1
        again = home(*words, who="carla")
        assert again.status == 0, (moment, again.out)
        assert again.json["version"] == len(listed) + 1, moment
        assert home("custody", "verify", "chat:v1").status == 0
        assert home("custody", "digest", "chat:v1", who="rosa").status == 0
        assert home("ledger", "verify").status == 0
        folders = {path.name for path in (home.home / "sealed").iterdir() if not path.name.startswith(".")}
        assert len(folders) == len(listed) + 1, (moment, folders)
        assert not any(marker in path.read_bytes() for path in home.home.rglob("*") if path.is_file())
    assert moment > 15


def test_an_approval_is_used_at_most_once_whenever_the_export_dies(home: Shell, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model")
    (tmp_path / "template").rename(home.home)
    out = tmp_path / "out" / "chat"
    words = ("custody", "export", "chat:v1", str(out), "--purpose", "p")
    out.parent.mkdir()
    assert home("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    assert home(*words, who="carla").code == "access.approval_needed"
    request = home("access", "requests").json["requests"][0]["id"]
    assert home("access", "approve", request, who="owner").status == 0
    home.home.rename(tmp_path / "template")
    moment, ended = 0, False
    while not ended:
        moment += 1
        fresh(home)
        shutil.rmtree(out, ignore_errors=True)
        ended = not killed_at(moment, lambda: home(*words, who="carla"))
        entries = home("ledger", "tail", "-n", "500").json["entries"]
        claimed = [one for one in entries if one["claim"] == f"request:{request}"]
        assert not out.exists() or claimed, moment
        shutil.rmtree(out, ignore_errors=True)
        again = home(*words, who="carla")
        assert (again.status == 0) == (not claimed), (moment, again.out)
        assert not claimed or again.code in {"access.approval_consumed", "access.approval_needed"}
        assert home("ledger", "verify").status == 0
    assert moment > 5


def test_adding_a_person_can_be_repeated_after_a_kill_at_every_step(home: Shell, tmp_path: Path) -> None:
    words = ("access", "add", "nora", "--role", "researcher", "--new-passphrase-file", str(home.passphrase("nora")))
    moment, ended = 0, False
    while not ended:
        moment += 1
        fresh(home)
        ended = not killed_at(moment, lambda: home(*words, who="owner"))
        there = "nora" in [one["name"] for one in home("access", "people").json["people"]]
        again = home(*words, who="owner")
        assert again.status == 0 or (there and again.code == "conflict.already_exists"), (moment, again.out)
        assert home("access", "may", who="nora").status == 0
    assert moment > 5


def test_disabling_can_be_repeated_after_a_kill_at_every_step(home: Shell) -> None:
    moment, ended = 0, False
    while not ended:
        moment += 1
        fresh(home)
        ended = not killed_at(moment, lambda: home("access", "disable", "rosa", who="owner"))
        home("access", "disable", "rosa", who="owner")
        assert home("access", "may", who="rosa").code == "access.principal_disabled", moment
    assert moment > 5


def test_a_new_passphrase_is_the_old_or_the_new_one_after_a_kill(home: Shell, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new\n")
    words = ("access", "passwd", "--new-passphrase-file", str(tmp_path / "new"))
    moment, ended = 0, False
    while not ended:
        moment += 1
        fresh(home)
        ended = not killed_at(moment, lambda: home(*words, who="rosa"))
        old = home("access", "may", who="rosa").status
        new = home("access", "may", "--as", "rosa", "--passphrase-file", str(tmp_path / "new")).status
        assert sorted((old, new)) == [0, 3], moment
    assert new == 0
