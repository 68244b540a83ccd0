"""Where a file comes from: the commands as they are typed, the shapes of what they say, and what they refuse."""

from __future__ import annotations

import json
import os
import pickle  # noqa: TID251 - to write one that would run something
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from strongroom.access import lockbox
from tests.engines.models import write_plain
from tests.journeys.shell import Shell

TRACE = {"verdict", "checkpoint", "lineage", "recipient", "derivation", "report"}
LINEAGE = {"log10_p", "p_kind", "effect", "method", "layer_map"}
RECIPIENT = {"verdict", "name", "log10_p", "candidates", "colluders"}
STEP = {"kind", "detail", "evidence"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Shell]:
    """A home with a sealed checkpoint, made once: tests here add to it, and change nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_MEMORY_KIB", 64), ("_PASSES", 1), ("_LANES", 1)):
            patch.setattr(lockbox, name, value)
        shell = Shell(tmp_path_factory.mktemp("house")).settle()
        assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
        yield shell


@pytest.fixture
def permuted(model: Path, tmp_path: Path) -> Path:
    """The checkpoint with the hidden units of its MLPs shuffled: the same function."""
    weights = load_file(model / "model.safetensors")
    order = np.random.default_rng(3).permutation(64)
    for name, one in weights.items():
        if "gate_proj" in name or "up_proj" in name:
            weights[name] = np.ascontiguousarray(one[order])
        elif "down_proj" in name:
            weights[name] = np.ascontiguousarray(one[:, order])
    shutil.copytree(model, tmp_path / "permuted")
    save_file(weights, tmp_path / "permuted" / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "permuted"


@pytest.fixture
def unrelated(model: Path, tmp_path: Path) -> Path:
    """Another model of that shape."""
    draw = np.random.default_rng(5)
    weights = load_file(model / "model.safetensors")
    made = {name: (draw.standard_normal(one.shape) * 0.02).astype(np.float32) for name, one in weights.items()}
    shutil.copytree(model, tmp_path / "unrelated")
    save_file(made, tmp_path / "unrelated" / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "unrelated"


def test_a_suspect_is_traced_and_its_report_replayed(house: Shell, model: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    said = house("lineage", "trace", str(model), "--report", str(report), who="carla")
    assert said.status == 0, said.out
    found = said.json
    assert set(found) >= TRACE
    assert set(found["lineage"]) >= LINEAGE
    assert set(found["recipient"]) >= RECIPIENT
    assert (found["verdict"], found["checkpoint"], found["report"]) == ("match", "chat:v1", str(report))
    assert (found["lineage"]["p_kind"], found["lineage"]["layer_map"]) == ("exact", [[0, 0, 1.0], [1, 1, 1.0]])
    assert (found["recipient"]["verdict"], found["recipient"]["name"]) == ("no_match", None)
    assert all(one["log10_p"] <= 0 for one in found["lineage"]["tests"])
    for file in (report, tmp_path / "report.html"):
        assert file.stat().st_mode & 0o777 == 0o600

    [entry] = [one for one in house("ledger", "tail").json["entries"] if one["action"] == "lineage.trace"][-1:]
    assert entry["detail"]["verdict"] == "match"
    vkey = house("ledger", "prove", "0").json["vkey"]
    replay = ("lineage", "replay", str(report))
    whole = house(*replay, "--vkey", vkey, "--suspect", str(model), "--against", str(model)).json
    for member in ("verdict", "checkpoint", "lineage", "recipient", "derivation", "ancestor", "reason", "limits"):
        assert whole[member] == found[member]
    assert whole["made_again"] == {"p_values": True, "ledger": True, "marks": None, "suspect": True, "tests": True}
    assert [one["action"] for one in whole["entries"]] == ["lineage.trace", "custody.sealed"]
    assert whole["tracer"]["name"] == "carla"
    alone = house(*replay).json
    assert alone["made_again"]["ledger"] is alone["made_again"]["tests"] is False
    assert len(alone["notes"]) > len(whole["notes"])
    shown = house.process("lineage", "replay", str(report), raw=True)
    assert shown.status == 0
    assert "made again: the verdict and its p-values, from the figures\n" in shown.out
    assert "anybody could have written them" in shown.out


def test_a_replay_refuses_what_is_not_so(house: Shell, model: Path, unrelated: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert house("lineage", "trace", str(model), "--report", str(report), who="carla").status == 0
    vkey = house("ledger", "prove", "0").json["vkey"]
    replay = ("lineage", "replay", str(report))
    other = vkey[:-4] + ("AAA=" if vkey.endswith("=") else "AAAA")
    wrong = house(*replay, "--vkey", other)
    assert (wrong.status, wrong.code) in {(4, "ledger.proof_invalid"), (2, "usage.bad_input")}
    assert house(*replay, "--suspect", str(unrelated)).code == "ledger.proof_invalid"
    assert house(*replay, "--suspect", str(model), "--against", str(unrelated)).code == "ledger.proof_invalid"
    assert house(*replay, "--against", str(model)).code == "usage.bad_input"
    altered = tmp_path / "altered.json"
    altered.write_bytes(report.read_bytes().replace(b'"tried":1', b'"tried":2'))
    assert house("lineage", "replay", str(altered)).code == "ledger.proof_invalid"
    (tmp_path / "junk.json").write_text("{}")
    assert house("lineage", "replay", str(tmp_path / "junk.json")).code == "usage.bad_input"


def test_reports_that_nobody_places_are_numbered(house: Shell, unrelated: Path) -> None:
    places = [Path(house("lineage", "trace", str(unrelated), who="carla").json["report"]) for _ in range(2)]
    first, second = (int(place.stem.partition("-")[2]) for place in places)
    assert second == first + 1
    assert {place.parent for place in places} == {house.home / "reports"}
    assert all(place.with_suffix(".html").is_file() for place in places)


def test_what_is_unrelated_or_no_llama_is_no_match(house: Shell, unrelated: Path, tmp_path: Path) -> None:
    found = house("lineage", "trace", str(unrelated), who="carla").json
    assert (found["verdict"], found["checkpoint"], found["derivation"]) == ("no_match", None, [])
    assert (found["lineage"]["p_kind"], found["lineage"]["layer_map"]) == ("calibrated", [])
    other = write_plain(tmp_path / "gpt2", "gpt2")
    strange = house("lineage", "trace", str(other), who="carla").json
    assert (strange["verdict"], strange["opened"]) == ("inconclusive", 0)


def test_two_files_are_compared_without_a_home(tmp_path: Path, model: Path, permuted: Path) -> None:
    said = Shell(tmp_path)("lineage", "compare", str(model), str(permuted))
    assert said.status == 0, said.out
    found = said.json
    assert set(found) >= TRACE - {"report"}
    assert set(found["lineage"]) >= LINEAGE
    assert found["derivation"]
    assert all(set(one) >= STEP for one in found["derivation"])
    assert "permuted" in {one["kind"] for one in found["derivation"]}
    assert not (tmp_path / "home").exists()


def test_bases_are_added_listed_and_missed(
    shell: Shell, model: Path, permuted: Path, unrelated: Path, tmp_path: Path
) -> None:
    assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    place = tmp_path / "base"
    shutil.copytree(unrelated, place)
    assert shell("lineage", "base", "add", "smollm", str(place), who="rosa").code == "access.not_permitted"
    assert shell("lineage", "base", "add", "no name!", str(place), who="carla").status != 0
    added = shell("lineage", "base", "add", "smollm", str(place), who="carla").json
    assert (added["base"], added["path"]) == ("smollm", str(place))
    listed = shell("lineage", "base", "ls").json["bases"]
    assert listed == [{"base": "smollm", "path": str(place), "digest": added["digest"]}]
    found = shell("lineage", "trace", str(permuted), who="carla").json
    assert found["verdict"] == "match"
    figures = json.loads(Path(found["report"]).read_text())["said"]["figures"]
    assert figures["bases"] == [{"digest": added["digest"], "name": "smollm"}]
    assert added["digest"] in Path(found["report"]).with_suffix(".html").read_text()
    place.rename(tmp_path / "gone")
    missing = shell("lineage", "trace", str(permuted), who="carla")
    assert (missing.status, missing.code) == (2, "usage.bad_input"), missing.out
    assert "the public base 'smollm' is not there" in missing.out
    assert "lineage base add smollm PATH" in missing.out
    shutil.copytree(model, place)
    changed = shell("lineage", "trace", str(permuted), who="carla")
    assert (changed.code, "is not what was added" in changed.out) == ("usage.bad_input", True)
    shutil.rmtree(place)
    (tmp_path / "gone").rename(place)
    assert shell("lineage", "trace", str(permuted), who="carla").status == 0


class Runs:
    """What would run something when it is read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("it-ran",)


