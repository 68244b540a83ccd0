"""A leaked copy names its recipient, and a stranger checks the accusation."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import rfc8785
import torch
from safetensors.torch import load_file, save_file

from strongroom.access.deeds import deed_bytes
from strongroom.access.keys import Keyring, new_seed
from strongroom.core.canonical import decode, digest, encode
from strongroom.core.secrets import Secret
from strongroom.custody.copies import approves
from strongroom.custody.formats import pae
from strongroom.ledger.journal import Act, Detail
from strongroom.lineage.decode import Verdict
from strongroom.lineage.evidence import Commitment, Evidence, replay, shown_keys
from strongroom.lineage.projections import find_projections
from strongroom.lineage.readings import blind
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.wiring.copies import premises_of
from strongroom.wiring.home import open_home
from strongroom.wiring.mark_evidence import TYPE
from strongroom.wiring.suspects import digest_of
from tests.engines.models import write_wide
from tests.journeys.shell import Shell
from tests.journeys.test_copies import issue, recipient

NAMES = ("north", "south", "east")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wide(tmp_path_factory.mktemp("wide") / "model")


@pytest.fixture
def issued(shell: Shell, tmp_path: Path, model: Path) -> Shell:
    """A home with a copy for each of three."""
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write("\n[lineage]\nrecipients = 100\ncolluders = 2\n")
    assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    for name in NAMES:
        recipient(shell, name, tmp_path / f"{name}.key")
        assert issue(shell, tmp_path / name, to=name).status == 0
    return shell


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def keys_of(keyring: Keyring) -> dict[str, str]:
    return {"receive": b64(keyring.public.receive), "sign": b64(keyring.public.sign)}


def opened(shell: Shell, tmp_path: Path, name: str) -> Path:
    """Return a recipient's copy as a plain file."""
    plain = tmp_path / f"{name}.plain"
    words = ("custody", "receive", "export", str(tmp_path / name), str(plain), "--key", str(tmp_path / f"{name}.key"))
    assert shell(*words).status == 0
    return plain / "model.safetensors"


def test_a_leaked_copy_names_its_recipient(issued: Shell, tmp_path: Path, model: Path) -> None:
    leaked, evidence = opened(issued, tmp_path, "south"), tmp_path / "evidence.json"
    decode = ("lineage", "decode", str(leaked), "--against", "chat:v1")
    found = issued(*decode, "--evidence", str(evidence), who="carla").json
    assert (found["verdict"], found["recipient"], found["p_kind"]) == ("match", "south", "exact")
    assert (found["candidates"], found["tried"], found["colluders"]) == (3, 3, [])
    assert found["log10_p"] < -12
    assert found["checkpoint_code"]["log10_p"] < -6
    assert any("passed the copy on" in one for one in found["limits"])
    assert issued(*decode, who="rosa").code == "access.not_permitted"
    assert issued(*decode, "--evidence", str(evidence), who="carla").code == "conflict.already_exists"

    vkey = issued("ledger", "prove", "0").json["vkey"]
    issued.home.rename(tmp_path / "gone")
    check = ("lineage", "check", str(evidence), "--vkey", vkey)
    checked = issued(*check, "--suspect", str(leaked)).json
    assert (checked["recipient"], checked["expert"], checked["read_again"]) == ("south", None, False)
    assert checked["log10_p"] == pytest.approx(found["log10_p"])
    assert len(checked["entries"]) == 1
    [issuer] = checked["issuers"]
    assert (issuer["name"], checked["accuser"]["name"]) == ("carla", "carla")
    assert len(checked["notes"]) == 2
    pinned = issued(*check, "--issuer", issuer["fingerprint"], "--suspect", str(leaked))
    assert len(pinned.json["notes"]) == 1
    for more in (("--issuer", "0" * 64), ("--suspect", str(model / "model.safetensors"))):
        assert issued(*check, *more).code == "ledger.proof_invalid"
    assert evidence.stat().st_mode & 0o777 == 0o600

    unmarked = tmp_path / "gone"
    unmarked.rename(issued.home)
    clean = issued("lineage", "decode", str(model), "--against", "chat:v1", who="carla").json
    assert (clean["verdict"], clean["recipient"]) == ("no_match", None)
    assert "evidence" not in clean


def replay_of(document: dict[str, Any]) -> Verdict:
    said = document["said"]
    deeds = [one["deed"] for one in said["copies"]]
    known = {
        one["copy"]: Commitment(
            one["mark"]["commitment"], one["recipient"]["name"], one["checkpoint"], one["mark"]["segments"]
        )
        for one in deeds
    }
    return replay(decode(rfc8785.dumps(said["evidence"]), Evidence, where="test"), known)


