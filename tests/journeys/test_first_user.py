"""What a first user met: interrupts, lost output, mistyped words, terminals of 80 columns."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from strongroom.access.policy import default_text
from strongroom.cli import engine, frame
from strongroom.cli.main import main
from strongroom.custody.registry import Registry
from strongroom.custody.vault import Vault
from strongroom.ledger.proofs import MAX_BUNDLE
from tests.journeys.shell import Said, Shell

RUN = [sys.executable, "-m", "strongroom"]


def people(shell: Shell, *words: str, who: str = "") -> Said:
    """Run a command as people do, without --json, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([word for word in shell.words(words, who) if word != "--json"])
    return Said(status, out.getvalue(), err.getvalue())


class Terminal:
    """A program with a terminal of its own."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.master, slave = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - only this makes it the terminal
        )
        os.close(slave)

    def until(self, text: str) -> None:
        """Read on until `text` is shown."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            assert self._read() or text in self.shown, self.shown

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def end(self) -> int:
        """Read what is left; return the exit status."""
        while self._read():
            pass
        os.close(self.master)
        return self.process.wait(timeout=60)

    def _read(self) -> bool:
        if not select.select([self.master], [], [], 60)[0]:
            return False
        try:
            data = os.read(self.master, 4096)
        except OSError as error:
            if error.errno != errno.EIO:  # the other end is closed
                raise
            return False
        self.shown += data.decode()
        return bool(data)


def typed(shell: Shell, words: tuple[str, ...], who: str) -> list[str]:
    return [*RUN, *(word for word in shell.words(words, who) if word != "--json")]


def wait_for_export(shell: Shell) -> str:
    words = ("custody", "export", "chat:v1", str(shell.root / "out"), "--purpose", "p")
    assert shell(*words, who="carla").code == "access.approval_needed"
    return str(shell("access", "requests").json["requests"][0]["id"])


# ── interrupts and lost output ───────────────────────────────────────────────────────────────────────────────────────
def test_an_interrupt_is_an_error_like_any(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Vault, "verify", interrupted)
    said = sealed("custody", "verify", "chat:v1")
    assert (said.status, said.code) == (130, "interrupted")
    said = people(sealed, "custody", "verify", "chat:v1")
    assert (said.status, said.out) == (130, "")
    assert "remedy: Repeat the command" in said.err


