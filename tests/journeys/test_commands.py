"""What the commands do when all is not well: wrong people, wrong words, wrong places."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.backends.session_agent import _address
from tests.journeys.shell import PEOPLE, Shell, model_folder

OPEN = ("custody", "digest", "chat:v1")


# ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("who", PEOPLE)
def test_opening_is_for_those_with_the_right(sealed: Shell, who: str) -> None:
    said = sealed(*OPEN, who=who)
    allowed = PEOPLE[who] in {"custodian", "researcher"}
    assert said.status == (0 if allowed else 3)
    assert allowed or said.code == "access.not_permitted"


@pytest.mark.parametrize("who", ["owner", "rosa", "ada"])
def test_sealing_and_exporting_are_for_custodians(sealed: Shell, model: Path, who: str, tmp_path: Path) -> None:
    assert sealed("custody", "seal", str(model), "x:v1", who=who).code == "access.not_permitted"
    export = ("custody", "export", "chat:v1", str(tmp_path / "out"), "--purpose", "p")
    assert sealed(*export, who=who).code == "access.not_permitted"
    assert sealed("access", "requests").json["requests"] == []


def test_an_auditor_reads_the_books(sealed: Shell) -> None:
    for words in (("custody", "ls"), ("custody", "show", "chat:v1"), ("custody", "verify", "chat:v1")):
        assert sealed(*words, who="ada").status == 0
    assert sealed("ledger", "verify", who="ada").status == 0


def test_a_service_opens_for_its_purpose_only(sealed: Shell) -> None:
    words = ("access", "add", "bot", "--role", "service", "--purpose", "serve")
    assert sealed(*words, "--new-passphrase-file", str(sealed.passphrase("bot")), who="owner").status == 0
    assert sealed(*OPEN, "--purpose", "serve", who="bot").status == 0
    assert sealed(*OPEN, who="bot").code == "access.purpose_mismatch"
    assert sealed("custody", "ls", who="bot").code == "access.not_permitted"


def test_somebody_added_later_opens_and_the_payload_is_not_touched(sealed: Shell) -> None:
    before = {path: path.read_bytes() for path in (sealed.home / "sealed").rglob("*") if path.is_file()}
    words = ("access", "add", "nora", "--role", "researcher", "--new-passphrase-file", str(sealed.passphrase("nora")))
    assert sealed(*words, who="owner").json["envelopes"] == 1
    assert sealed(*OPEN, who="nora").status == 0
    assert {path: path.read_bytes() for path in (sealed.home / "sealed").rglob("*") if path.is_file()} == before


def test_somebody_disabled_is_out_and_holds_no_envelope(sealed: Shell) -> None:
    assert "rosa" in sealed("custody", "show", "chat:v1").json["holders"]
    assert sealed("access", "disable", "rosa", who="owner").status == 0
    assert sealed(*OPEN, who="rosa").code == "access.principal_disabled"
    assert "rosa" not in sealed("custody", "show", "chat:v1").json["holders"]


def test_may_answers_one_question_and_all_questions(sealed: Shell) -> None:
    assert sealed("access", "may", "custody.open", "chat:v1", who="rosa").json["may"] is True
    assert sealed("access", "may", "custody.export", "chat:v1", who="rosa").json["may"] is False
    assert sealed("access", "may", "custody.export", "chat:v1", who="carla").json["approvals"] == 1
    rights = sealed("access", "may", who="ada").json["may"]
    assert rights == {"registry.read": 0, "ledger.read": 0, "watermark.detect": 0}
    assert sealed("access", "may", "custody.steal", "chat:v1", who="rosa").code == "usage.bad_name"


# ── passphrases and sessions ─────────────────────────────────────────────────────────────────────────────────────────
def test_a_session_holds_until_logout_and_leaves_nothing_on_disk(sealed: Shell) -> None:
    try:
        assert sealed("access", "login", who="rosa").json["session"]["name"] == "rosa"
        assert sealed(*OPEN).status == 0
        assert sealed("access", "may").json["who"] == "rosa"
        seed = sealed_seed(sealed)
        for path in sealed.root.rglob("*"):
            if path.is_file():
                assert seed not in path.read_bytes(), path
    finally:
        assert sealed("access", "logout").status == 0
    assert sealed(*OPEN).code == "usage.passphrase_unreadable"
    assert sealed("access", "logout").code == "access.session_expired"


def sealed_seed(shell: Shell) -> bytes:
    from strongroom.backends.session_agent import AgentSessions

    session = AgentSessions(shell.home).current()
    assert session is not None
    return session.seed.reveal()[:32]


def test_a_session_expires_by_itself(sealed: Shell) -> None:
    from strongroom.backends.session_agent import AgentSessions
    from strongroom.core.secrets import Secret
    from strongroom.ports.sessions import Session

    sessions = AgentSessions(sealed.home)
    sessions.start(Session("rosa", Secret(b"x" * 128), time.time() + 0.3))  # noqa: TID251 - the agent's own clock
    assert sessions.current() is not None
    deadline = time.monotonic() + 20
    while sessions.current() is not None:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_of_somebody_disabled_is_worth_nothing(sealed: Shell) -> None:
    try:
        assert sealed("access", "login", who="rosa").status == 0
        assert sealed("access", "disable", "rosa", who="owner").status == 0
        assert sealed(*OPEN).code == "access.principal_disabled"
    finally:
        sealed("access", "logout")


def test_a_squatter_on_the_sessions_address_gains_nothing(sealed: Shell) -> None:
    """Somebody else's process may take the abstract address; what it says is no session of this home."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind("\0" + _address(sealed.home))
        door.listen(8)
        fake = json.dumps({"name": "rosa", "seed": "00" * 128, "expires": 4e9}).encode()
        answering = subprocess.Popen(
            [sys.executable, "-c", _SQUATTER, str(door.fileno()), fake.decode()], pass_fds=[door.fileno()]
        )
        try:
            assert sealed(*OPEN).code == "access.principal_altered"
        finally:
            answering.kill()
            answering.wait()