def test_evidence_that_was_altered_is_refused(issued: Shell, tmp_path: Path, model: Path) -> None:
    leaked, evidence = opened(issued, tmp_path, "south"), tmp_path / "evidence.json"
    words = ("lineage", "decode", str(leaked), "--against", "chat:v1", "--evidence", str(evidence))
    assert issued(*words, "--expert", "Dr E", who="carla").status == 0
    vkey = issued("ledger", "prove", "0").json["vkey"]
    said = json.loads(evidence.read_text())["said"]
    assert said["expert"] == "Dr E"
    assert {"chips", "segments", "dither"} < said["evidence"]["accused"][0]["shown"].keys()
    again = issued("lineage", "check", str(evidence), "--vkey", vkey, "--suspect", str(leaked))
    assert (again.json["read_again"], again.json["expert"]) == (True, "Dr E")
    changes = {
        "recipient": lambda one: one["copies"][0]["deed"]["recipient"].update(name="north"),
        "issuer": lambda one: one["copies"][0]["deed"]["issuer"].update(name="carl"),
        "verdict": lambda one: one.update(log10_p=-900.0),
        "tried": lambda one: one["evidence"].update(tried=1),
        "readings": lambda one: one["evidence"].update(readings=one["evidence"]["readings"][:1]),
        "suspect": lambda one: one.update(suspect="0" * 64),
        "approval": lambda one: one["copies"][0].update(approval=one["copies"][0]["proof"]),
        "twice": lambda one: one["evidence"].update(readings=one["evidence"]["readings"][:1] * 2),
        "proof": lambda one: one["copies"][0].update(proof=one["copies"][0]["proof"].replace("index", "index ")),
        "commitment": lambda one: one["copies"][0]["deed"]["mark"].update(commitment="0" * 64),
    }
    mallory = Keyring("mallory", new_seed())
    for name, change in changes.items():
        bad = json.loads(evidence.read_text())
        change(bad["said"])
        file = tmp_path / f"{name}.json"
        file.write_bytes(rfc8785.dumps(bad))
        refused = issued("lineage", "check", str(file), "--vkey", vkey)
        assert (refused.status, refused.code) == (4, "ledger.proof_invalid"), (name, refused.out)
        # signed anew, by somebody else: only what is the accuser's to say passes
        bad["said"]["accuser"] = {"keys": keys_of(mallory), "name": "mallory"}
        bad["signature"] = b64(mallory.sign(pae(TYPE, rfc8785.dumps(bad["said"]))))
        file.write_bytes(rfc8785.dumps(bad))
        forged = issued("lineage", "check", str(file), "--vkey", vkey, "--suspect", str(leaked))
        assert (forged.status, forged.code) == (4, "ledger.proof_invalid"), (name, forged.out)
    # an innocent file with its own blind values, and what was read against the original of the leaked one
    swapped = json.loads(evidence.read_text())
    with SafetensorsFiles(model) as weights:
        keys = shown_keys(decode(rfc8785.dumps(swapped["said"]["evidence"]), Evidence, where="test"))
        assert keys is not None
        values = blind(weights, find_projections(weights.infos()), keys, segments=620).values
    swapped["said"]["evidence"]["readings"][0]["values"] = b64(values.astype("<f8").tobytes())
    swapped["said"]["suspect"] = digest_of(model)
    swapped["said"]["accuser"] = {
        "keys": {"receive": b64(mallory.public.receive), "sign": b64(mallory.public.sign)},
        "name": "m",
    }
    verdict = replay_of(swapped)
    swapped["said"]["log10_p"] = verdict.log10_p
    swapped["signature"] = b64(mallory.sign(pae(TYPE, rfc8785.dumps(swapped["said"]))))
    (tmp_path / "swapped.json").write_bytes(rfc8785.dumps(swapped))
    framed = issued("lineage", "check", str(tmp_path / "swapped.json"), "--vkey", vkey, "--suspect", str(model))
    assert framed.code == "ledger.proof_invalid"
    assert "does not name the accused" in framed.out
    (tmp_path / "no.json").write_text("{}")
    assert issued("lineage", "check", str(tmp_path / "no.json"), "--vkey", vkey).code == "usage.bad_input"
    entries = [one for one in issued("ledger", "tail").json["entries"] if one["action"] == "lineage.disclosed"]
    assert [one["detail"]["expert"] for one in entries] == ["Dr E"]


def test_two_who_put_their_copies_together_are_both_named(issued: Shell, tmp_path: Path) -> None:
    one, two = (load_file(opened(issued, tmp_path, name)) for name in ("south", "east"))
    mean = {name: ((values.float() + two[name].float()) / 2).to(torch.bfloat16) for name, values in one.items()}
    save_file(mean, tmp_path / "mean.safetensors")
    found = issued("lineage", "decode", str(tmp_path / "mean.safetensors"), "--against", "chat:v1", who="carla").json
    assert {each["recipient"] for each in found["colluders"]} <= {"south", "east"}
    assert found["recipient"] in {"south", "east", None}
    assert found["checkpoint_code"]["log10_p"] < -6


