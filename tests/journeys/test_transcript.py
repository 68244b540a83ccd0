"""The first journey, typed as a user types it: every command a process of its own."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from safetensors import safe_open

from tests.journeys.shell import Shell, model_folder


def test_the_first_journey(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    model = model_folder(tmp_path / "model")
    run = shell.process

    made = run("init", "--passphrase-file", str(shell.passphrase("owner")))
    assert made.status == 0, made.err
    assert made.json["owner"] == "owner"
    for name, role in (("carla", "custodian"), ("rosa", "researcher"), ("ada", "auditor")):
        words = ("access", "add", name, "--role", role, "--new-passphrase-file", str(shell.passphrase(name)))
        assert run(*words, who="owner").status == 0

    sealed = run("custody", "seal", str(model), "chat:v1", who="carla").json
    assert sealed["checkpoint"] == "chat:v1"
    assert sealed["tensors"] == 6
    assert [one["checkpoint"] for one in run("custody", "ls").json["checkpoints"]] == ["chat:v1"]
    verified = run("custody", "verify", "chat:v1").json
    assert verified["verified"] is True
    assert verified["segments"] >= 5

    expected: dict[str, str] = {}
    for shard in sorted(model.glob("*.safetensors")):
        with safe_open(shard, "numpy") as opened:
            for key in opened.keys():  # noqa: SIM118 - a safe_open is no dictionary
                expected[key] = hashlib.sha256(opened.get_tensor(key).tobytes()).hexdigest()
    assert run("custody", "digest", "chat:v1", who="rosa").json["tensors"] == expected

    destination = tmp_path / "out"
    export = ("custody", "export", "chat:v1", str(destination), "--purpose", "evaluation")
    alone = run(*export, who="carla")
    assert (alone.status, alone.code) == (3, "access.approval_needed")
    waiting = run("access", "requests", who="owner").json["requests"]
    assert [one["purpose"] for one in waiting] == ["evaluation"]
    assert run("access", "approve", waiting[0]["id"], who="carla").code == "access.self_approval"
    assert run("access", "approve", waiting[0]["id"], who="owner").status == 0
    assert run(*export, who="carla").status == 0
    assert {path.name: path.read_bytes() for path in destination.iterdir()} == {
        path.name: path.read_bytes() for path in model.iterdir()
    }
    again = (*export[:3], str(tmp_path / "out2"), *export[4:])
    assert run(*again, who="carla").code == "access.approval_needed"

    code = "import pathlib, sys; print(sorted(p.name for p in pathlib.Path(sys.argv[1]).iterdir()))"
    ran = run("custody", "exec", "chat:v1", "--", sys.executable, "-c", code, "{model}", who="rosa")
    assert ran.out.strip() == str(sorted(path.name for path in model.iterdir()))

    shown = run("custody", "show", "chat:v1").json
    assert [one["kind"] for one in shown["locations"]] == ["sealed", "exported"]
    assert [one["who"] for one in shown["accesses"] if one["outcome"] == "granted"] == [
        "person:carla",  # to make its signature
        "person:rosa",
        "person:carla",
        "person:rosa",
    ]

    assert run("ledger", "verify").json["verified"] is True
    entries = run("ledger", "tail", "-n", "100").json["entries"]
    index = next(one["index"] for one in entries if one["action"] == "custody.export" and one["outcome"] == "granted")
    bundle = tmp_path / "bundle"
    vkey = run("ledger", "prove", str(index), "--out", str(bundle)).json["vkey"]
    stranger = run("ledger", "check", str(bundle), "--vkey", vkey, "--json", raw=True)
    assert stranger.json["entry"]["who"] == "person:carla"
    bundle.write_bytes(bundle.read_bytes().replace(b"index ", b"index 1", 1))
    assert run("ledger", "check", str(bundle), "--vkey", vkey, "--json", raw=True).status == 4

    tree = tmp_path / "tree"
    assert run("ledger", "export", str(tree)).status == 0
    assert (tree / "checkpoint").exists()
    assert (tree / "vkey").read_text().strip() == vkey
    assert list((tree / "tile" / "0").rglob("*"))
    assert list((tree / "tile" / "entries").rglob("*"))


def test_options_may_stand_before_the_verb_and_in_the_environment(tmp_path: Path) -> None:
    import os
    import subprocess

    shell = Shell(tmp_path)
    assert shell.process("init", "--passphrase-file", str(shell.passphrase("owner"))).status == 0
    base = [sys.executable, "-m", "strongroom"]
    env = {**os.environ, "STRONGROOM_HOME": str(shell.home), "STRONGROOM_AS": "owner"}
    env["STRONGROOM_PASSPHRASE_FILE"] = str(shell.passphrase("owner"))
    for words in (["--json", "access", "may"], ["access", "--json", "may"], ["access", "may", "--json"]):
        done = subprocess.run([*base, *words], env=env, capture_output=True, check=True, timeout=60)
        assert json.loads(done.stdout)["who"] == "owner"


def test_a_passphrase_may_come_through_a_descriptor(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    words = ["init", "--home", str(shell.home), "--json", "--passphrase-file", "-"]
    assert shell.process(*words, raw=True, stdin=b"from a pipe\n").status == 0
    words = ["access", "may", "--home", str(shell.home), "--json", "--as", "owner", "--passphrase-file", "-"]
    assert shell.process(*words, raw=True, stdin=b"from a pipe\n").status == 0
    assert shell.process(*words, raw=True, stdin=b"another\n").code == "access.wrong_passphrase"