_SQUATTER = """
import socket, sys
door = socket.socket(fileno=int(sys.argv[1]))
while True:
    line, _ = door.accept()
    if line.recv(3) == b"get":
        line.sendall(sys.argv[2].encode())
    line.close()
"""


def test_a_passphrase_is_changed_by_its_owner(sealed: Shell) -> None:
    new = sealed.root / "new.pass"
    new.write_text("another\n")
    assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="carla").status == 0
    assert sealed(*OPEN, who="carla").code == "access.wrong_passphrase"
    shutil.copy(new, sealed.passphrase("carla"))
    assert sealed(*OPEN, who="carla").status == 0


def test_a_lost_passphrase_is_replaced_with_the_recovery_key(tmp_path: Path, quick_argon: None) -> None:
    shell = Shell(tmp_path)
    made = shell("init", "--passphrase-file", str(shell.passphrase("owner"))).json
    key = tmp_path / "recovery.txt"
    key.write_text(made["recovery_key"])
    new = tmp_path / "new.pass"
    new.write_text("remembered\n")
    words = ("access", "recover", "owner", "--recovery-key-file", str(key), "--new-passphrase-file", str(new))
    assert shell(*words).status == 0
    assert shell("access", "may", who="owner").code == "access.wrong_passphrase"
    shutil.copy(new, shell.passphrase("owner"))
    assert shell("access", "may", who="owner").status == 0
    for path in shell.home.rglob("*"):
        assert not path.is_file() or made["recovery_key"].encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "content",
    [b"", b"two\nlines\n", b"x" * 5000, None],
    ids=["empty", "two lines", "huge", "missing"],
)
def test_an_unusable_passphrase_file_is_named(sealed: Shell, content: bytes | None) -> None:
    file = sealed.root / "odd.pass"
    if content is not None:
        file.write_bytes(content)
    said = sealed("access", "may", "--as", "owner", "--passphrase-file", str(file))
    assert said.code == "usage.passphrase_unreadable"
    assert said.json["error"]["where"] == str(file)


