"""A suspect's files: shards put together, and what can't be one told apart from what breaks a rule."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.safetensors_header import HEADER_LIMIT
from strongroom.lineage import suspects
from strongroom.lineage.suspects import SafetensorsFiles


def shard(path: Path, *names: str, metadata: int = 0) -> Path:
    """Write a file of four float32 0 to 3 for each of `names`, and as many bytes of metadata."""
    header: dict[str, object] = {
        name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * at, 16 * at + 16]}
        for at, name in enumerate(names)
    }
    if metadata:
        header["__metadata__"] = {"x": "y" * metadata}
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + np.arange(4, dtype="<f4").tobytes() * len(names))
    return path


def test_the_shards_of_a_folder_are_one_and_pieces_are_read(tmp_path: Path) -> None:
    shard(tmp_path / "1.safetensors", "a", "b")
    shard(tmp_path / "2.safetensors", "c")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with SafetensorsFiles(tmp_path) as found:
        assert {name: one.shape for name, one in found.infos().items()} == dict.fromkeys("abc", (2, 2))
        buffer = bytearray(8)
        found.read_into("c", 2, memoryview(buffer))
        assert np.frombuffer(buffer, "<f4").tolist() == [2, 3]
        for name, first in (("d", 0), ("c", 3), ("c", -1)):
            with pytest.raises(BadInput):
                found.read_into(name, first, memoryview(buffer))


def test_a_tensor_may_be_there_once(tmp_path: Path) -> None:
    shard(tmp_path / "1.safetensors", "a")
    shard(tmp_path / "2.safetensors", "a")
    with pytest.raises(BadInput, match="in another file as well"):
        SafetensorsFiles(tmp_path)


def test_a_folder_of_gguf_says_to_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^neither .* in the folder$"):
        SafetensorsFiles(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match=r"name the \.gguf file"):
        SafetensorsFiles(tmp_path)


@pytest.mark.parametrize(
    "blob", [b"", b"no weights", b"PK\x03\x04" + bytes(60), bytes(8), (1 << 60).to_bytes(8, "little") + b"x"]
)
def test_what_is_neither_is_told(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "x").write_bytes(blob)
    with pytest.raises(BadInput, match=r"^neither safetensors nor GGUF nor a PyTorch file$"):
        SafetensorsFiles(tmp_path / "x")


def test_a_header_keeps_its_own_limit(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes((HEADER_LIMIT + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputTooLarge, match="a header of"):
        SafetensorsFiles(tmp_path / "x")
    (tmp_path / "x").write_bytes((100).to_bytes(8, "little") + b"{}")
    with pytest.raises(BadInput, match="ends within its header"):
        SafetensorsFiles(tmp_path / "x")


def test_all_headers_of_a_folder_have_a_limit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "_HEADERS_LIMIT", 1 << 20)
    for at in range(3):
        shard(tmp_path / f"{at}.safetensors", f"a{at}", metadata=400_000)
    with pytest.raises(InputTooLarge, match="over 1 MiB together"):
        SafetensorsFiles(tmp_path)
    (tmp_path / "2.safetensors").unlink()
    with SafetensorsFiles(tmp_path) as found:
        assert len(found.infos()) == 2


def test_pipes_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", tmp_path, tmp_path / "absent"):
        with pytest.raises(BadInput):
            SafetensorsFiles(path)


def test_a_file_that_is_cut_off_opens_when_asked_for(tmp_path: Path) -> None:
    whole = shard(tmp_path / "whole", "a", "b", "c").read_bytes()
    for cut in (1, 15, 16, 17, 31, 47):
        path = tmp_path / "cut.safetensors"
        path.write_bytes(whole[:-cut])
        with pytest.raises(BadInput, match="bytes of data"):
            SafetensorsFiles(path)
        with SafetensorsFiles(path, partial=True) as found:
            there = [name for at, name in enumerate("abc") if 16 * at + 16 <= 48 - cut]
            assert list(found.infos()) == there
            assert found.storage().missing == tuple(name for name in "abc" if name not in there)
            for name in there:
                buffer = bytearray(16)
                found.read_into(name, 0, memoryview(buffer))
                assert np.frombuffer(buffer, "<f4").tolist() == [0, 1, 2, 3]
            with pytest.raises(BadInput):
                found.read_into("c", 0, memoryview(bytearray(16)))
    (tmp_path / "cut.safetensors").write_bytes(whole + b"x")
    with pytest.raises(BadInput, match="bytes of data"):
        SafetensorsFiles(tmp_path / "cut.safetensors", partial=True)


def test_what_an_index_promises_and_is_not_there_is_missing(tmp_path: Path) -> None:
    shard(tmp_path / "1.safetensors", "a", "b")
    shard(tmp_path / "other.safetensors", "z")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "c": "2.safetensors", "z": "3.safetensors"}}))
    for path, missing in (
        (tmp_path, ("c",)),
        (tmp_path / "1.safetensors", ("c", "z")),
        (tmp_path / "other.safetensors", ()),
    ):
        with SafetensorsFiles(path) as found:
            assert found.storage().missing == missing
            assert found.storage().kinds == dict.fromkeys(found.infos(), "F32")
    for broken in (
        "",
        "[",
        "[" * 100_000,
        '{"weight_map": {"a": 1}}',
        '{"weight_map": []}',
        '{":": "' + ":" * (1 << 21) + '"}',
    ):
        index.write_text(broken)
        with SafetensorsFiles(tmp_path) as found:
            assert found.storage().missing == ()


def test_a_tokenizer_that_lies_with_it(tmp_path: Path) -> None:
    path = shard(tmp_path / "1.safetensors", "a")
    with SafetensorsFiles(path) as found:
        assert found.tokens() is None
        (tmp_path / "tokenizer.json").write_text('{"model": {"vocab": {"b": 1, "a": 0}}}')
        assert found.tokens() == ("a", "b")
        (tmp_path / "tokenizer.json").unlink()
        os.mkfifo(tmp_path / "tokenizer.json")
        assert found.tokens() is None


def test_files_are_let_go_of_and_tensors_listed_once(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with SafetensorsFiles(shard(tmp_path / "1.safetensors", "a")) as found:
        assert found.infos() is found.infos()
    with pytest.raises(BadInput):
        found.read_into("a", 0, memoryview(bytearray(16)))
    (tmp_path / "2.safetensors").write_bytes(b"no weights")
    with pytest.raises(BadInput):
        SafetensorsFiles(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
