"""A suspect's format is told by its content, and its digest covers what is read of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from strongroom.core.errors import BadInput
from strongroom.lineage.adapters import WithAdapter
from strongroom.lineage.pickled import TorchFiles
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.wiring.suspects import digest_of, open_suspect, vocabulary_of
from tests.lineage.pickles import checkpoint, members, stream, tensor
from tests.lineage.test_suspects import shard


@pytest.mark.parametrize("name", ["x", "x.bin", "x.safetensors", "x.gguf"])
def test_content_decides_not_the_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for blob, kind in ((checkpoint(), TorchFiles), (stream(), TorchFiles), (None, SafetensorsFiles)):
        if blob is None:
            shard(path, "a")
        else:
            path.write_bytes(blob)
        with open_suspect(path) as found:
            assert isinstance(found, kind)
            assert list(found.infos()) == ["a"]
            assert found.tokens() is None


def test_a_safetensors_header_whose_length_begins_like_a_pickle(tmp_path: Path) -> None:
    """0x280 bytes: the file begins with 0x80 0x02, as a pickle does."""
    shard(tmp_path / "x", "a", metadata=500)
    header = json.loads((tmp_path / "x").read_bytes()[8:-16])
    raw = json.dumps(header).encode().ljust(0x280)
    (tmp_path / "x").write_bytes(len(raw).to_bytes(8, "little") + raw + np.arange(4, dtype="<f4").tobytes())
    assert (tmp_path / "x").read_bytes()[:2] == b"\x80\x02"
    with open_suspect(tmp_path / "x") as found:
        assert isinstance(found, SafetensorsFiles)


def test_gguf_is_read_by_its_engine(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "x").write_bytes(b"GGUF")
    for path in (tmp_path / "x", tmp_path):
        with pytest.raises(BadInput, match=r"ends within its header"):
            open_suspect(path)
        (tmp_path / "x").rename(tmp_path / "x.gguf") if path.is_file() else None


def test_what_is_none_of_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("no weights")
    (tmp_path / "script.pt").write_text("cos\nsystem\n(S'true'\ntR.")
    (tmp_path / "empty").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name, said in (
        ("pipe", "no regular file"),
        ("absent", "can't be read"),
        ("text", "neither safetensors nor GGUF nor a PyTorch file"),
        ("script.pt", "os.system: it was not run"),
        ("empty", "neither safetensors nor GGUF nor PyTorch files in the folder"),
    ):
        with pytest.raises(BadInput, match=said):
            open_suspect(tmp_path / name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_folders_and_their_digests(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(checkpoint())
    with open_suspect(tmp_path) as found:
        assert isinstance(found, TorchFiles)
    first = digest_of(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(checkpoint(members({"b": tensor()})))
    assert digest_of(tmp_path) != first
    shard(tmp_path / "model.safetensors", "a")
    with open_suspect(tmp_path) as found:
        assert isinstance(found, SafetensorsFiles)
    second = digest_of(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")  # not what is read, so not what is named
    assert digest_of(tmp_path) == second
    assert digest_of(tmp_path / "model.safetensors") not in {first, second}


def test_a_vocabulary_is_what_lies_beside(tmp_path: Path) -> None:
    path, beside = shard(tmp_path / "model.safetensors", "a"), tmp_path / "tokenizer.json"
    found: list[str | None] = []
    for vocab in (None, {"x": 0, "y": 1}, {"x": 1, "y": 0}):
        if vocab is not None:
            beside.write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": []}}))
        for where in (path, tmp_path):
            with open_suspect(where) as suspect:
                found.append(vocabulary_of(suspect))
    assert found[0] is found[1] is None
    assert (found[2], found[4]) == (found[3], found[5])
    assert len({*found}) == 3


def test_parts_are_opened_when_asked_for(tmp_path: Path) -> None:
    whole = shard(tmp_path / "x", "a", "b").read_bytes()
    (tmp_path / "x").write_bytes(whole[:-1])
    with pytest.raises(BadInput):
        open_suspect(tmp_path / "x")
    with open_suspect(tmp_path / "x", partial=True) as found:
        assert found.storage().missing == ("b",)


def test_an_adapter_in_another_format_than_its_base(tmp_path: Path) -> None:
    """The base in safetensors, its adapter pickled: both count, in the tensors and in the digest."""
    shard(tmp_path / "model.safetensors", "x.weight")
    before = digest_of(tmp_path)
    pair = {"base_model.model.x.lora_A.weight": tensor(), "base_model.model.x.lora_B.weight": tensor()}
    (tmp_path / "adapter_model.bin").write_bytes(checkpoint(members(pair)))
    beside = digest_of(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    assert len({before, beside, digest_of(tmp_path)}) == 3
    with open_suspect(tmp_path) as found:
        assert isinstance(found, WithAdapter)
        buffer = bytearray(16)
        found.read_into("x.weight", 0, memoryview(buffer))
        half = np.arange(4, dtype=np.float32).reshape(2, 2)
        assert np.array_equal(np.frombuffer(buffer, "<f4").reshape(2, 2), half + 2 * half @ half)
    with pytest.raises(BadInput):
        found.read_into("x.weight", 0, memoryview(buffer))