# ── words, homes, settings ───────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("custody", "seal"), "usage"),
        (("custody", "nonsense"), "usage"),
        (("custody", "show", "chat"), "usage.bad_name"),
        (("custody", "show", "../x:y"), "usage.bad_name"),
        (("custody", "show", "none:v1"), "custody.no_such_checkpoint"),
        (("ledger", "prove", "99999"), "ledger.no_such_entry"),
        (("ledger", "tail", "-n", "0"), "usage"),
        (("access", "approve", "req_0", "--as", "owner"), None),
    ],
)
def test_wrong_words_are_one_json_document_and_an_exit_status(
    shell: Shell, words: tuple[str, ...], code: str | None
) -> None:
    said = shell(*words)
    assert said.status != 0
    assert set(said.json["error"]) == {"code", "where", "message", "remedy"}
    assert code is None or said.code == code


def test_no_home_is_said_so(tmp_path: Path) -> None:
    assert Shell(tmp_path)("custody", "ls").code == "home.not_found"


def test_init_does_not_touch_what_is_there(shell: Shell) -> None:
    assert shell("init", "--passphrase-file", str(shell.passphrase("owner"))).code == "conflict.already_exists"
    assert shell("ledger", "verify").status == 0


def test_a_home_is_private(shell: Shell) -> None:
    assert shell.home.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in (shell.home / "ledger").iterdir())


@pytest.mark.parametrize(
    "text",
    ["[ledger]\nstor = 'x'\n", "[access]\nsession_minutes = 'long'\n", "not toml", "[access]\napproval_hours = 0\n"],
)
def test_unknown_or_wrong_settings_are_refused(shell: Shell, text: str) -> None:
    (shell.home / "strongroom.toml").write_text(text)
    assert shell("custody", "ls").code == "usage.bad_settings"


def test_a_home_of_another_version_is_refused(shell: Shell) -> None:
    mark = json.loads((shell.home / "home.json").read_text())
    (shell.home / "home.json").write_text(
        json.dumps(mark | {"format": "strongroom/home@2"}, separators=(",", ":"), sort_keys=True)
    )
    assert shell("custody", "ls").code == "home.version"
    assert shell("home", "upgrade").code == "home.version"


def test_upgrading_a_current_home_changes_nothing(shell: Shell) -> None:
    assert shell("home", "upgrade").json["upgraded"] == []


# ── seal, exec, export ───────────────────────────────────────────────────────────────────────────────────────────────
def test_a_tag_moves_to_the_newer_version(sealed: Shell, tmp_path: Path) -> None:
    second = model_folder(tmp_path / "second", seed=2)
    first = sealed("custody", "show", "chat:v1").json
    assert sealed("custody", "seal", str(second), "chat:v1", who="carla").json["version"] == 2
    now = sealed("custody", "show", "chat:v1").json
    assert (now["version"], now["parent"]) == (2, first["id"])
    assert now["digest"] != first["digest"]


def test_an_older_version_in_place_of_the_current_one_is_refused(sealed: Shell, tmp_path: Path) -> None:
    old = Path(sealed("custody", "show", "chat:v1").json["locations"][0]["path"])
    second = model_folder(tmp_path / "second", seed=2)
    sealed("custody", "seal", str(second), "chat:v1", who="carla")
    new = Path(sealed("custody", "show", "chat:v1").json["locations"][0]["path"])
    shutil.copytree(new, tmp_path / "kept")
    shutil.rmtree(new)
    shutil.copytree(old, new)
    assert sealed("custody", "verify", "chat:v1").code == "custody.rolled_back"
    assert sealed(*OPEN, who="rosa").code == "custody.rolled_back"
    shutil.rmtree(new)
    shutil.copytree(tmp_path / "kept", new)
    assert sealed("custody", "verify", "chat:v1").status == 0


