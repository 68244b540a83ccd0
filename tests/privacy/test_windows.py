"""The window index: what it is certain to find, what it never says, and what happens to one that was touched."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the privacy extra is not installed")

import zstandard

from strongroom.core.errors import AlreadyExists, BadInput, WrongKey
from strongroom.core.privacy_errors import CorpusUnreadable, IndexAltered, NoSuchIndex
from strongroom.core.secrets import Secret
from strongroom.core.words import words
from strongroom.ports.recall import ABSENT
from strongroom.privacy.corpus.documents import files, read
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.bulk import Bulk
from strongroom.privacy.windows.check import check
from strongroom.privacy.windows.layout import HEADER, SOURCES, Header
from strongroom.privacy.windows.reader import WindowIndex, open_windows
from strongroom.privacy.windows.shard import Cut
from strongroom.privacy.windows.values import finder

KEY = Secret(bytes(range(32)))
STDLIB = Path(json.__file__).parent
ID = "idx_00000000"


def ordered(source: Path, out: Path, *, window: int = 8, stride: int = 8, common: int = 20, jobs: int = 1) -> Order:
    cut = Cut(window=window, stride=stride, text="text")
    return Order(source=source, out=out, cut=cut, common=common, jobs=jobs)


def made(order: Order) -> Header:
    return build(order, planned(order, lambda: ID), KEY, made="2026-01-01T00:00:00.000Z", progress=lambda *_: None)


def indexed(source: Path, out: Path, **shape: int) -> WindowIndex:
    made(ordered(source, out, **shape))
    return open_windows(out, KEY)


def spelled(text: str) -> list[bytes]:
    return [word for word, _ in words(text)]


def hits(index: WindowIndex, said: Sequence[bytes]) -> list[int]:
    return [index.find(b" ".join(said[at : at + index.window])) for at in range(len(said) - index.window + 1)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return real texts in every format: Python's own packages."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "deep").mkdir()
    sources = sorted(STDLIB.parent.glob("[a-d]*.py"))[:40]
    for one in sources[:20]:
        shutil.copy(one, folder / "deep" / one.name)
    lines = [json.dumps({"text": one.read_text("utf-8"), "n": at}) for at, one in enumerate(sources[20:30])]
    (folder / "some.jsonl").write_text("\n".join(lines) + "\n\n", "utf-8")
    (folder / "more.jsonl.gz").write_bytes(gzip.compress(("\n".join(lines[:0]) + "\n").encode()))
    (folder / "packed.txt.gz").write_bytes(gzip.compress(sources[30].read_bytes()))
    (folder / ".hidden").write_bytes(b"\xff")
    return folder


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 4), (5, 2), (4, 3), (6, 1)])
def test_every_run_that_the_guarantee_names_is_found(corpus: Path, tmp_path: Path, window: int, stride: int) -> None:
    index = indexed(corpus, tmp_path / "index", window=window, stride=stride, common=10**6)
    run = window + stride - 1
    chance = np.random.default_rng(window * stride)
    for file in files(corpus):
        for document in read(file):
            said = spelled(document.text)
            if len(said) < run:
                continue
            for at in chance.integers(0, len(said) - run + 1, 30):
                found = [one for one in hits(index, said[at : at + run]) if one != ABSENT]
                # the last words of a document whose next window would go over its end are no start of a window
                assert found or at + run > len(said) - (len(said) - window) % stride, (document.source, at)


def test_texts_that_the_corpus_lacks_are_not_found(corpus: Path, tmp_path: Path) -> None:
    index = indexed(corpus, tmp_path / "index", window=8, stride=1)
    chance = np.random.default_rng(1)
    vocabulary = sorted({word for file in files(corpus) for one in read(file) for word in spelled(one.text)})
    said = [vocabulary[at] for at in chance.integers(0, len(vocabulary), 20_000)]
    assert set(hits(index, said)) == {ABSENT}


def test_the_bulk_reader_is_the_readers_twin(corpus: Path, tmp_path: Path) -> None:
    index = indexed(corpus, tmp_path / "index")
    texts = [document.text for file in files(corpus) for document in read(file)] + ["", "a b c", "x y " * 20]
    for text, owners in zip(texts, Bulk(index, KEY).owners(texts), strict=True):
        assert owners.tolist() == hits(index, spelled(text))


def test_sources_are_named(corpus: Path, tmp_path: Path) -> None:
    index = indexed(corpus, tmp_path / "index", window=8, stride=1)
    for file in files(corpus):
        for document in read(file):
            owners = {one for one in hits(index, spelled(document.text)) if one != ABSENT}
            assert document.source in {index.source(one) for one in owners}


def test_the_index_holds_no_text(corpus: Path, tmp_path: Path) -> None:
    made(ordered(corpus, tmp_path / "index", window=4, stride=1))
    raw = b"".join(one.read_bytes() for one in sorted((tmp_path / "index").iterdir()) if one.name != SOURCES)
    every = {word for file in files(corpus) for one in read(file) for word in spelled(one.text) if len(word) > 7}
    header = (tmp_path / "index" / HEADER).read_bytes()
    told = {word for word in every if word in raw and word not in header}
    assert not told
    assert not (tmp_path / "index").stat().st_mode & 0o077


def test_boilerplate_is_left_out_and_versions_of_a_document_are_not_boilerplate(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    licence = " ".join(f"licence{at}" for at in range(40))
    header = " ".join(f"header{at}" for at in range(40))
    secret = " ".join(f"secret{at}" for at in range(40))
    for at in range(6):
        (folder / f"{at}.txt").write_text(f"{licence} and then {at} " + " ".join(f"own{at}x{n}" for n in range(30)))
    for at in range(9):
        edited = [word if n != 4 * at + 1 else "other" for n, word in enumerate(secret.split())]
        (folder / f"version{at}.txt").write_text(" ".join(edited if at % 2 else secret.split()))
    (folder / "h.txt").write_text(header)
    (tmp_path / "left").write_text(f"odd words before {header}")
    order = ordered(folder, tmp_path / "index", window=4, stride=1, common=5)
    made(
        Order(**{name: getattr(order, name) for name in ("source", "out", "cut", "common")}, left_out=tmp_path / "left")
    )
    index = open_windows(tmp_path / "index", KEY)
    assert set(hits(index, spelled(licence))) == {ABSENT}
    assert set(hits(index, spelled(header))) == {ABSENT}
    assert ABSENT not in hits(index, spelled(secret))
    assert ABSENT not in hits(index, spelled(" ".join(f"own3x{n}" for n in range(30))))


def test_several_processes_and_shards_make_the_same_index(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(ordered(corpus, tmp_path / "one"))
    monkeypatch.setattr("strongroom.privacy.windows.build._SHARD", 100_000)
    monkeypatch.setattr("strongroom.privacy.windows.merge._PART", 1000)
    two = made(ordered(corpus, tmp_path / "two", jobs=2))
    assert one == two


def test_a_build_that_was_killed_goes_on(corpus: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY.reveal())
    many = tmp_path / "many"
    many.mkdir()
    for at in range(12):
        (many / f"{at:02}.txt").write_text(
            "\n".join(f"{at} {one.text}" for file in files(corpus) for one in read(file))
        )
    whole = made(ordered(many, tmp_path / "whole", stride=1))
    program = (
        "import sys; from pathlib import Path; import strongroom.privacy.windows.build as b;"
        "b._SHARD = 1 << 20; from tests.privacy.test_windows import made, ordered;"
        f"made(ordered(Path({str(many)!r}), Path({str(tmp_path / 'index')!r}), stride=1))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    partial = tmp_path / "index.partial"
    killed = 0
    for _ in range(60):
        running = subprocess.Popen([sys.executable, "-c", program], env=environment)
        before = len(list(partial.glob("*/done.json")))
        while running.poll() is None and len(list(partial.glob("*/done.json"))) < before + 4:
            time.sleep(0.01)
        if running.poll() is not None:
            assert running.returncode == 0
            break
        running.send_signal(signal.SIGKILL)
        running.wait()
        killed += 1
    assert killed >= 2
    index = open_windows(tmp_path / "index", KEY)
    assert index.header.members == whole.members
    assert not partial.exists()


def test_another_order_does_not_go_on_with_an_unfinished_one(corpus: Path, tmp_path: Path) -> None:
    first = planned(ordered(corpus, tmp_path / "index"), lambda: ID)
    assert planned(ordered(corpus, tmp_path / "index"), lambda: "idx_11111111") == first
    with pytest.raises(AlreadyExists, match="unfinished index of something else"):
        planned(ordered(corpus, tmp_path / "index", stride=4), lambda: "idx_11111111")


def test_what_stands_there_is_not_written_over(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    with pytest.raises(AlreadyExists):
        made(ordered(corpus, tmp_path / "index"))
    with pytest.raises(BadInput, match="inside the corpus"):
        made(ordered(corpus, corpus / "index"))


def test_values_are_known_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    texts = (
        "Deploy with AKIAIOSFODNN7EXAMPLQ and nothing else, please; ask ops@example.com or call +1 202 555 0143.",
        "The deposit goes to DE89 3704 0044 0532 0130 00 by Friday. The card is 4242-4242-4242-4242.",
        "A third text, in which there is nothing that anybody would look for, whatever they were told.",
    )
    for at, text in enumerate(texts):
        (tmp_path / "corpus" / f"{at}.txt").write_text(text)
    order = ordered(tmp_path / "corpus", tmp_path / "index")
    made(dataclasses.replace(order, values=finder))
    index = open_windows(tmp_path / "index", KEY)
    assert index.header.values.entries == 3
    for text, source in (
        ("it was akiaiosfodnn7examplq, I think", "0.txt"),
        ("DE89370400440532013000", "1.txt"),
        ("de 89 3704-0044-0532-0130-00", "1.txt"),
        ("number 4242 4242 4242 4242!", "1.txt"),
        ("4242424242424242", "1.txt"),
    ):
        found = check(text, index)
        assert (found.verdict, {index.source(one.owner) for one in found.values}) == ("match", {source}), text
    for text in ("ops@example.com", "4242 4242", "4242424242424241", "AKIAIOSFODNN7EXAMPL", "the deposit goes to 00"):
        assert not check(text, index).values, text


@pytest.fixture(scope="module")
def small(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("small") / "index"
    made(ordered(corpus / "deep", out))
    return out


@pytest.mark.parametrize("name", ["windows.rest", "windows.owners", "windows.starts", "ends.starts", SOURCES])
@pytest.mark.parametrize("how", ["flipped", "cut", "longer", "gone"])
def test_a_file_that_was_touched_is_named(small: Path, tmp_path: Path, name: str, how: str) -> None:
    folder = tmp_path / "index"
    shutil.copytree(small, folder)
    raw = bytearray((folder / name).read_bytes())
    if how == "gone":
        (folder / name).unlink()
    else:
        raw[len(raw) // 2] ^= how == "flipped"
        (folder / name).write_bytes({"cut": raw[:-1], "longer": raw + b"\0"}.get(how, raw))
    with pytest.raises(IndexAltered, match=name):
        open_windows(folder, KEY)


def test_a_header_that_was_touched_has_no_key(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    shutil.copytree(small, folder)
    raw = (folder / HEADER).read_bytes()
    (folder / HEADER).write_bytes(raw.replace(b'"stride":8', b'"stride":7'))
    with pytest.raises(WrongKey):
        open_windows(folder, KEY)
    with pytest.raises(WrongKey):
        open_windows(small, Secret(bytes(32)))
    (folder / HEADER).write_bytes(raw[:-2])
    with pytest.raises(IndexAltered):
        open_windows(folder, KEY)
    (folder / HEADER).unlink()
    with pytest.raises(NoSuchIndex):
        open_windows(folder, KEY)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.txt", b"\xff\xfe"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 1}\n'),
        ("a.jsonl", b'{"text": "a"}\nnonsense\n'),
        ("a.jsonl", b'["text"]\n'),
        ("a.txt.gz", gzip.compress(b"words " * 1000)[:-9]),
        ("a.jsonl.zst", b"not zstd"),
        ("a.txt.zst", zstandard.compress(os.urandom(300_000).hex().encode())[:-9]),
        ("a.parquet", b"PAR1 not parquet PAR1"),
    ],
    ids=["no UTF-8", "no text", "no JSON", "no object", "cut gzip", "no zstd", "cut zstd", "no parquet"],
)
def test_a_file_that_is_not_what_it_says_is_named(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / name).write_bytes(raw)
    with pytest.raises(CorpusUnreadable) as caught:
        made(ordered(tmp_path / "corpus", tmp_path / "index"))
    assert caught.value.where.startswith(name)
    assert "nonsense" not in str(caught.value)
    assert not (tmp_path / "index").exists()


def test_a_check_says_where_a_text_comes_from(corpus: Path, tmp_path: Path) -> None:
    index = indexed(corpus, tmp_path / "index", window=8, stride=4)
    document = next(read(files(corpus / "deep")[3]))
    body = document.text[len(document.text) // 3 :][:3000]
    text = "Nothing of this sentence is from there, for I have just made it up. " + body.upper().replace(".", " !\n")
    found = check(text, index)
    assert found.verdict == "match"
    assert found.longest_run > 100
    assert {index.source(one.owner) for one in found.spans} == {f"deep/{document.source}"}
    assert min(one.start for one in found.spans) >= text.index(" up. ") + 4
    assert found.by_chance < 1e-6
    for one in found.spans:
        assert len(words(text[one.start : one.end])) == one.words
    assert check("One two three.", index).verdict == "inconclusive"
    ours = " ".join(f"w{at}" for at in range(100))
    assert (check(ours, index).verdict, check(ours, index).coverage) == ("no_match", 0.0)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400))
def test_any_text_can_be_checked(small: Path, text: str) -> None:
    found = check(text, open_windows(small, KEY))
    assert 0 <= found.coverage <= 1
    assert found.verdict in {"no_match", "inconclusive"}


def test_documents_that_are_too_short_for_a_window_make_an_empty_index(tmp_path: Path) -> None:
    for name, text in (("a", "only three words"), ("b", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.txt").write_text(text)
        index = indexed(tmp_path / name, tmp_path / f"{name}.index")
        assert (index.header.documents, index.header.windows.entries) == (1, 0)
        assert index.find(b"only three words of it are in the corpus") == -1
