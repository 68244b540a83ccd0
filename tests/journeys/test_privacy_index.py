"""`privacy index`: built with a key of the home, asked by those who may, and told in the ledger."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the privacy extra is not installed")
pytest.importorskip("hyperscan", reason="the privacy extra is not installed")

from tests.journeys.shell import Shell

TEXT = Path(json.__file__).parent.joinpath("decoder.py").read_text("utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "decoder.txt").write_text(TEXT)
    lines = [
        json.dumps({"text": text}) for text in ("A note on nothing much.", f"Key: AKIAIOSFODNN7EXAMPLQ. {TEXT[:99]}")
    ]
    (folder / "notes.jsonl").write_text("\n".join(lines))
    return folder


def test_an_index_is_built_and_asked(shell: Shell, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    said = shell("privacy", "index", "build", str(corpus), "--out", str(out), who="carla")
    assert said.status == 0, said.out
    made = said.json
    assert (made["documents"], made["values"], made["guarantee"]["run"]) == (3, 1, 15)
    assert made["bytes"] == sum(one.stat().st_size for one in out.iterdir() if one.name != "index.json")
    answer = tmp_path / "answer.txt"
    answer.write_text("Well, " + TEXT[2000:4000].upper() + " and akiaiosfodnn7examplq.")
    found = shell("privacy", "index", "check", str(answer), "--index", str(out), who="owner").json
    assert (found["verdict"], {one["source"] for one in found["spans"]}) == ("match", {"decoder.txt"})
    assert [one["source"] for one in found["values"]] == ["notes.jsonl#1"]
    assert {"coverage", "longest_run", "spans"} <= found.keys()
    shown = shell("privacy", "index", "show", str(out), who="carla").json
    assert shown["id"] == made["id"]
    told = shell("ledger", "tail").out
    assert told.count('"privacy.index"') == told.count('"privacy.check"') == 1
    assert "akia" not in told.lower()


def test_who_may_not_does_not(shell: Shell, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    for who in ("rosa", "ada"):
        said = shell("privacy", "index", "build", str(corpus), "--out", str(out), who=who)
        assert (said.status, said.code) == (3, "access.not_permitted")
    assert not out.exists()
    assert shell("privacy", "index", "build", str(corpus), "--out", str(out), who="carla").status == 0
    for words in (("check", str(corpus / "decoder.txt"), "--index", str(out)), ("show", str(out))):
        assert shell("privacy", "index", *words, who="rosa").code == "access.not_permitted"
    key = tmp_path / "key"
    key.write_text("0" * 64)
    said = shell("privacy", "index", "show", str(out), "--key-file", str(key))
    assert (said.status, said.code) == (4, "custody.wrong_key")


def test_a_key_of_ones_own_needs_no_home(shell: Shell, corpus: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "index", tmp_path / "key"
    for raw in (b"", b"short", b"z" * 64, b"0" * 33):
        key.write_bytes(raw)
        said = shell("privacy", "index", "build", str(corpus), "--out", str(out), "--key-file", str(key))
        assert (said.status, said.code) == (2, "usage.bad_input"), raw
    key.write_bytes(bytes(range(32)))
    before = shell("ledger", "tail").out
    assert shell("privacy", "index", "build", str(corpus), "--out", str(out), "--key-file", str(key)).status == 0
    found = shell("privacy", "index", "check", str(corpus / "decoder.txt"), "--index", str(out), "--key-file", str(key))
    assert found.json["verdict"] == "match"
    assert shell("ledger", "tail").out == before


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("build", "{corpus}", "--out", "{corpus}/index"), 2, "usage.bad_input"),
        (("build", "{corpus}", "--out", "{corpus}"), 6, "conflict.already_exists"),
        (("build", "{empty}", "--out", "{here}/index"), 2, "usage.bad_input"),
        (("build", "{corpus}", "--out", "{here}/index", "--text", "body"), 2, "privacy.corpus_unreadable"),
        (("build", "{corpus}", "--out", "{here}/index", "--window", "1"), 2, "usage"),
        (("build", "{corpus}", "--out", "/proc/index"), 7, "storage.unavailable"),
        (("show", "{here}/nowhere"), 5, "privacy.no_such_index"),
        (("show", "{corpus}"), 5, "privacy.no_such_index"),
        (("check", "{corpus}/decoder.txt", "--index", "{corpus}/decoder.txt"), 5, "privacy.no_such_index"),
        (("check", "{corpus}", "--index", "{here}"), 2, "usage"),
        (("check", "{binary}", "--index", "{here}"), 2, "usage.bad_input"),
    ],
)
def test_bad_input_is_told(
    shell: Shell, corpus: Path, tmp_path: Path, words: tuple[str, ...], status: int, code: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    places = {"corpus": corpus, "here": tmp_path, "empty": tmp_path / "empty", "binary": tmp_path / "binary"}
    said = shell("privacy", "index", *[word.format(**places) for word in words], who="carla")
    assert (said.status, said.code) == (status, code), said.out
    assert "Traceback" not in said.err


def test_without_the_extra_it_says_what_to_install(
    shell: Shell, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        one for one in sys.modules if one.startswith(("strongroom.privacy.windows.build", "strongroom.kernels"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    said = shell("privacy", "index", "build", str(corpus), "--out", str(tmp_path / "index"), who="carla")
    assert (said.status, said.code) == (9, "missing_extra")
    assert "strongroom[privacy]" in said.json["error"]["remedy"]