def test_records_of_an_older_version_put_back_are_refused(sealed: Shell, tmp_path: Path) -> None:
    before = (sealed.home / "records.sqlite3").read_bytes()
    second = model_folder(tmp_path / "second", seed=2)
    sealed("custody", "seal", str(second), "chat:v1", who="carla")
    for stale in sealed.home.glob("records.sqlite3*"):
        stale.unlink()
    (sealed.home / "records.sqlite3").write_bytes(before)
    assert sealed("custody", "verify", "chat:v1").code == "records.altered"


def test_a_single_file_is_sealed_run_and_exported_as_one(shell: Shell, model: Path, tmp_path: Path) -> None:
    one = model / "model-00001-of-00002.safetensors"
    assert shell("custody", "seal", str(one), "one:v1", who="carla").json["tensors"] == 3
    code = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())"
    ran = shell.process("custody", "exec", "one:v1", "--", sys.executable, "-c", code, "{model}", who="rosa")
    import hashlib

    assert ran.out.strip() == hashlib.sha256(one.read_bytes()).hexdigest()
    export = ("custody", "export", "one:v1", str(tmp_path / "plain.safetensors"), "--purpose", "p")
    assert shell(*export, who="carla").code == "access.approval_needed"
    request = shell("access", "requests").json["requests"][0]["id"]
    assert shell("access", "approve", request, who="carl").status == 0
    assert shell(*export, who="carla").status == 0
    assert (tmp_path / "plain.safetensors").read_bytes() == one.read_bytes()


def test_the_programs_exit_status_is_ours(sealed: Shell) -> None:
    words = ("custody", "exec", "chat:v1", "--", sys.executable, "-c", "import sys; sys.exit(7)", "{model}")
    assert sealed.process(*words, who="rosa").status == 7


def test_the_program_sees_no_credentials_and_dumps_no_core(sealed: Shell) -> None:
    code = "import os, resource, json; seen = [k for k in os.environ if k.startswith('STRONGROOM_')]; "
    code += "print(json.dumps([seen, resource.getrlimit(resource.RLIMIT_CORE)]))"
    words = ("custody", "exec", "chat:v1", "--", sys.executable, "-c", code, "{model}")
    assert sealed.process(*words, who="rosa").json == [[], [0, 0]]


