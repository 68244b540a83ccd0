"""The report of a trace: a stranger makes the verdict again, and nobody makes it say anything else."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
import torch
from safetensors.torch import load_file, save_file

from strongroom.access import lockbox
from strongroom.access.identity import Identity
from strongroom.access.keys import Keyring, new_seed
from strongroom.core.errors import BadInput, ProofInvalid, StrongroomError
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.formats import pae
from strongroom.lineage.ancestry import AncestorFound, rejudged
from strongroom.lineage.bank import null_bank
from strongroom.lineage.traced import RecipientFound
from strongroom.wiring.home import Home, open_home
from strongroom.wiring.lineage_report import TYPE, Files, replay_report, write_report
from strongroom.wiring.mark_evidence import Trust
from strongroom.wiring.trace import trace_file
from tests.engines.models import write_wide
from tests.journeys.shell import Shell
from tests.journeys.test_copies import issue, recipient

Said = dict[str, Any]
Change = Callable[[Said], object]


@dataclass(frozen=True)
class Case:
    """A home in which a leaked copy was traced, and another after it."""

    home: Home
    carla: Identity
    model: Path  # as it was sealed
    leaked: Path  # south's copy, one layer lost
    report: bytes  # with the codes shown
    second: bytes  # of north's copy
    foreign: str  # another log's key

    @property
    def trust(self) -> Trust:
        return Trust(self.home.ledger.vkey)

    def signed(self, said: Said, keyring: Keyring) -> bytes:
        """Return a report as somebody signs it, under the name that it bears."""
        keys = keyring.public
        said["tracer"]["keys"] = {"receive": b64(keys.receive), "sign": b64(keys.sign)}
        signature = keyring.sign(pae(TYPE, rfc8785.dumps(said)))
        return rfc8785.dumps({"said": said, "signature": b64(signature)})


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def without_a_layer(copy: Path, place: Path) -> Path:
    """Write a copy without its last layer."""
    save_file({name: one for name, one in load_file(copy).items() if ".layers.15." not in name}, place)
    return place


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MEMORY_KIB", 64), ("_PASSES", 1), ("_LANES", 1)):
            patch.setattr(lockbox, name, value)
        (root / "away").mkdir()
        away = Shell(root / "away")
        assert away("init", "--passphrase-file", str(away.passphrase("owner"))).status == 0
        foreign = away("ledger", "prove", "0").json["vkey"]
        shell, model = Shell(root).settle(), write_wide(root / "model")
        with (shell.home / "strongroom.toml").open("a") as settings:
            settings.write("\n[lineage]\nrecipients = 100\ncolluders = 2\n")
        assert shell("custody", "seal", str(model), "other:v1", who="carla").status == 0
        assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
        leaked: list[Path] = []
        for name in ("north", "south"):
            recipient(shell, name, root / f"{name}.key")
            assert issue(shell, root / name, to=name).status == 0
            words = ("export", str(root / name), str(root / f"{name}.plain"), "--key", str(root / f"{name}.key"))
            assert shell("custody", "receive", *words).status == 0
            leaked.append(root / f"{name}.plain" / "model.safetensors")
        home = open_home(shell.home)
        who = home.desk.authenticate("carla", Secret(b"passphrase of carla"))
        cut, reports = without_a_layer(leaked[1], root / "cut.safetensors"), list[bytes]()
        for path in (cut, leaked[0]):
            found = trace_file(home, who, path, watch=lambda _what: None)
            reports.append(write_report(home, who, found, path=path, disclose=True))
        yield Case(home, who, model, cut, reports[0], reports[1], foreign)
        home.close()


def test_a_stranger_makes_the_verdict_again(case: Case) -> None:
    found = replay_report(case.report, case.trust, files=Files(case.leaked, case.model))
    assert (found.trace.verdict, found.trace.checkpoint, found.trace.recipient.name) == ("match", "chat:v1", "south")
    assert (found.looked.ledger, found.looked.marks, found.looked.suspect, found.looked.tests) == (True,) * 4
    assert [one.event.action for one in found.entries] == ["lineage.trace", "custody.sealed"]
    assert found.entries[1].event.object == "checkpoint:chat:v1"
    assert [one.kind for one in found.trace.derivation] == ["layers_changed"]
    assert len(found.notes) == 4  # the steps of the derivation, whose key it is, what is registered, what was sealed
    alone = replay_report(case.report)
    assert alone.trace == found.trace
    assert (alone.looked.ledger, alone.looked.marks, alone.looked.suspect, alone.looked.tests) == (False,) * 4
    assert len(alone.notes) == 7
    assert "anybody could have written them" in " ".join(alone.notes)


def test_what_is_not_shown_is_not_said_to_be_made_again(case: Case) -> None:
    said = json.loads(case.report)["said"]
    replayed = replay_report(case.signed(said | {"marks": None}, case.carla.keyring), case.trust)
    assert (replayed.looked.ledger, replayed.looked.marks) == (True, False)
    assert "They are the tracer's word" in " ".join(replayed.notes)


def test_what_no_replay_can_see_is_told(case: Case) -> None:
    """The ledger binds a checkpoint's ciphertext: a tracer could name other weights as those that were sealed."""
    notes = " ".join(replay_report(case.report, case.trust, files=Files(case.leaked, case.model)).notes)
    assert "That the checkpoint holds these weights is the tracer's word" in notes
    assert "which public bases, is the tracer's word" in notes


