"""Foreign bytes as corpora and indexes: a typed error or documents, never anything else."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

zstandard = pytest.importorskip("zstandard", reason="the privacy extra is not installed")
pytest.importorskip("pyarrow", reason="the privacy extra is not installed")

from strongroom.core.errors import StrongroomError  # noqa: E402 - after the skip
from strongroom.core.secrets import Secret  # noqa: E402 - as above
from strongroom.privacy.corpus.documents import Document, files, read  # noqa: E402 - as above
from strongroom.privacy.windows.layout import HEADER  # noqa: E402 - as above
from strongroom.privacy.windows.reader import open_windows  # noqa: E402 - as above

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "a", ""]), inner, max_size=3),
    max_leaves=6,
)
LINES = st.lists(st.one_of(JSON.map(json.dumps), st.text(max_size=20))).map(lambda lines: "\n".join(lines).encode())
RAW = st.one_of(st.binary(max_size=300), LINES, st.just(b"PAR1" + bytes(40) + b"PAR1"))


def packed(raw: bytes, name: str, cut: int) -> bytes:
    """Return what stands in a file of that name: packed, and cut off or not."""
    whole = {"gz": gzip.compress, "zst": zstandard.compress}.get(name.rpartition(".")[2], bytes)(raw)
    return whole[: len(whole) - cut] if cut else whole


def documents(file: Path) -> list[Document] | StrongroomError:
    try:
        return list(read(files(file)[0]))
    except StrongroomError as error:
        return error


@FUZZ
@given(
    raw=RAW,
    name=st.sampled_from(
        ["a.jsonl", "a.txt", "a.parquet", "a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.parquet.gz", "a"]
    ),
    cut=st.integers(0, 30),
)
def test_any_file_is_documents_or_a_typed_error(tmp_path: Path, raw: bytes, name: str, cut: int) -> None:
    file = tmp_path / name
    file.write_bytes(packed(raw, name, cut))
    found = documents(file)
    if isinstance(found, StrongroomError):
        assert found.where.startswith(name)
        assert len(found.message) < 200
        return
    assert [one.record for one in found] == list(range(len(found)))
    for one in found:
        one.text.encode()


@FUZZ
@given(
    raw=st.one_of(st.binary(max_size=400), JSON.map(lambda one: json.dumps({"header": one, "mac": "0" * 64}).encode()))
)
def test_any_header_of_an_index_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / HEADER).write_bytes(raw)
    with pytest.raises(StrongroomError) as caught:
        open_windows(tmp_path, Secret(bytes(32)))
    assert caught.value.code in {"privacy.index_altered", "custody.wrong_key"}