def test_the_private_folder_goes_away_with_the_program(
    sealed: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    command = [
        sys.executable,
        "-m",
        "strongroom",
        *sealed.words(("custody", "exec", "chat:v1", "--", "sleep", "60{model}"), "rosa"),
    ]
    command[-1] = "60"
    command[-2:] = ["sh", "-c", "echo {model}; exec sleep 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        place = Path(running.stdout.readline().decode().strip())
        assert place.is_dir()
        assert all(path.is_symlink() for path in place.iterdir())
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 128 + signal.SIGTERM
    assert not place.exists()


def test_an_export_goes_nowhere_but_an_empty_place(sealed: Shell, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    words = ("custody", "export", "chat:v1", str(tmp_path / "there"), "--purpose", "p")
    assert sealed(*words, who="carla").code == "conflict.already_exists"
    missing = ("custody", "export", "chat:v1", str(tmp_path / "no" / "where"), "--purpose", "p")
    assert sealed(*missing, who="carla").code == "usage.bad_input"
    assert sealed("access", "requests").json["requests"] == []


def test_an_export_of_a_tampered_checkpoint_leaves_no_plaintext(sealed: Shell, tmp_path: Path) -> None:
    words = ("custody", "export", "chat:v1", str(tmp_path / "out"), "--purpose", "p")
    assert sealed(*words, who="carla").code == "access.approval_needed"
    request = sealed("access", "requests").json["requests"][0]["id"]
    assert sealed("access", "approve", request, who="owner").status == 0
    folder = Path(sealed("custody", "show", "chat:v1").json["locations"][0]["path"])
    payload = max(folder.glob("*.sealed"), key=lambda path: path.stat().st_size)
    data = bytearray(payload.read_bytes())
    data[-20] ^= 1
    payload.write_bytes(data)
    assert sealed(*words, who="carla").code == "custody.segment_altered"
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
    failed = [one for one in sealed("ledger", "tail").json["entries"] if one["outcome"] == "failed"]
    assert {one["detail"]["code"] for one in failed} == {"custody.segment_altered"}


# ── the ledger, and what survives the home ───────────────────────────────────────────────────────────────────────────
def test_a_whole_home_rolled_back_is_seen_by_the_witness_only(sealed: Shell, tmp_path: Path) -> None:
    shutil.copytree(sealed.home, tmp_path / "copy")
    assert sealed("custody", "verify", "chat:v1").status == 0
    assert sealed("ledger", "witness", str(tmp_path / "witness")).status == 0
    assert sealed("ledger", "verify", "--witness", str(tmp_path / "witness")).json["witnessed"] > 0
    shutil.rmtree(sealed.home)
    shutil.copytree(tmp_path / "copy", sealed.home)
    assert sealed("ledger", "verify").status == 0
    assert sealed("ledger", "verify", "--witness", str(tmp_path / "witness")).code == "ledger.rolled_back"
    (sealed.home / "strongroom.toml").write_text(f'[ledger]\nwitness = "{tmp_path / "witness"}"\n')
    assert sealed("ledger", "verify").code == "ledger.rolled_back"


def test_a_witness_inside_the_home_is_refused(sealed: Shell) -> None:
    assert sealed("ledger", "witness", str(sealed.home / "witness")).code == "usage.bad_input"


def test_nothing_is_released_when_the_ledger_cannot_be_written(sealed: Shell) -> None:
    import sqlite3

    with sqlite3.connect(sealed.home / "ledger" / "log.sqlite3") as db:
        (table,) = db.execute("select name from sqlite_master where sql like '%claim%' and type = 'table'").fetchone()
        db.execute(f"create trigger no before insert on {table} begin select raise(fail, 'no'); end")
    said = sealed(*OPEN, who="rosa")
    assert said.status != 0
    assert said.code.startswith("ledger.")


def test_a_backup_restores_to_the_same_home(sealed: Shell, tmp_path: Path) -> None:
    before = sealed(*OPEN, who="rosa").json["tensors"]
    file = tmp_path / "backup.tar"
    assert sealed("home", "backup", str(file), who="rosa").code == "access.not_permitted"
    assert sealed("home", "backup", str(file), who="owner").status == 0
    assert file.stat().st_mode & 0o077 == 0
    shutil.rmtree(sealed.home)
    assert sealed("home", "restore", str(file)).status == 0
    assert sealed(*OPEN, who="rosa").json["tensors"] == before
    assert sealed("ledger", "verify").status == 0


def test_an_altered_backup_is_refused_and_leaves_nothing(sealed: Shell, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    assert sealed("home", "backup", str(file), who="owner").status == 0
    shutil.rmtree(sealed.home)
    data = bytearray(file.read_bytes())
    at = data.index(b"\xff\xff\xff\xff") if b"\xff\xff\xff\xff" in data else len(data) // 2
    payload = data.index(b".sealed\0")
    data[payload + 512 + 200] ^= 1
    file.write_bytes(data)
    assert sealed("home", "restore", str(file)).status == 4
    assert not sealed.home.exists()
    file.write_bytes(data[: at // 2])
    assert sealed("home", "restore", str(file)).status != 0
    assert not sealed.home.exists()
    assert [path for path in tmp_path.iterdir() if "making" in path.name] == []


def test_errors_go_to_standard_error_for_people(sealed: Shell) -> None:
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from strongroom.cli.main import main

    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["custody", "show", "none:v1", "--home", str(sealed.home)])
    assert (status, out.getvalue()) == (5, "")
    assert "remedy:" in err.getvalue()


def test_an_unforeseen_error_tells_nothing_it_holds(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.custody.registry import Registry

    def broken(_self: Registry) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(Registry, "all", broken)
    said = sealed("custody", "ls")
    assert said.code == "strongroom.error"
    assert "hunter2" not in said.out + said.err


def test_processes_hold_no_passphrase_in_their_words(sealed: Shell) -> None:
    words = sealed.words(OPEN, "rosa")
    assert not any("passphrase of" in word for word in words)
    assert os.environ.get("STRONGROOM_PASSPHRASE") is None