def at(*path: str | int) -> Callable[[Said], Any]:
    """Return what gets a part of a report's figures."""

    def get(said: Said) -> Any:
        one: Any = said["figures"]
        for step in path:
            one = one[step]
        return one

    return get


LINEAGE = at("evidence", "lineage")
TESTS = at("evidence", "lineage", "tests")
RECIPIENT = at("evidence", "recipient")


def a_base(said: Said) -> None:
    """Say that all is related, unmarked, and from a base: as it would be judged."""
    one = AncestorFound(
        base="b",
        relation="unclear",
        slope=0.3,
        scatter=0.4,
        noise=0.0,
        cosine=0.9,
        tensors=42,
        log10_p=0,
        siblings=0,
        tried=1,
    )
    at("evidence")(said).update(
        ancestor=msgspec.to_builtins(rejudged(one, null_bank())),
        recipient=msgspec.to_builtins(RecipientFound()),
    )
    said["figures"]["commitments"] = []


# Refused whoever signs, with no log and no file: the figures don't make that.
IMPOSSIBLE: dict[str, Change] = {
    "p": lambda one: LINEAGE(one).update(log10_p=-9000.0),
    "positive p": lambda one: LINEAGE(one).update(log10_p=1.0),
    "kind": lambda one: LINEAGE(one).update(p_kind="calibrated"),
    "method": lambda one: LINEAGE(one).update(method="coordinates"),
    "effect": lambda one: LINEAGE(one).update(effect=0.5),
    "assumption": lambda one: LINEAGE(one).update(assumption="None."),
    "tail": lambda one: LINEAGE(one).update(log10_tail=-300.0),
    "pairs": lambda one: LINEAGE(one).update(pairs=100_000),
    "tried 0": lambda one: LINEAGE(one).update(tried=0),
    "tried fewer": lambda one: LINEAGE(one).update(tried=1),
    "no tests": lambda one: LINEAGE(one).update(tests=[]),
    "one test": lambda one: TESTS(one).pop(0),
    "twice": lambda one: TESTS(one).append(TESTS(one)[0]),
    "hits over all": lambda one: TESTS(one)[1].update(hits=4000),
    "negative hits": lambda one: TESTS(one)[1].update(hits=-1),
    "no permutations": lambda one: TESTS(one)[1].update(permutations=0),
    "fewer permutations": lambda one: TESTS(one)[1].update(permutations=1),
    "negative choices": lambda one: TESTS(one)[1].update(choices=-400.0),
    "no choices": lambda one: TESTS(one)[1].update(choices=0),
    "odd choices": lambda one: TESTS(one)[1].update(choices=1.5),
    "fewer registered": lambda one: at("evidence")(one).update(registered=1),
    "none opened": lambda one: at("evidence")(one).update(opened=0),
    "related": lambda one: at("evidence")(one).update(related="doubt"),
    "unreadable": lambda one: at("evidence")(one).update(lineage=None),
    "twice from one layer": lambda one: LINEAGE(one)["layer_map"].append([0, 3, 1]),
    "a layer too many": lambda one: LINEAGE(one)["layer_map"].append([99, 3, 0.1]),
    "over whole": lambda one: LINEAGE(one)["layer_map"][0].__setitem__(2, 1.5),
    "layer -1": lambda one: LINEAGE(one)["layer_map"][0].__setitem__(1, -1),
    "many layers": lambda one: LINEAGE(one).update(layer_map=[[at, at, 0.01] for at in range(5000)]),
    "another name": lambda one: RECIPIENT(one).update(name="north"),
    "nobody": lambda one: RECIPIENT(one).update(name=None),
    "no scores": lambda one: RECIPIENT(one).update(scores=[]),
    "many scores": lambda one: RECIPIENT(one).update(scores=[0] * ((1 << 20) + 1)),
    "innocent scores": lambda one: RECIPIENT(one).update(scores=[-1, 0]),
    "fewer tried": lambda one: RECIPIENT(one).update(tried=1),
    "no match": lambda one: RECIPIENT(one).update(verdict="no_match"),
    "surer": lambda one: RECIPIENT(one).update(log10_p=-500.0),
    "surer of the mark": lambda one: RECIPIENT(one).update(checkpoint_log10_p=-500.0),
    "a base": lambda one: at("evidence")(one).update(
        ancestor={
            "base": "b",
            "cosine": 0.9,
            "log10_p": -2.1,
            "noise": 0.0,
            "relation": "base_only",
            "scatter": 0.0,
            "siblings": 135,
            "tried": 1,
            "slope": 0.3,
            "tensors": 42,
        }
    ),
    "no checkpoint": lambda one: one["figures"].update(checkpoint=None),
    "another checkpoint": lambda one: at("checkpoint")(one).update(name="other:v1"),
    "no commitments": lambda one: one["figures"].update(commitments=[]),
    "unknown member": lambda one: one.update(verdict="match"),
    "format": lambda one: one.update(format="strongroom/lineage-report@2"),
}