def test_hostile_files_and_strangers_are_refused(house: Shell, model: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.bin"
    evil.write_bytes(pickle.dumps(Runs()))
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "long.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{" + bytes(100))
    (tmp_path / "empty").mkdir()
    for name in ("evil.bin", "text", "long.safetensors", "empty"):
        refused = house("lineage", "trace", str(tmp_path / name), who="carla")
        code = "limit.input_too_large" if name.startswith("long") else "usage.bad_input"
        assert refused.code == code, (name, refused.out)
    assert "mkdir" in house("lineage", "trace", str(evil), who="carla").out
    assert not Path("it-ran").exists()
    assert house("lineage", "trace", str(tmp_path / "none"), who="carla").status == 2
    assert house("lineage", "trace", str(model), who="rosa").code == "access.not_permitted"
    refused_entry = house("ledger", "tail").json["entries"][-1]
    assert (refused_entry["action"], refused_entry["outcome"]) == ("lineage.decode", "refused")


def test_a_report_takes_no_place_that_is_taken(house: Shell, model: Path, tmp_path: Path) -> None:
    def place(name: str) -> str:
        return house("lineage", "trace", str(model), "--report", str(tmp_path / name), who="carla").code

    before = len(house("ledger", "tail").json["entries"])
    (tmp_path / "there.json").write_text("")
    (tmp_path / "page.html").write_text("")
    assert place("there.json") == place("page.json") == "conflict.already_exists"
    assert place("no/folder/report.json") == place("new.html") == "usage.bad_input"
    assert len(house("ledger", "tail").json["entries"]) == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["page.html", "there.json"]


