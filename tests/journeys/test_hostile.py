"""Hostile hands at the command line and in the home's files."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from strongroom.cli.main import main
from strongroom.core.clock import parse_stamp
from strongroom.core.ids import CheckpointName
from strongroom.ledger.journal import Act
from strongroom.wiring.home import open_home
from tests.journeys.shell import Shell, model_folder

OPEN = ("custody", "digest", "chat:v1")


def test_own_passphrase_own_keys_and_everything_still_opens(sealed: Shell) -> None:
    first = sealed.passphrase("rosa").read_text()
    new = sealed.root / "new.pass"
    new.write_text("my own\n")
    before = sealed("access", "people").json["people"]
    assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="rosa").status == 0
    after = sealed("access", "people").json["people"]
    changed = [one["name"] for one, two in zip(before, after, strict=True) if one["fingerprint"] != two["fingerprint"]]
    assert changed == ["rosa"]
    shutil.copy(new, sealed.passphrase("rosa"))
    assert sealed(*OPEN, who="rosa").status == 0
    sealed.passphrase("rosa").write_text(first)
    assert sealed(*OPEN, who="rosa").code == "access.wrong_passphrase"


def test_a_custodian_who_renewed_their_keys_has_still_signed_what_they_signed(sealed: Shell) -> None:
    new = sealed.root / "new.pass"
    new.write_text("my own\n")
    assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="carla").status == 0
    assert sealed("custody", "verify", "chat:v1").status == 0
    assert sealed(*OPEN, who="rosa").status == 0


def test_a_spoiled_envelope_is_mended_by_a_rewrap(sealed: Shell) -> None:
    import sqlite3

    with sqlite3.connect(sealed.home / "records.sqlite3") as db:
        (document,) = db.execute(
            "select document from records where kind='envelope' and key like '%/rosa/%'"
        ).fetchone()
        spoiled = json.loads(document) | {"key": "0" * 64}
        raw = json.dumps(spoiled, separators=(",", ":"), sort_keys=True).encode()
        db.execute("update records set document = ? where kind='envelope' and key like '%/rosa/%'", (raw,))
    assert sealed(*OPEN, who="rosa").code == "custody.wrong_key"
    assert sealed("custody", "rewrap", "chat:v1", who="owner").json["changed"] == 1
    assert sealed(*OPEN, who="rosa").status == 0


def test_disabling_takes_the_envelopes_of_superseded_versions_too(sealed: Shell, tmp_path: Path) -> None:
    sealed("custody", "seal", str(model_folder(tmp_path / "second", seed=2)), "chat:v1", who="carla")
    assert sealed("access", "disable", "rosa", who="owner").status == 0
    home = open_home(sealed.home)
    assert home.vault.registry.held_by("rosa") == []
    assert len(home.vault.registry.held_by("carl")) == 3  # two versions, and the secret of signatures
    home.close()


def test_tampering_met_while_reading_is_in_the_ledger(sealed: Shell) -> None:
    folder = Path(sealed("custody", "show", "chat:v1").json["locations"][0]["path"])
    payload = max(folder.glob("*.sealed"), key=lambda path: path.stat().st_size)
    data = bytearray(payload.read_bytes())
    data[-20] ^= 1
    payload.write_bytes(data)
    assert sealed(*OPEN, who="rosa").code == "custody.segment_altered"
    newest = sealed("ledger", "tail", "-n", "1").json["entries"][0]
    assert (newest["who"], newest["outcome"], newest["detail"]["code"]) == (
        "person:rosa",
        "failed",
        "custody.segment_altered",
    )


def test_a_checkpoint_signed_by_somebody_who_may_not_seal_is_refused(sealed: Shell) -> None:
    """With the log's key (it has no passphrase) anybody can enter a sealing, but not become a custodian."""
    from strongroom.core.secrets import Secret
    from strongroom.custody import seal as sealing
    from strongroom.custody.journal import Identity
    from strongroom.custody.keys import wrap_key
    from strongroom.custody.registry import Registered

    home = open_home(sealed.home)
    ada = home.desk.authenticate("ada", Secret(b"passphrase of ada"))
    name = CheckpointName("chat", "v1")
    fake = model_folder(sealed.root / "fake", seed=6)
    identity = Identity(name=name, version=2, parent=None, created="2026-11-23T00:00:00.000Z")
    made = sealing.seal(fake, home.vault._blobs, identity=identity, keyring=ada.keyring)
    rosa = home.desk.people.find("rosa").certificate.keys
    envelope = wrap_key(made.data_key, rosa, person="rosa", checkpoint=made.checkpoint, version=2)
    record = Registered(
        checkpoint=made.checkpoint,
        name="chat",
        tag="v1",
        version=2,
        manifest=made.manifest,
        signer="ada",
        parent=None,
        created=identity.created,
        tensors=made.tensors,
        bytes=made.bytes,
        single=False,
        host="h",
        key=ada.keyring.public.fingerprint(),
    )
    home.vault.registry.register(record, [envelope], who="person:ada")
    assert home.vault.registry.current(name).version == 1
    assert home.vault.registry.next_version(name) == 3
    sealing.discard(home.vault._blobs, name)
    home.close()
    before = sealed(*OPEN, who="rosa")
    assert before.status == 0
    fourth = sealed("custody", "seal", str(model_folder(sealed.root / "next", seed=7)), "chat:v1", who="carla")
    assert fourth.status == 0, fourth.out
    assert fourth.json["version"] == 3
    assert sealed(*OPEN, who="rosa").json["tensors"] != before.json["tensors"]


