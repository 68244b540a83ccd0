"""Whole runs: formats kept, nothing half-written, resumed after kill -9 to the same bytes, errors that say where."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from strongroom.core.errors import AlreadyExists, BadInput, Busy
from strongroom.core.privacy_errors import CorpusUnreadable
from strongroom.core.secrets import Secret
from strongroom.privacy.corpus.documents import files, read
from strongroom.privacy.filter import plan
from strongroom.privacy.filter.actions import replace
from strongroom.privacy.filter.deny import Deny, read_deny
from strongroom.privacy.filter.findings import Finding
from strongroom.privacy.filter.run import Wanted, filter_corpus
from strongroom.privacy.filter.shard import save
from tests.privacy.generated import passages

DOCS = Path(__file__).parents[2] / "docs"
KEY = Secret(bytes(range(32)))


def quiet(_done: int, _total: int) -> None:
    """Take no notice."""


def filtered(source: Path, out: Path, *, key: Secret | None = None, **how: object) -> dict:
    report = filter_corpus(Wanted(source, out, **how), key, quiet)  # type: ignore[arg-type]
    assert json.loads((out / "filter-report.json").read_bytes())["documents"] == report.documents
    return {name: getattr(report, name) for name in report.__struct_fields__}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(one.relative_to(folder)): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in sorted(folder.rglob("*"))
        if one.is_file()
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    paragraphs = passages(DOCS)
    (folder / "a.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "id": f"d{n}",
                    "text": f"{one}\nwrite to né{n}@web.de" if n % 3 == 0 else one,
                    "n": 1e400 if 0 else 1.50,
                }
            )
            + "\n"
            for n, one in enumerate(paragraphs[:24])
        )
        + "\n   \n"
        + '{"text": "odd  spacing", "k" : [1,  2], "big": 12345678901234567890123}\n'
    )
    with gzip.open(folder / "b.jsonl.gz", "wt") as out:
        out.write('{"text": "\\u00e9\\u00e9 a@b.org \\ud83d\\ude00", "x": 1}\n')
    (folder / "sub/c.jsonl.zst").write_bytes(
        zstandard.compress(b'{"text":"call +1-545-880-7302 please, dear","x":"a@b.org"}\n')
    )
    (folder / "sub/t.txt").write_text("Hello é, bob@web.de wrote\n")
    (folder / "sub/clean.md").write_text("# Nothing here at all\n")
    table = pa.table(
        {"k": [1, 2, 3], "text": ["one two three four five six", "mail é a.b@web.de ok", "seven"], "f": [0.5, None, 2]}
    )
    pq.write_table(table, folder / "p.parquet")
    return folder


def test_masks_keep_every_file_and_all_else_in_it(corpus: Path, tmp_path: Path) -> None:
    report = filtered(corpus, tmp_path / "out")
    out = tmp_path / "out"
    before = [one.name for one in files(corpus)]
    assert [one.name for one in files(out)] == before
    lines = (out / "a.jsonl").read_text().splitlines()
    given = [one for one in (corpus / "a.jsonl").read_text().splitlines() if one.strip()]
    assert lines[1] == given[1]
    assert lines[-1] == given[-1]  # to the byte, spaces and large numbers too
    assert json.loads(lines[0])["text"].endswith("\nwrite to [EMAIL]")
    assert list(json.loads(lines[0])) == ["id", "text", "n"]
    assert json.loads(gzip.decompress((out / "b.jsonl.gz").read_bytes())) == {"text": "éé [EMAIL] 😀", "x": 1}
    raw = zstandard.ZstdDecompressor().decompressobj().decompress((out / "sub/c.jsonl.zst").read_bytes())
    assert json.loads(raw) == {"text": "call [PHONE] please, dear", "x": "a@b.org"}
    assert (out / "sub/t.txt").read_text() == "Hello é, [EMAIL] wrote\n"
    assert (out / "sub/clean.md").read_bytes() == (corpus / "sub/clean.md").read_bytes()
    table = pq.read_table(out / "p.parquet")
    assert table.schema.equals(pq.read_table(corpus / "p.parquet").schema)
    assert table.column("text").to_pylist()[1] == "mail é [EMAIL] ok"
    assert table.column("f").to_pylist() == [0.5, None, 2]
    assert report["findings"] == {"email": 11, "phone": 1}


def test_positions_count_characters_and_no_value_is_told(corpus: Path, tmp_path: Path) -> None:
    filtered(corpus, tmp_path / "out")
    texts = {(one.file, one.record): one.text for file in files(corpus) for one in read(file)}
    positions = [json.loads(line) for line in (tmp_path / "out/.filter/findings.jsonl").read_text().splitlines()]
    values = {texts[one["file"], one["record"]][one["start"] : one["end"]] for one in positions}
    assert len(positions) == 12
    assert {"a@b.org", "bob@web.de", "a.b@web.de", "+1-545-880-7302", "né0@web.de"} <= values
    said = "".join(
        one.read_text() for one in (tmp_path / "out").rglob("*.json*") if "filter" in str(one.relative_to(tmp_path))
    )
    assert not any(value in (tmp_path / "out/.filter/findings.jsonl").read_text() for value in values)
    assert not any(value in (tmp_path / "out/filter-report.json").read_text() for value in values)
    assert said


def test_everything_written_is_its_owners_alone(corpus: Path, tmp_path: Path) -> None:
    filtered(corpus, tmp_path / "out")
    for one in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        assert one.stat().st_mode & 0o077 == 0, one
    assert not list(tmp_path.glob(".*partial*"))


def test_dropping_takes_the_document_and_pseudonyms_are_the_same_for_the_same(corpus: Path, tmp_path: Path) -> None:
    dropped = filtered(corpus, tmp_path / "dropped", action="drop")
    assert dropped["kept"] == dropped["documents"] - dropped["dropped"].findings
    assert not (tmp_path / "dropped/sub/t.txt").exists()
    assert "web.de" not in (tmp_path / "dropped/a.jsonl").read_text()

    (corpus / "same.jsonl").write_text(
        '{"text":"x Bob@Web.de and password = hunter2Xy!9Q"}\n{"text":"y bob@web.de, bea@web.de now'
        ' here +1-545-880-7302"}\n'
        '{"text":"z +1 (545) 880 7302 again in other words"}\n'
    )
    filtered(corpus, tmp_path / "named", action="pseudonymise", key=KEY)
    one, two, three = ((json.loads(line)["text"]) for line in (tmp_path / "named/same.jsonl").read_text().splitlines())
    name = one.split()[1]
    assert name.startswith("person-")
    assert name.endswith("@example.invalid")
    assert two.split()[1] == f"{name},"
    assert two.split()[2] != name
    assert "[SECRET]" in one
    assert two.split()[-1] == three.split()[1]
    filtered(tmp_path / "named", tmp_path / "again", action="mask", similarity=None)
    assert name in (tmp_path / "again/same.jsonl").read_text()  # a pseudonym is no finding


def test_duplicates_go_and_the_first_stays(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    base = passages(DOCS)
    long = " ".join(base[:12])
    near = long.replace("the", "a", 3)
    texts = [base[20], long, "!!!", near, base[20].upper(), "???", base[30]]
    (corpus / "a.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts[:4]))
    (corpus / "b.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts[4:]))
    report = filtered(corpus, tmp_path / "out", similarity=0.8)
    repeats = [json.loads(line) for line in (tmp_path / "out/.filter/duplicates.jsonl").read_text().splitlines()]
    assert [(one["file"], one["record"], one["of_file"], one["of_record"], one["why"]) for one in repeats] == [
        ("a.jsonl", 3, "a.jsonl", 1, "similar"),
        ("b.jsonl", 0, "a.jsonl", 0, "repeated"),
    ]
    assert report["kept"] == 5
    assert filtered(corpus, tmp_path / "all", similarity=None)["kept"] == 7
    assert filtered(corpus, tmp_path / "exact", similarity=1.0)["kept"] == 6


def test_denied_documents_go_by_name_and_by_text(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "names").write_text("a.jsonl#4\nd7\nsub/clean.md\n")
    report = filtered(corpus, tmp_path / "out", deny=read_deny(tmp_path / "names", text="text"))
    assert report["dropped"].denied == 3
    assert not (tmp_path / "out/sub/clean.md").exists()
    ids = [json.loads(line).get("id") for line in (tmp_path / "out/a.jsonl").read_text().splitlines()]
    assert "d4" not in ids
    assert "d7" not in ids
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/x.txt").write_text("# NOTHING here, at all!")
    denied = filtered(corpus, tmp_path / "out2", deny=read_deny(tmp_path / "texts", text="text"), similarity=None)
    assert denied["dropped"].denied == 1
    assert not (tmp_path / "out2/sub/clean.md").exists()


def test_many_shards_and_processes_write_the_same_bytes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = filtered(corpus, tmp_path / "one")
    monkeypatch.setattr(plan, "SIZE", 1500)
    many = filtered(corpus, tmp_path / "many", jobs=2)
    assert one | {"planted": None} == many | {"planted": None}  # values are planted shard by shard
    for report in (tmp_path / "one/filter-report.json", tmp_path / "many/filter-report.json"):
        report.unlink()
    assert digests(tmp_path / "one") == digests(tmp_path / "many")


def test_where_lines_are_cut_none_is_lost_or_doubled(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = filtered(corpus, tmp_path / "whole", similarity=None)["documents"]
    for size in (257, 600):
        monkeypatch.setattr(plan, "SIZE", size)
        out = tmp_path / f"out{size}"
        assert filtered(corpus, out, similarity=None)["documents"] == whole
        assert (out / "a.jsonl").read_bytes() == (tmp_path / "whole/a.jsonl").read_bytes()


_RUN = """
import sys
from pathlib import Path
from strongroom.privacy.filter import plan
from strongroom.privacy.filter.run import Wanted, filter_corpus
plan.SIZE = 15_000
if __name__ == "__main__":
    wanted = Wanted(Path(sys.argv[1]), Path(sys.argv[2]), jobs=2)
    filter_corpus(wanted, None, lambda done, total: print(done, flush=True))