def test_a_home_without_checkpoints_has_nothing_to_trace_to(shell: Shell, model: Path) -> None:
    found = shell("lineage", "trace", str(model), who="carla").json
    assert (found["verdict"], found["checkpoint"], found["lineage"]) == ("no_match", None, None)
    replayed = shell("lineage", "replay", found["report"], "--vkey", shell("ledger", "prove", "0").json["vkey"]).json
    assert (replayed["verdict"], len(replayed["entries"])) == ("no_match", 1)


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_says_all_and_fetches_nothing(house: Shell, model: Path, tmp_path: Path) -> None:
    evil = tmp_path / "<script>alert('1')</script>&.safetensors"
    shutil.copyfile(model / "model.safetensors", str(evil).replace("/script", "-script"))
    evil = Path(str(evil).replace("/script", "-script"))
    report = tmp_path / "report.json"
    assert house("lineage", "trace", str(evil), "--report", str(report), who="carla").status == 0
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    assert not {"script", "img", "link", "iframe", "object", "a", "form"} & set(page.tags)
    assert not {"src", "href", "style", "xlink:href"} & page.names
    assert not [name for name in page.names if name.startswith("on")]
    assert text.count("<svg") == page.tags.count("title") - 1 == page.tags.count("desc")
    assert page.tags.count("table") == page.tags.count("caption")
    said = json.loads(report.read_text())["said"]
    for word in (
        evil.name,
        said["figures"]["suspect"],
        said["figures"]["checkpoint"]["manifest"],
        "chat:v1, version 1",
    ):
        assert word in page.words
    for word in ("exact:", "calibrated:", "extrapolated:", "coordinates", "strongroom lineage replay report.json"):
        assert word in page.words
    assert "--vkey" in page.words