def test_an_older_version_entered_again_is_not_current(sealed: Shell, tmp_path: Path) -> None:
    home = open_home(sealed.home)
    name = CheckpointName("chat", "v1")
    first = home.vault.registry.pin(name)
    home.close()
    assert sealed("custody", "seal", str(model_folder(tmp_path / "two", seed=2)), "chat:v1", who="carla").status == 0
    home = open_home(sealed.home)
    home.journal.record(Act(first.event.who, "custody.sealed", first.event.object), "done", detail=first.event.detail)
    assert home.vault.registry.current(name).version == 2
    home.close()


def test_a_deleted_person_brings_no_older_version_back(sealed: Shell, tmp_path: Path) -> None:
    import sqlite3

    assert sealed("custody", "seal", str(model_folder(tmp_path / "two", seed=2)), "chat:v1", who="carl").status == 0
    with sqlite3.connect(sealed.home / "records.sqlite3") as db:
        db.execute("delete from records where kind = 'person' and key like 'carl%'")
    said = sealed(*OPEN, who="rosa")
    assert (said.status, said.code) == (4, "records.altered")


def test_a_custodian_disabled_while_sealing_replaces_nothing(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.custody import seal as sealing

    real = sealing.seal

    def long_seal(*args: object, **kwargs: object) -> sealing.SealResult:
        result = real(*args, **kwargs)  # type: ignore[arg-type]
        assert sealed("access", "disable", "carla", who="owner").status == 0
        return result

    monkeypatch.setattr(sealing, "seal", long_seal)
    other = model_folder(sealed.root / "other", seed=4)
    assert sealed("custody", "seal", str(other), "chat:v1", who="carla").code == "access.principal_disabled"
    monkeypatch.undo()
    assert sealed("custody", "show", "chat:v1").json["version"] == 1
    assert sealed(*OPEN, who="rosa").status == 0


def test_keys_renewed_while_sealing_are_noticed(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.custody import seal as sealing

    real, new = sealing.seal, sealed.root / "new"
    new.write_text("my own\n")

    def long_seal(*args: object, **kwargs: object) -> sealing.SealResult:
        result = real(*args, **kwargs)  # type: ignore[arg-type]
        assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="carla").status == 0
        return result

    monkeypatch.setattr(sealing, "seal", long_seal)
    other = model_folder(sealed.root / "other", seed=4)
    assert sealed("custody", "seal", str(other), "chat:v1", who="carla").status == 3
    monkeypatch.undo()
    assert sealed(*OPEN, who="rosa").status == 0
    shutil.copy(new, sealed.passphrase("carla"))
    assert sealed("custody", "seal", str(other), "chat:v1", who="carla").json["version"] == 2


def test_a_person_added_while_sealing_gets_a_key(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.custody.registry import Registry

    real, words = Registry.register, ("access", "add", "zed", "--role", "researcher")
    todo = [1]

    def late(self: Registry, *args: object, **kwargs: object) -> None:
        if todo:
            todo.clear()
            added = (*words, "--new-passphrase-file", str(sealed.passphrase("zed")))
            assert sealed(*added, who="owner").status == 0
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Registry, "register", late)
    other = model_folder(sealed.root / "other", seed=4)
    assert sealed("custody", "seal", str(other), "fresh:v1", who="carla").status == 0
    assert sealed("custody", "digest", "fresh:v1", who="zed").status == 0


def test_a_rewrap_in_the_middle_of_a_renewal_loses_no_key(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a renewal prepares is for keys that nobody has certified yet: it must not look left over."""
    from strongroom.access.roll import Roll

    real, todo, new = Roll.enter, [1], sealed.root / "new"
    new.write_text("my own\n")

    def late(self: Roll, *args: object, **kwargs: object) -> None:
        if todo:
            todo.clear()
            assert sealed("custody", "rewrap", who="owner").status == 0
            assert sealed("custody", "rewrap", "chat:v1", who="owner").status == 0
        real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Roll, "enter", late)
    assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="rosa").status == 0
    shutil.copy(new, sealed.passphrase("rosa"))
    assert sealed(*OPEN, who="rosa").status == 0
    home = open_home(sealed.home)
    assert len(home.vault.registry.held_by("rosa")) == 1
    home.close()


def test_a_renewal_whose_end_is_unknown_keeps_both_keys(sealed: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted while it waits for the ledger: whoever writes the ledger next may still enter the certificate."""
    from strongroom.access.roll import Roll

    real, new = Roll.enter, sealed.root / "new"
    new.write_text("my own\n")

    def entered_then_interrupted(self: Roll, *args: object, **kwargs: object) -> None:
        real(self, *args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(Roll, "enter", entered_then_interrupted)
    assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="rosa").status == 130
    monkeypatch.undo()
    shutil.copy(new, sealed.passphrase("rosa"))
    assert sealed(*OPEN, who="rosa").status == 0


def test_a_rewrap_that_looked_before_a_renewal_drops_nothing_new(
    sealed: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strongroom.custody.registry import Registry

    real, todo, new = Registry.envelopes, [1], sealed.root / "new"
    new.write_text("my own\n")

    def looked(self: Registry, checkpoint: str) -> object:
        found = real(self, checkpoint)
        if todo:
            todo.clear()
            assert sealed("access", "passwd", "--new-passphrase-file", str(new), who="rosa").status == 0
            words = ("access", "add", "zed", "--role", "researcher", "--new-passphrase-file")
            assert sealed(*words, str(sealed.passphrase("zed")), who="owner").status == 0
        return found

    monkeypatch.setattr(Registry, "envelopes", looked)
    assert sealed("custody", "rewrap", who="owner").status == 0
    shutil.copy(new, sealed.passphrase("rosa"))
    assert sealed(*OPEN, who="rosa").status == 0
    assert sealed(*OPEN, who="zed").status == 0


def test_a_renewal_that_dies_at_any_step_locks_nobody_out(sealed: Shell) -> None:
    from tests.faults.test_vault_faults import killed_at

    new = sealed.root / "new"
    new.write_text("my own\n")
    (sealed.home).rename(sealed.root / "template")
    moment, ended = 0, False
    while not ended:
        moment += 1
        shutil.rmtree(sealed.home, ignore_errors=True)
        shutil.copytree(sealed.root / "template", sealed.home)
        words = ("access", "passwd", "--new-passphrase-file", str(new))
        ended = not killed_at(moment, lambda: sealed(*words, who="rosa"))  # noqa: B023 - called at once
        old = sealed(*OPEN, who="rosa").status
        mine = ("--as", "rosa", "--passphrase-file", str(new))
        now = sealed(*OPEN, *mine).status
        assert sorted((old, now)) == [0, 3], moment
    assert moment > 5


def test_what_others_wrote_moves_no_cursor_and_is_no_markup(sealed: Shell, tmp_path: Path) -> None:
    evil = "ok\x1b[2J\x1b[1;1Happroved\r\n[red]by owner[/red] [/nonsense]"
    words = ("custody", "export", "chat:v1", str(tmp_path / "out"), "--purpose", evil)
    assert sealed(*words, who="carla").code == "access.approval_needed"
    for shown in (("access", "requests"), ("ledger", "tail"), ("custody", "show", "chat:v1")):
        out = io.StringIO()
        with redirect_stdout(out):
            assert main([*shown, "--home", str(sealed.home)]) == 0
        assert "\x1b" not in out.getvalue()
        assert "\r" not in out.getvalue()
    assert sealed("access", "requests").json["requests"][0]["purpose"] == evil


def test_a_witness_that_never_saw_the_log_vouches_for_nothing(sealed: Shell, tmp_path: Path) -> None:
    other = Shell(tmp_path / "other")
    other.root.mkdir()
    other("init", "--passphrase-file", str(other.passphrase("owner")))
    assert other("ledger", "witness", str(tmp_path / "witness")).status == 0
    assert sealed("ledger", "verify", "--witness", str(tmp_path / "witness")).code == "ledger.witness_unaware"
    (sealed.home / "strongroom.toml").write_text(f'[ledger]\nwitness = "{tmp_path / "witness"}"\n')
    assert sealed("custody", "ls").code == "ledger.witness_unaware"
    assert sealed("ledger", "witness", str(tmp_path / "witness"), "--accept-loss").status == 0
    assert sealed("custody", "ls").status == 0


def test_a_restore_that_lost_entries_is_accepted_by_name_only(sealed: Shell, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    assert sealed("home", "backup", str(tmp_path / "b.tar"), who="owner").status == 0
    assert sealed("ledger", "witness", str(witness)).status == 0
    (sealed.home / "strongroom.toml").write_text(f'[ledger]\nwitness = "{witness}"\n')
    assert sealed(*OPEN, who="rosa").status == 0
    shutil.rmtree(sealed.home)
    assert sealed("home", "restore", str(tmp_path / "b.tar")).status == 0
    (sealed.home / "strongroom.toml").write_text(f'[ledger]\nwitness = "{witness}"\n')
    assert sealed(*OPEN, who="rosa").code in {"ledger.rolled_back", "ledger.forked"}
    assert sealed("ledger", "witness", str(witness), "--accept-loss").status == 0
    assert sealed(*OPEN, who="rosa").status == 0
    assert any(one["action"] == "ledger.witness.forgot" for one in sealed("ledger", "tail").json["entries"])


def test_reading_the_books_asks_the_policy_of_whoever_is_named(sealed: Shell) -> None:
    for words in (("ledger", "tail"), ("ledger", "verify"), ("ledger", "prove", "0")):
        assert sealed(*words, who="rosa").code == "access.not_permitted"
        assert sealed(*words, who="ada").status == 0


def test_a_session_lasts_no_longer_than_the_settings_say(sealed: Shell) -> None:
    (sealed.home / "strongroom.toml").write_text("[access]\nsession_minutes = 5\n")
    try:
        expires = sealed("access", "login", "--minutes", "600", who="rosa").json["session"]["expires"]
        began = sealed("ledger", "tail", "-n", "1", who="ada").json["entries"][0]["at"]
        assert (parse_stamp(expires) - parse_stamp(began)).total_seconds() <= 300
    finally:
        sealed("access", "logout")