"""


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = "".join(json.dumps({"text": f"{one} {n}@web.de"}) + "\n" for n, one in enumerate(passages(DOCS)))
    (corpus / "more.jsonl").write_text(more)
    monkeypatch.setattr(plan, "SIZE", 15_000)
    filtered(corpus, tmp_path / "whole")
    (tmp_path / "run.py").write_text(_RUN)
    command = [sys.executable, str(tmp_path / "run.py"), str(corpus), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        for _ in range(4):
            running.stdout.readline()
        pool = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        os.kill(running.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{one}").exists() for one in pool) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert pool
    assert not any(Path(f"/proc/{one}").exists() for one in pool)  # the pool ends with its parent
    assert not (tmp_path / "out").exists()
    done = [one for one in (tmp_path / ".out.strongroom-partial/shards").iterdir() if one.suffix != ".tmp"]
    assert len(done) >= 4
    before = {one: one.stat().st_mtime_ns for one in done}
    stamps = dict[Path, int]()

    def watch(_done: int, _total: int) -> None:
        stamps.update({one: one.stat().st_mtime_ns for one in done})

    filter_corpus(Wanted(corpus, tmp_path / "out"), None, watch)
    assert stamps == before  # what was done is not done again
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize(
    ("name", "raw", "where"),
    [
        ("x.jsonl", b'{"text":"a"}\n{"text":', "x.jsonl#1"),
        ("x.jsonl", b'{"text":"a"}\n{"no":"b"}\n', "x.jsonl#1"),
        ("x.jsonl", b'{"text":1}\n', "x.jsonl#0"),
        ("x.jsonl", b'["text"]\n', "x.jsonl#0"),
        ("x.jsonl", b'{"text":"\\ud800"}\n', "x.jsonl#0"),
        ("x.jsonl", b'{"text":"\xff"}\n', "x.jsonl#0"),
        ("x.jsonl", b"[" * 100_000, "x.jsonl#0"),
        ("x.txt", b"\xff\xfe", "x.txt"),
        ("x.jsonl.gz", gzip.compress(b'{"text":"a"}\n' * 999)[:-20], "x.jsonl.gz"),
        ("x.txt.gz", b"nonsense", "x.txt.gz"),
        ("x.jsonl.zst", zstandard.compress(b'{"text":"a"}\n' * 999)[:-5], "x.jsonl.zst"),
        ("x.parquet", b"PAR1nonsense", "x.parquet"),
    ],
)
def test_what_can_not_be_read_is_named_and_the_rest_waits(
    corpus: Path, tmp_path: Path, name: str, raw: bytes, where: str
) -> None:
    (corpus / name).write_bytes(raw)
    with pytest.raises(CorpusUnreadable) as caught:
        filtered(corpus, tmp_path / "out")
    assert caught.value.where == where
    assert not (tmp_path / "out").exists()
    (corpus / name).unlink()
    filtered(corpus, tmp_path / "out")


def test_a_text_member_that_is_there_twice_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text":"first a@b.org","text":"second"}\n')
    filtered(tmp_path / "x.jsonl", tmp_path / "out")
    assert (tmp_path / "out/x.jsonl").read_text() == '{"text":"second"}\n'


def test_places_that_can_not_be(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/x").touch()
    with pytest.raises(AlreadyExists):
        filtered(corpus, tmp_path / "there")
    for source, out in (
        (corpus, corpus / "out"),
        (corpus / "sub", corpus),
        (corpus, tmp_path / "no" / "out"),
        (tmp_path / "none", tmp_path / "o"),
    ):
        with pytest.raises((BadInput, AlreadyExists)):
            filtered(source, out)


def test_two_runs_to_one_place_never_mix(corpus: Path, tmp_path: Path) -> None:
    seen = list[str]()

    def nested(_done: int, _total: int) -> None:
        with pytest.raises(Busy) as caught:
            filtered(corpus, tmp_path / "out")
        seen.append(caught.value.code)

    filter_corpus(Wanted(corpus, tmp_path / "out", deny=Deny()), None, nested)
    assert seen


def test_texts_and_records_side_by_side_keep_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("one text, by a@b.org\n")
    (folder / "b.jsonl").write_text('{"text":"first record, bob@web.de"}\n{"text":"second record of these"}\n')
    (folder / "c.txt").write_text("another text without anything\n")
    pq.write_table(pa.table({"text": ["a row of the table"]}), folder / "d.parquet")
    (folder / "e.txt").write_text("last of all\n")
    filtered(folder, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "a.txt").read_text() == "one text, by [EMAIL]\n"
    lines = '{"text":"first record, [EMAIL]"}\n{"text":"second record of these"}\n'
    assert (out / "b.jsonl").read_text() == lines
    assert (out / "c.txt").read_bytes() == (folder / "c.txt").read_bytes()
    assert pq.read_table(out / "d.parquet").column("text").to_pylist() == ["a row of the table"]
    assert (out / "e.txt").read_text() == "last of all\n"
    found = [json.loads(line) for line in (out / ".filter/findings.jsonl").read_text().splitlines()]
    assert [(one["file"], one["start"]) for one in found] == [("a.txt", 13), ("b.jsonl", 14)]


def test_denied_ids_count_however_they_are_spelt(tmp_path: Path) -> None:
    lines = '{"id":"é","text":"one"}\n{"id":"\\u00e9","text":"two"}\n{"id":7,"text":"three"}\n{"id":"z","text":"4"}\n'
    (tmp_path / "x.jsonl").write_text(lines)
    (tmp_path / "names").write_bytes("\ufeffé\r\n7\r\n".encode())
    deny = read_deny(tmp_path / "names", text="text")
    report = filtered(tmp_path / "x.jsonl", tmp_path / "out", deny=deny)
    assert report["dropped"].denied == 3
    assert (tmp_path / "out/x.jsonl").read_text() == '{"id":"z","text":"4"}\n'


def test_list_and_report_say_the_same_of_duplicates(tmp_path: Path) -> None:
    texts = ("a " * 6, "a " * 7, "A, a a a a a")
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    report = filtered(tmp_path / "x.jsonl", tmp_path / "out")
    whys = [json.loads(line)["why"] for line in (tmp_path / "out/.filter/duplicates.jsonl").read_text().splitlines()]
    assert whys == ["similar", "repeated"]
    assert (report["dropped"].similar, report["dropped"].repeated) == (1, 1)


def test_the_report_does_not_depend_on_where_the_corpus_lies_or_who_filters_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SIZE", 1500)
    shutil.copytree(corpus, tmp_path / "moved", copy_function=shutil.copyfile)  # new times, too
    filtered(corpus, tmp_path / "one")
    filtered(tmp_path / "moved", tmp_path / "two", jobs=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


def test_a_text_member_whose_name_is_escaped_is_written_once(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(
        '{"te\\u0078t":"a@b.org","text":"second \\u00e9"}\n{"x":"\\u0041","text" : "é"}\n'
    )
    filtered(tmp_path / "x.jsonl", tmp_path / "out")
    assert (tmp_path / "out/x.jsonl").read_text() == '{"text":"second é"}\n{"x":"\\u0041","text" : "é"}\n'


def test_a_link_at_the_output_is_refused_before_any_work(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with pytest.raises(AlreadyExists):
        filtered(corpus, tmp_path / "link")


def test_different_values_have_different_pseudonyms() -> None:
    def named(kind: str, value: str) -> bytes:
        raw = value.encode()
        return replace(raw, [Finding(0, len(raw), kind, "rule")], KEY)

    for kind, one, other in (
        ("ip", "1.23.4.5", "12.3.4.5"),
        ("email", "a-b@c.org", "ab@c.org"),
        ("email", "a+b@c.org", "a_b@c.org"),
        ("date_of_birth", "1.11.1990", "11.1.1990"),
        ("address", "1 23rd Street", "12 3rd Street"),
    ):
        assert named(kind, one) != named(kind, other)
    for kind, one, other in (
        ("email", "A.B@c.org", "a.b [at] c (dot) org"),
        ("phone", "+1 (545) 880-7302", "+1 545 880 7302"),
        ("name", "Ann  LEE", "Ann Lee"),
    ):
        assert named(kind, one) == named(kind, other)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_folder_that_can_not_be_listed_stops_the_run(corpus: Path, tmp_path: Path) -> None:
    (corpus / "sub").chmod(0)
    with pytest.raises(CorpusUnreadable):
        filtered(corpus, tmp_path / "out")
    (corpus / "sub").chmod(0o700)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_full_disk_is_called_so() -> None:
    with pytest.raises(OSError, match="space") as caught:
        save(Path("/dev/full"), np.zeros(100_000))
    assert caught.value.errno == errno.ENOSPC