def test_an_older_version_is_recognised_after_a_newer_was_sealed(issued: Shell, tmp_path: Path, model: Path) -> None:
    leaked = opened(issued, tmp_path, "north")
    assert issued("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    found = issued("lineage", "decode", str(leaked), "--against", "chat:v1", who="carla").json
    assert (found["verdict"], found["recipient"], found["version"]) == ("match", "north", 1)
    assert [one["manner"] for one in found["strength"]] == ["blind"]
    padded = load_file(leaked)
    gate = "model.layers.3.mlp.gate_proj.weight"
    padded[gate] = torch.nn.functional.pad(padded[gate], (0, 1))
    padded |= {f"decoy.mlp.{name}_proj.weight": torch.ones(4, 4) for name in ("gate", "down")}
    save_file(padded, tmp_path / "padded.safetensors")
    again = issued("lineage", "decode", str(tmp_path / "padded.safetensors"), "--against", "chat:v1", who="carla").json
    assert (again["recipient"], again["version"]) == ("north", 1)


def test_what_can_not_be_compared_is_told(issued: Shell, tmp_path: Path) -> None:
    words = ("--against", "chat:v1")
    (tmp_path / "text").write_text("no weights")
    said = issued("lineage", "decode", str(tmp_path / "text"), *words, who="carla")
    assert (said.code, "neither safetensors nor GGUF nor a PyTorch file" in said.out) == ("usage.bad_input", True)
    os.mkfifo(tmp_path / "pipe")
    said = issued("lineage", "decode", str(tmp_path / "pipe"), *words, who="carla")
    assert (said.code, "no regular file" in said.out) == ("usage.bad_input", True)
    (tmp_path / "none.gguf").write_bytes(b"GGUF" + bytes(40))
    assert issued("lineage", "decode", str(tmp_path / "none.gguf"), *words, who="carla").code == "usage.bad_input"
    other = {"model.layers.0.mlp.gate_proj.weight": torch.from_numpy(np.ones((4, 4), np.float32))}
    save_file(other, tmp_path / "other.safetensors")
    said = issued("lineage", "decode", str(tmp_path / "other.safetensors"), *words, who="carla")
    assert said.code == "lineage.other_shape"
    assert issued("custody", "seal", str(tmp_path / "other.safetensors"), "tiny:v1", who="carla").status == 0
    never = issued("lineage", "decode", str(tmp_path / "text"), "--against", "tiny:v1", who="carla")
    assert never.code == "custody.no_such_copy"
    named = issued("lineage", "decode", str(tmp_path / "text"), *words, "--expert", "Dr E", who="carla")
    assert named.code == "usage.bad_input"


def test_a_copy_can_not_borrow_another_copys_approval(issued: Shell, tmp_path: Path) -> None:
    """The issuer alone signs a second deed of south's copy that names east, under the approval of east's own."""
    leaked, evidence = opened(issued, tmp_path, "south"), tmp_path / "evidence.json"
    words = ("lineage", "decode", str(leaked), "--against", "chat:v1", "--evidence", str(evidence))
    assert issued(*words, who="carla").status == 0
    home = open_home(issued.home)
    who = home.desk.authenticate("carla", Secret(b"passphrase of carla"))
    copies = premises_of(home).copies
    south, east = (next(one for one in copies.all() if one.recipient.name == name) for name in ("south", "east"))
    forged = msgspec.structs.replace(south, recipient=east.recipient, path=east.path, request=east.request)
    assert approves(copies.grant(east.copy).event, forged)
    subject = f"copy:{south.copy}"
    signature = who.keyring.sign(deed_bytes(subject, digest(forged), home=home.id, after=-1))
    key = who.keyring.public.fingerprint()
    detail: Detail = {"digest": digest(forged), "after": -1, "key": key, "signature": b64(signature)}
    entry = home.journal.record(Act(who.label, "custody.entered", subject), "done", detail=detail)
    said = json.loads(evidence.read_text())["said"]
    proofs = [home.ledger.prove(at).decode() for at in (entry.index, copies.grant(east.copy).index)]
    said["copies"] = [{"deed": json.loads(encode(forged)), "proof": proofs[0], "approval": proofs[1]}]
    bad = {"said": said, "signature": b64(who.keyring.sign(pae(TYPE, rfc8785.dumps(said))))}
    vkey = home.ledger.vkey
    home.close()
    (tmp_path / "bad.json").write_bytes(rfc8785.dumps(bad))
    refused = issued("lineage", "check", str(tmp_path / "bad.json"), "--vkey", vkey)
    assert (refused.code, "nobody approved" in refused.out) == ("ledger.proof_invalid", True), refused.out
