"""The journey of a copy, typed as custodian and recipient type it."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import sys
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open

from strongroom.core.clock import SystemClock
from tests.engines.models import write_wide
from tests.journeys.shell import Said, Shell


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wide(tmp_path_factory.mktemp("wide") / "model")


@pytest.fixture
def home(shell: Shell, tmp_path: Path, model: Path) -> Shell:
    """A home with a sealed checkpoint and a recipient; codes short enough for a small model."""
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write("\n[lineage]\nrecipients = 100\ncolluders = 2\n")
    assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    made = shell("custody", "recipient", "keygen", "--out", str(tmp_path / "lab.key"))
    assert made.json["public_key"] == (tmp_path / "lab.key.pub").read_text().strip()
    words = ("custody", "recipient", "add", "lab", "--public-key", str(tmp_path / "lab.key.pub"), "--kind", "team")
    added = shell(*words, who="carla")
    assert added.json["recipient"] == "lab"
    assert added.json["fingerprint"] == made.json["fingerprint"]
    return shell


def recipient(shell: Shell, name: str, key: Path) -> None:
    assert shell("custody", "recipient", "keygen", "--out", str(key)).status == 0
    words = ("custody", "recipient", "add", name, "--public-key", f"{key}.pub")
    assert shell(*words, who="carla").status == 0


def issue(shell: Shell, out: Path, *more: str, to: str = "lab", tokens: int = 0) -> Said:
    words = ("custody", "issue", "chat:v1", "--to", to, "--out", str(out), "--purpose", "evaluation", *more)
    words = (*words, "--tokens", str(tokens))
    alone = shell(*words, who="carla")
    assert (alone.status, alone.code) == (3, "access.approval_needed"), alone.out
    assert not out.exists()
    [waiting] = shell("access", "requests").json["requests"]
    assert to in waiting["destination"]
    assert shell("access", "approve", waiting["id"], who="carl").status == 0
    return shell(*words, who="carla")


def day(days: int) -> str:
    return (SystemClock().now() + dt.timedelta(days=days)).strftime("%Y-%m-%d")


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def test_the_journey_of_a_copy(home: Shell, tmp_path: Path, model: Path) -> None:
    out, key = tmp_path / "out", str(tmp_path / "lab.key")
    said = issue(home, out, tokens=5120)
    assert said.status == 0, said.out
    issued = said.json
    assert issued["recipient"] == "lab"
    assert issued["retained_strength"] > 10
    assert issued["segments"] == 620
    assert issued["units"] > 620
    with safe_open(model / "model.safetensors", "pt") as whole:
        shapes = {name: whole.get_slice(name).get_shape() for name in whole.keys()}  # noqa: SIM118 - as below
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if len(shape) > 1}
    marked = sum(size for name, size in sizes.items() if "mlp" in name)
    assert issued["marked_share"] == pytest.approx(marked / sum(sizes.values()))
    assert abs(issued["perplexity_cost"]) < 0.001  # of a model with random weights
    cost = issued["perplexity"]
    assert cost["measured_on"] == issued["copy"]
    assert cost["low"] <= cost["ratio"] <= cost["high"]
    assert cost["tokens"] == 5120 - 10  # the first of each window has no context
    assert len(issued["commitment"]) == 64
    assert issued["notes"] == []
    second = issue(home, tmp_path / "second", tokens=5120).json
    assert second["perplexity"] == cost
    assert second["commitment"] != issued["commitment"]

    listed = home("custody", "copies").json["copies"]
    assert [(one["copy"], one["status"]) for one in listed] == [(issued["copy"], "issued"), (second["copy"], "issued")]
    assert home("custody", "copies", "chat:v1", who="ada").json["copies"] == listed
    shown = home("custody", "show", "chat:v1").json
    assert [one["kind"] for one in shown["locations"]] == ["sealed", "issued", "issued"]
    assert home("ledger", "verify").status == 0

    def receive(*words: str) -> Said:
        return home("custody", "receive", *words)

    home.home.rename(tmp_path / "gone")
    verified = receive("verify", str(out), "--key", key).json
    assert verified["verified"] is True
    assert verified["key_fits"] is True
    assert verified["fingerprint"] == issued["fingerprint"]
    assert any("--issuer" in note for note in verified["notes"])
    pinned = receive("verify", str(out), "--issuer", issued["fingerprint"]).json
    assert (pinned["pinned"], pinned["key_fits"], pinned["notes"]) == (True, None, [])
    assert receive("verify", str(out), "--issuer", "0" * 64).code == "custody.signature_invalid"

    digests = receive("digest", str(out), "--key", key).json["tensors"]
    plain = tmp_path / "plain"
    assert receive("export", str(out), str(plain), "--key", key).status == 0
    with (
        safe_open(plain / "model.safetensors", "pt") as opened,
        safe_open(model / "model.safetensors", "pt") as original,
    ):
        for name in opened.keys():  # noqa: SIM118 - a safe_open is no dictionary
            ours, theirs = (raw(one.get_tensor(name)) for one in (opened, original))
            assert hashlib.sha256(ours).hexdigest() == digests[name]
            same = ours == theirs
            assert same == ("mlp" not in name)
    code = "import pathlib, sys; print(sorted(p.name for p in pathlib.Path(sys.argv[1]).iterdir()))"
    words = ("custody", "receive", "exec", str(out), "--key", key, "--", sys.executable, "-c", code, "{model}")
    ran = home.process(*words)
    assert (ran.status, ran.out.strip()) == (
        0,
        "['config.json', 'generation_config.json', 'model.safetensors', 'tokenizer.json']",
    )


def test_what_should_be_known_is_told_before_the_program_runs(home: Shell, tmp_path: Path) -> None:
    out, key = tmp_path / "out", str(tmp_path / "lab.key")
    issued = issue(home, out, "--expires", day(9)).json
    command = ("--", sys.executable, "-c", "import sys; print('ran'); print('began', file=sys.stderr)", "{model}")
    for words, told in (
        (("exec", str(out), "--key", key, *command), "ran\n"),
        (("digest", str(out), "--key", key), None),
        (("export", str(out), str(tmp_path / "plain"), "--key", key), None),
    ):
        ran = home.process("custody", "receive", *words, raw=True)
        assert ran.status == 0, ran.err
        assert told in {None, ran.out}
        notes, _, rest = ran.err.partition("began")
        assert (rest == "\n") == (words[0] == "exec")
        for note in ("--issuer", "honest client", "was not measured"):
            assert note in notes
    pinned = ("--issuer", issued["fingerprint"])
    ran = home.process("custody", "receive", "exec", str(out), "--key", key, *pinned, *command, raw=True)
    assert "--issuer" not in ran.err
    assert "honest client" in ran.err
    said = home("custody", "receive", "digest", str(out), "--key", key)
    assert len(said.json["notes"]) == 3  # one document on standard output, with or without notes beside it


def test_a_share_that_nothing_is_done_with(home: Shell, tmp_path: Path) -> None:
    issue(home, tmp_path / "out")
    (tmp_path / "share").write_text("{}")
    words = ("custody", "receive", "verify", str(tmp_path / "out"), "--share", str(tmp_path / "share"))
    said = home(*words)
    assert (said.code, said.json["error"]["where"]) == ("usage.bad_input", "--share")
    assert home(*words, "--key", str(tmp_path / "lab.key")).json["error"]["where"] != "--share"


def test_a_staged_release(home: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, key, share = tmp_path / "out", str(tmp_path / "lab.key"), tmp_path / "share"
    soon, end = day(2), day(9)
    issued = issue(home, out, "--embargo", soon, "--expires", end).json
    assert issued["perplexity_cost"] is None
    assert len(issued["notes"]) == 3
    assert home("custody", "copies").json["copies"][0]["status"] == "embargoed"
    early = home("custody", "release", "chat:v1", "--embargo", soon, "--out", str(share), who="carl")
    assert (early.status, early.code) == (3, "custody.embargoed")
    shut = home("custody", "receive", "digest", str(out), "--key", key)
    assert (shut.status, shut.code) == (3, "custody.embargoed")
    assert home("custody", "receive", "verify", str(out), "--key", key).status == 0

    moment = SystemClock().now() + dt.timedelta(days=3)
    monkeypatch.setattr(SystemClock, "now", lambda _: moment)
    assert home("custody", "release", "chat:v1", "--embargo", soon, "--out", str(share), who="carl").status == 0
    opened = home("custody", "receive", "digest", str(out), "--key", key, "--share", str(share))
    assert opened.status == 0, opened.out
    moment += dt.timedelta(days=9)
    assert home("custody", "receive", "digest", str(out), "--key", key, "--share", str(share)).code == (
        "custody.copy_expired"
    )
    assert home("custody", "receive", "verify", str(out)).json["expired"] is True
    assert home("custody", "copies").json["copies"][0]["status"] == "expired"


def test_mistakes_are_told(home: Shell, tmp_path: Path) -> None:
    key = tmp_path / "lab.key"
    add = ("custody", "recipient", "add", "other", "--public-key")
    wrong = home(*add, str(key), who="carla")
    assert wrong.code == "usage.bad_input"
    assert "secret key" in wrong.json["error"]["message"]
    assert key.read_text().splitlines()[-1][30:60] not in wrong.out + wrong.err
    again = home("custody", "recipient", "add", "lab", "--public-key", f"{key}.pub", who="carla")
    assert again.code == "conflict.already_exists"
    assert home("custody", "recipient", "keygen", "--out", str(key)).code == "conflict.already_exists"
    twin = home(*add, f"{key}.pub", who="carla")
    assert (twin.code, "lab has that very key" in twin.out) == ("conflict.already_exists", True)
    assert home("custody", "recipient", "keygen", "--out", str(tmp_path / "new.key")).status == 0
    assert home(*add, str(tmp_path / "new.key.pub"), who="rosa").code == "access.not_permitted"
    assert [one["recipient"] for one in home("custody", "recipient", "ls").json["recipients"]] == ["lab"]
    words = ("custody", "issue", "chat:v1", "--out", str(tmp_path / "o"), "--purpose", "p", "--to")
    assert home(*words, "nobody", who="carla").code == "custody.no_such_recipient"
    assert home(*words, "lab", who="rosa").code == "access.not_permitted"
    assert home(*words, "lab", "--embargo", "soon", who="carla").code == "usage.bad_input"
    assert home("custody", "copies", "other:v1").code == "custody.no_such_checkpoint"
    assert home("custody", "receive", "verify", str(home.home)).code == "custody.manifest_missing"
    release = ("custody", "release", "chat:v1", "--embargo", "2020-01-01", "--out", str(tmp_path / "s"))
    assert home(*release, who="carla").code == "custody.no_such_copy"


def test_what_people_read(home: Shell, tmp_path: Path) -> None:
    """Without --json: the fingerprint, and what binds nobody."""
    out = tmp_path / "out"
    issued = issue(home, out, "--expires", day(9)).json
    said = home.process("custody", "receive", "verify", str(out), raw=True)
    assert said.status == 0, said.err
    assert issued["fingerprint"] in said.out
    assert "honest client" in said.out
    for words in (("custody", "copies"), ("custody", "recipient", "ls")):
        listed = home.process(*words, "--home", str(home.home), raw=True)
        assert listed.status == 0, listed.err
        assert "lab" in listed.out


def test_a_custodian_who_came_later_can_issue_after_a_rewrap(home: Shell, tmp_path: Path) -> None:
    """Also under an embargo: the release master is a key of the house."""
    issue(home, tmp_path / "one", "--embargo", day(2))
    file = str(home.passphrase("cleo"))
    assert home("access", "add", "cleo", "--role", "custodian", "--new-passphrase-file", file, who="owner").status == 0
    assert home("custody", "rewrap", who="carla").status == 0
    words = ("custody", "issue", "chat:v1", "--to", "lab", "--out", str(tmp_path / "two"), "--purpose", "p")
    words = (*words, "--embargo", day(2), "--tokens", "0")
    asked = home(*words, who="cleo")
    assert home("access", "approve", asked.json["error"]["where"], who="carl").status == 0
    assert home(*words, who="cleo").status == 0


def test_the_deed_survives_as_a_document(home: Shell, tmp_path: Path) -> None:
    issued = issue(home, tmp_path / "out").json
    raw = (tmp_path / "out" / "copy.json").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == issued["digest"]
    assert msgspec.json.decode(raw)["mark"]["commitment"] == issued["commitment"]