# What figures could say: only whoever signed may have said so, and only before the ledger's entry.
POSSIBLE: dict[str, Change] = {
    "another suspect": lambda one: one["figures"].update(suspect="0" * 64),
    "another layer": lambda one: LINEAGE(one)["layer_map"][0].__setitem__(1, 14),
    "no steps": lambda one: at("evidence")(one).update(derivation=[]),
    "other steps": lambda one: at("evidence", "derivation", 0)(one).update(detail="rank 8", kind="lora"),
    "version": lambda one: at("checkpoint")(one).update(version=2),
    "manifest": lambda one: at("checkpoint")(one).update(manifest="0" * 64),
    "weights": lambda one: at("checkpoint")(one).update(weights="0" * 64),
    "commitment": lambda one: one["figures"].update(commitments=["0" * 64]),
    "another base": lambda one: one["figures"].update(bases=[{"name": "b", "digest": "0" * 64}]),
    "bank": lambda one: one["figures"].update(bank="0" * 64),
    "a little surer of the mark": lambda one: RECIPIENT(one).update(checkpoint_log10_p=-55.5),
    "somebody else": lambda one: RECIPIENT(one).update(
        name="north", reason="The file was made from the copy of north."
    ),
    "no entry": lambda one: one.update(sealed=None),
    "the trace's entry for the sealing's": lambda one: one.update(sealed=one["traced"]),
    "the sealing's entry for the trace's": lambda one: one.update(traced=one["sealed"]),
    "a broken proof": lambda one: one.update(traced=one["traced"].replace("index", "index ")),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_figures_that_make_something_else_are_refused_whoever_signs(case: Case, name: str) -> None:
    said = json.loads(case.report)["said"]
    IMPOSSIBLE[name](said)
    with pytest.raises((ProofInvalid, BadInput)):
        replay_report(case.signed(said, case.carla.keyring))


@pytest.mark.parametrize("name", POSSIBLE)
def test_figures_are_those_that_stand_in_the_ledger(case: Case, name: str) -> None:
    said = json.loads(case.report)["said"]
    POSSIBLE[name](said)
    kept = rfc8785.dumps({"said": said, "signature": json.loads(case.report)["signature"]})
    with pytest.raises(ProofInvalid, match="did not sign it"):
        replay_report(kept)
    for keyring in (case.carla.keyring, Keyring("carla", new_seed())):
        with pytest.raises(ProofInvalid):
            replay_report(case.signed(said, keyring), case.trust)


def test_a_base_is_one_of_those_that_were_considered(case: Case) -> None:
    said = json.loads(case.report)["said"]
    assert said["figures"]["bases"] == []
    a_base(said)
    with pytest.raises(ProofInvalid, match="none of those that were considered"):
        replay_report(case.signed(said, case.carla.keyring))
    said["figures"].update(bases=[{"name": "b", "digest": "0" * 64}])
    assert replay_report(case.signed(said, case.carla.keyring)).trace.verdict == "common_ancestor"


def test_nobody_signs_a_true_report_anew(case: Case) -> None:
    said = json.loads(case.report)["said"]
    with pytest.raises(ProofInvalid, match="with another key"):
        replay_report(case.signed(said, Keyring("carla", new_seed())), case.trust)
    said["tracer"]["name"] = "mallory"
    with pytest.raises(ProofInvalid, match="somebody else"):
        replay_report(case.signed(said, Keyring("mallory", new_seed())), case.trust)


def test_proofs_and_marks_of_another_report_are_refused(case: Case) -> None:
    first, second = (json.loads(raw)["said"] for raw in (case.report, case.second))
    for part in ("traced", "marks", "figures"):
        with pytest.raises(ProofInvalid):
            replay_report(case.signed(first | {part: second[part]}, case.carla.keyring), case.trust)
    other = case.home.vault.registry.pin(CheckpointName.parse("other:v1")).index
    with pytest.raises(ProofInvalid, match="sealing"):
        replay_report(
            case.signed(first | {"sealed": case.home.ledger.prove(other).decode()}, case.carla.keyring), case.trust
        )
    with pytest.raises(ProofInvalid):
        replay_report(case.report, Trust(case.foreign))
    with pytest.raises(ProofInvalid, match="issues here"):
        replay_report(case.report, Trust(case.home.ledger.vkey, issuer="0" * 64))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"-3.0"', "null", "true"])
def test_numbers_are_numbers(case: Case, number: str) -> None:
    p = json.loads(case.report)["said"]["figures"]["evidence"]["recipient"]["checkpoint_log10_p"]
    assert case.report.count(rfc8785.dumps(p)) == 1
    with pytest.raises(BadInput):
        replay_report(case.report.replace(rfc8785.dumps(p), number.encode()))


def test_a_report_has_one_spelling(case: Case) -> None:
    for raw in (
        json.dumps(json.loads(case.report), indent=1).encode(),
        case.report.replace(b'{"said":', b'{"said":{},"said":', 1),
        case.report + b"\n",
        case.report[:-9],
        b"",
        b"[" * 100_000,
    ):
        with pytest.raises(BadInput):
            replay_report(raw)


def test_the_files_are_those_that_were_traced(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ProofInvalid, match="not the file") as refused:
        replay_report(case.report, files=Files(case.model))
    assert refused.value.advice.startswith("Give the file itself")
    changed = load_file(case.model / "model.safetensors")
    changed["model.layers.0.mlp.up_proj.weight"] = torch.zeros_like(changed["model.layers.0.mlp.up_proj.weight"])
    save_file(changed, tmp_path / "model.safetensors")
    with pytest.raises(ProofInvalid, match="not the weights"):
        replay_report(case.report, files=Files(case.leaked, tmp_path / "model.safetensors"))


def test_the_tokens_are_those_it_was_traced_with(case: Case, tmp_path: Path) -> None:
    assert json.loads(case.report)["said"]["figures"]["vocabulary"] is None
    alone = shutil.copyfile(case.leaked, tmp_path / "cut.safetensors")
    assert replay_report(case.report, files=Files(alone, case.model)).looked.tests
    vocab = {f"w{at}": at for at in range(64)}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": []}}))
    with pytest.raises(ProofInvalid, match="another tokenizer"):
        replay_report(case.report, files=Files(alone, case.model))


def test_tests_that_were_made_up_do_not_come_out_again(case: Case) -> None:
    said = json.loads(case.report)["said"]
    for entry in LINEAGE(said)["layer_map"]:
        entry[1] = 15 - entry[1]
    raw = case.signed(said, case.carla.keyring)
    assert replay_report(raw).trace.verdict == "match"
    with pytest.raises(StrongroomError, match="say something else"):
        replay_report(raw, files=Files(case.leaked, case.model))