@pytest.mark.parametrize(
    "words", [("custody", "ls"), ("custody", "show", "none:v1"), ("ledger", "follow", "--from", "0")]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_output_that_can_not_be_written_is_one_line(sealed: Shell, words: tuple[str, ...], as_json: bool) -> None:  # noqa: FBT001
    command = [word for word in sealed.words(words, "") if as_json or word != "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*RUN, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    if words[1] == "show" and not as_json:
        assert done.returncode == 5
        return
    assert done.returncode == 7
    assert re.fullmatch(r"storage\.output: standard output can't be written .*\n", done.stderr), done.stderr


@pytest.mark.parametrize(
    "words", [("custody", "ls"), ("custody", "ls", "--json"), ("--help",), ("ledger", "follow", "--from", "0")]
)
def test_a_closed_pipe_ends_it_quietly(sealed: Shell, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "STRONGROOM_HOME": str(sealed.home)}
    done = subprocess.run(
        [*RUN, *words], stdout=writing, stderr=subprocess.PIPE, text=True, env=environment, check=False, timeout=60
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_following_ends_with_an_interrupt_and_no_word(sealed: Shell) -> None:
    command = [*RUN, *sealed.words(("ledger", "follow", "--from", "0"), "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["action"]
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (130, "")
    assert all(json.loads(line)["action"] for line in out.splitlines())


@pytest.mark.parametrize("as_json", [True, False])
def test_help_into_a_full_disk(as_json: bool) -> None:  # noqa: FBT001
    with Path("/dev/full").open("w") as full:
        words = [*RUN, *(["--json"] if as_json else []), "--help"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (7, 1)


# ── approving ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_signed_blind(sealed: Shell) -> None:
    terminal = Terminal(typed(sealed, ("access", "approve", "req_0"), "owner"))
    assert terminal.end() == 5
    assert "access.no_such_request" in terminal.shown
    assert "Sign this" not in terminal.shown


def test_a_no_is_no_interrupt(sealed: Shell) -> None:
    request = wait_for_export(sealed)
    terminal = Terminal(typed(sealed, ("access", "approve", request), "owner"))
    terminal.until("Sign this as owner?")
    assert request in terminal.shown
    terminal.type("n\n")
    assert terminal.end() == 1
    assert "access.not_signed: not signed" in terminal.shown
    assert "interrupted" not in terminal.shown
    assert sealed("access", "requests").json["requests"][0]["approvals"] == []


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_remedies_fit_the_mistake(sealed: Shell, tmp_path: Path) -> None:
    chosen = "Choose one of those that the message lists."
    add = ("access", "add", "nora", "--role", "boss", "--new-passphrase-file", str(sealed.passphrase("nora")))
    for words in (add, ("access", "may", "custody.steal", "chat:v1")):
        assert sealed(*words, who="owner").json["error"]["remedy"] == chosen
    said = sealed("access", "may", "custody.open", who="rosa").json["error"]
    assert said["message"] == "custody.open needs a checkpoint: give NAME:TAG"
    said = sealed("ledger", "verify", "--witness", str(tmp_path / "typo"))
    assert said.status == 5
    assert said.json["error"]["message"] == "there is no witness at that place"
    said = sealed("home", "backup", str(tmp_path / "no" / "b.tar"), who="owner")
    assert (said.code, "folder" in said.json["error"]["remedy"]) == ("usage.bad_input", True)
    assert sealed("ledger", "tail", "-n", "1").json["entries"][0]["action"] != "home.backup"
    (tmp_path / "file").touch()
    elsewhere = ("--home", str(tmp_path / "file" / "vault"), "--passphrase-file", str(sealed.passphrase("owner")))
    said = sealed.process("init", "--json", *elsewhere, raw=True)
    assert "where you may write" in said.json["error"]["remedy"]


def test_a_restore_with_anothers_key_says_whose(sealed: Shell, tmp_path: Path) -> None:
    assert sealed("home", "backup", str(tmp_path / "b.tar"), who="owner").status == 0
    words = ("home", "restore", str(tmp_path / "b.tar"), "--home", str(tmp_path / "new"), "--vkey", "other+1+x")
    said = sealed.process(*words, "--json", raw=True)
    assert said.code == "ledger.forked"
    assert "another home's backup" in said.json["error"]["remedy"]


@pytest.mark.parametrize("word", ["p\udcff", "", "  "], ids=["no UTF-8", "empty", "blank"])
@pytest.mark.parametrize(
    ("words", "where"),
    [
        (("custody", "export", "chat:v1", "DIR", "--purpose", "WORD"), "--purpose"),
        (("custody", "export", "chat:v1", "WORD", "--purpose", "p"), "DESTINATION"),
        (("custody", "digest", "chat:v1", "--purpose", "WORD"), "--purpose"),
        (("access", "add", "bot", "--role", "service", "--purpose", "WORD"), "--purpose"),
        (("ledger", "export", "WORD"), "DIRECTORY"),
        (("ledger", "verify", "--witness", "WORD"), "--witness"),
    ],
)
def test_words_that_say_nothing_are_refused_by_name(
    sealed: Shell, words: tuple[str, ...], where: str, word: str
) -> None:
    given = {"WORD": word, "DIR": str(sealed.root / "out")}
    said = sealed(*(given.get(one, one) for one in words), who="carla")
    assert said.code == "usage.bad_input"
    assert said.json["error"]["where"].upper() == where.upper()
    assert sealed("access", "requests").json["requests"] == []


def test_a_program_with_an_odd_name_is_no_trouble(sealed: Shell) -> None:
    said = sealed.process("custody", "exec", "chat:v1", "--", "./p\udcff", "{model}", who="rosa")
    assert "can't be started" in said.json["error"]["message"]


def test_people_and_requests_are_not_for_wrong_credentials(sealed: Shell) -> None:
    for words in (("access", "people"), ("access", "requests")):
        assert sealed(*words).status == 0
        assert sealed(*words, who="ada").status == 0
        wrong = (*words, "--as", "ada", "--passphrase-file", str(sealed.passphrase("rosa")))
        assert sealed(*wrong).code == "access.wrong_passphrase"


# ── exec ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
_COUNTS = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
print("ready", flush=True)
while not seen:
    time.sleep(0.01)
end = time.monotonic() + 1
while time.monotonic() < end:
    time.sleep(0.01)
print(f"seen {len(seen)}", flush=True)
"""


def test_the_program_is_interrupted_once(sealed: Shell) -> None:
    words = ("custody", "exec", "chat:v1", "--", sys.executable, "-c", _COUNTS, "{model}")
    terminal = Terminal(typed(sealed, words, "rosa"))
    terminal.until("ready")
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "seen 1" in terminal.shown


def test_an_interrupt_that_no_terminal_sent_reaches_the_program(sealed: Shell) -> None:
    words = ("custody", "exec", "chat:v1", "--", sys.executable, "-c", _COUNTS, "{model}")
    command = typed(sealed, words, "rosa")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        running.send_signal(signal.SIGINT)
        assert running.stdout.read() == "seen 1\n"
    assert running.returncode == 0


# ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_export_of_the_log_goes_into_no_foreign_folder(sealed: Shell, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "vkey").write_text("my own notes\n")
    assert sealed("ledger", "export", str(full)).code == "conflict.already_exists"
    assert [(path.name, path.read_text()) for path in full.iterdir()] == [("vkey", "my own notes\n")]
    for _ in range(2):
        assert sealed("ledger", "export", str(tmp_path / "log")).status == 0
    (tmp_path / "empty").mkdir()
    assert sealed("ledger", "export", str(tmp_path / "empty")).status == 0


def test_a_bundle_may_be_as_large_as_the_format_says(sealed: Shell, tmp_path: Path) -> None:
    vkey = sealed("ledger", "verify").json["vkey"]
    for size, told in ((MAX_BUNDLE, "bundle"), (MAX_BUNDLE + 1, "bytes: no proof bundle")):
        (tmp_path / "b").write_bytes(b"x" * size)
        said = sealed("ledger", "check", str(tmp_path / "b"), "--vkey", vkey)
        assert said.code == "ledger.proof_invalid"
        assert told in said.json["error"]["message"]
        assert ("bytes:" in said.json["error"]["message"]) == (size > MAX_BUNDLE)


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("words", [("ledger", "tail"), ("custody", "ls"), ("access", "people")])
def test_times_are_whole_in_eighty_columns(sealed: Shell, words: tuple[str, ...]) -> None:
    terminal = Terminal(typed(sealed, words, ""), COLUMNS="80", TERM="dumb")
    assert terminal.end() == 0
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", terminal.shown), terminal.shown
    assert max(map(len, terminal.shown.splitlines())) <= 80
    assert re.search(r'"(at|created|since)": "[0-9-]+T[0-9:]+\.\d{3}Z"', sealed(*words).out)


def test_an_error_moves_no_cursor(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    said = people(sealed, "ledger", "check", str(sealed.root / "a\x1b[2J\r"), "--vkey", "x")
    assert (said.status, "\x1b" in said.err, "\r" in said.err) == (2, False, False)
    assert "\\x1b" in said.err
    monkeypatch.setattr(Registry, "all", lambda _self: (_ for _ in ()).throw(OSError("\x1b")))
    said = people(sealed, "custody", "ls")
    assert (said.status, "\x1b" in said.err) == (1, False)


def test_a_policy_that_was_shown_can_be_set(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert people(shell, "access", "policy", "show").out == default_text()
    for text in (default_text() + "//\ttabs\n\n// é 👩\u200d🔬\n", "permit(principal, action, resource); // no end"):
        current = type("Current", (), {"text": text, "digest": "d"})()
        monkeypatch.setattr("strongroom.access.rules.Rules.current", lambda _self, was=current: was)
        assert people(shell, "access", "policy", "show").out == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc é 👩\u200d🔬", "a\tb\nc é 👩\u200d🔬"),
        ("\x1b[2J\r\x07\x9b", "\\x1b[2J\\r\\x07\\x9b"),
        ("\u202e", "\\u202e"),
    ],
)
def test_what_a_model_writes_moves_no_cursor(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine._typed(text)
    assert capsys.readouterr().out == shown


def test_what_is_no_stamp_is_shown_as_it_is() -> None:
    said: Callable[[str], str] = frame.moment
    assert said("2026-11-23T08:00:00.123Z") == "2026-11-23 08:00:00Z"
    assert said("yesterday") == "yesterday"
