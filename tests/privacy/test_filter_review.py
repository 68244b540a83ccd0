"""What a review says of the whole, what planted values say, what an index has seen; and the commands."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from strongroom.cli.main import main
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.privacy.filter.planted import planted
from strongroom.privacy.filter.review import read_sample, reviewed, wilson
from strongroom.privacy.filter.rules import rules
from strongroom.privacy.filter.run import Wanted, filter_corpus
from strongroom.privacy.overlap import Overlap
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.shard import Cut
from tests.privacy.generated import passages

DOCS = Path(__file__).parents[2] / "docs"
KEY = Secret(bytes(range(32)))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = [f"{one} {n}@web.de" if n % 4 == 0 else one for n, one in enumerate(passages(DOCS)[:200])]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in lines))
    return folder


def test_wilsons_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = np.random.default_rng(1)
    for rate in (0.02, 0.3, 0.9):
        hits = chance.binomial(200, rate, size=3000).tolist()
        held = [one.low <= rate <= one.high for one in (wilson(each, 200) for each in hits)]
        assert np.mean(held) > 0.93
    assert wilson(0, 0) == wilson(0, 0)
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)
    assert math.isclose(wilson(8, 10).low, 0.4901, abs_tol=1e-3)  # as published tables have it


def test_a_review_is_an_estimate_where_the_sample_is_large_enough(corpus: Path, tmp_path: Path) -> None:
    filter_corpus(Wanted(corpus, tmp_path / "out", sample=100), None, lambda _done, _total: None)
    report, sample = read_sample(tmp_path / "out")
    assert {one.stratum for one in sample} == {"finding", "clean", "changed"}
    said = reviewed(report, sample, missed=0, wrong=0)
    assert said.documents == 100
    assert said.recall.estimate == said.precision.estimate == 1
    assert 0 < said.recall.low < 1
    worse = reviewed(report, sample, missed=20, wrong=5)
    assert worse.recall.low < worse.recall.estimate < worse.recall.high < said.recall.high
    few = [one for one in sample if one.stratum != "clean"] + [one for one in sample if one.stratum == "clean"][:5]
    assert reviewed(report, few, missed=0, wrong=0).verdict == "inconclusive"
    with pytest.raises(BadInput):
        reviewed(report, sample, missed=101, wrong=0)


def test_a_sample_that_was_changed_is_refused(corpus: Path, tmp_path: Path) -> None:
    filter_corpus(Wanted(corpus, tmp_path / "out"), None, lambda _done, _total: None)
    file = tmp_path / "out/.filter/sample.jsonl"
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(BadInput):
        read_sample(tmp_path / "out")


def test_the_sample_is_drawn_evenly(corpus: Path, tmp_path: Path) -> None:
    filter_corpus(Wanted(corpus, tmp_path / "out", sample=40), None, lambda _done, _total: None)
    _, sample = read_sample(tmp_path / "out")
    places = np.array([one.record for one in sample if one.stratum == "clean"])
    assert len(set(places.tolist())) == 40
    assert 60 < places.mean() < 140  # of 0 to 199


def test_planted_values_are_found_in_plain_prose_and_the_same_ones_each_time() -> None:
    texts = [one.encode() for one in passages(DOCS)[:50]]
    tally = planted(rules().scanner.find, texts)
    assert tally == planted(rules().scanner.find, texts)
    assert sum(hits for hits, _ in tally.values()) >= 0.9 * sum(tries for _, tries in tally.values())
    blind = rules(b'disable = ["email", "number"]').scanner
    assert planted(blind.find, texts)["email"][0] == 0
    assert planted(rules().scanner.find, []) == {}


def index_of(source: Path, out: Path) -> Overlap:
    order = Order(source, out, Cut(window=8, stride=8, text="text"), 20)
    made = "2026-01-01T00:00:00.000Z"
    build(order, planned(order, lambda: "idx_0123456789"), KEY, made=made, progress=lambda _done, _total: None)
    return Overlap(out, KEY)


def test_what_mostly_repeats_earlier_documents_goes(tmp_path: Path) -> None:
    words = " ".join(passages(DOCS)).split()
    parts = [" ".join(words[at : at + 120]) for at in range(0, 1200, 120)]
    texts = [*parts[:4], f"{parts[0]} {parts[1]} {parts[5]}", f"{parts[6]} {parts[7]} {' '.join(words[:40])}", parts[8]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    against = index_of(tmp_path / "a.jsonl", tmp_path / "index")
    wanted = Wanted(tmp_path / "a.jsonl", tmp_path / "out", against=against, similarity=None)
    report = filter_corpus(wanted, None, lambda _done, _total: None)
    assert report.dropped.seen == 1  # number 4: two of its three parts stand in earlier ones
    kept = [json.loads(line)["text"] for line in (tmp_path / "out/a.jsonl").read_text().splitlines()]
    assert len(kept) == 6
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"text": parts[2].upper()}) + "\n" + json.dumps({"text": parts[9]}) + "\n"
    )
    other = Wanted(tmp_path / "b.jsonl", tmp_path / "out2", against=against)
    assert filter_corpus(other, None, lambda _done, _total: None).dropped.seen == 1  # of another corpus: all it has


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict]:
    status = main([*words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_commands(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, common = str(tmp_path / "out"), ("privacy", "filter", str(corpus), "--jobs", "1")
    status, document = said(capsys, *common, "--out", out)
    assert status == 0
    assert {"documents", "kept", "findings", "duplicates"} <= set(document)
    assert document["documents"] == 200
    assert document["findings"]["email"] >= 50
    status, document = said(capsys, "privacy", "review", out, "--missed", "1", "--wrong", "2")
    assert status == 0
    assert set(document) == {"verdict", "recall", "precision", "documents", "findings"}
    assert said(capsys, *common, "--out", out)[0] == 6
    (tmp_path / "short").write_bytes(b"x")
    named = (*common, "--out", str(tmp_path / "o2"), "--action", "pseudonymise")
    assert said(capsys, *named, "--key-file", str(tmp_path / "short"))[1]["error"]["code"] == "usage.bad_input"
    (tmp_path / "key").write_bytes(bytes(32))
    assert said(capsys, *named, "--key-file", str(tmp_path / "key"))[0] == 0
    (tmp_path / "rules.toml").write_text("[[rule]]\nname='r'\nkind='r'\nexpression='('\n")
    status, document = said(capsys, *common, "--out", str(tmp_path / "o3"), "--rules", str(tmp_path / "rules.toml"))
    assert (status, document["error"]["code"], document["error"]["where"]) == (2, "privacy.bad_rules", "r")
    assert main(["privacy", "filter", str(corpus), "--out", str(tmp_path / "o4"), "--jobs", "1"]) == 0
    assert "200 documents read" in capsys.readouterr().out


def test_where_every_document_was_read_nothing_is_estimated(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text":"one"}\n{"text":"two"}\n')
    filter_corpus(Wanted(tmp_path / "x.jsonl", tmp_path / "out"), None, lambda _done, _total: None)
    report, sample = read_sample(tmp_path / "out")
    none = reviewed(report, sample, missed=0, wrong=0)
    assert (none.verdict, none.recall.low, none.recall.high) == ("estimated", 1.0, 1.0)
    one = reviewed(report, sample, missed=1, wrong=0)
    assert (one.recall.low, one.recall.estimate, one.recall.high) == (0.0, 0.0, 0.0)
