"""Files of weights, bent at will: read within their bounds or refused by our own errors, at once, and let go of."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.lineage.anatomy import anatomy
from strongroom.lineage.opcodes import read_pickle
from strongroom.ports.suspects import Suspect
from strongroom.wiring.suspects import digest_of, open_suspect
from tests.lineage.pickles import checkpoint, members, stream, tensor
from tests.lineage.test_suspects import shard

SECONDS = 2.0
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TENSORS = members({"a": tensor(), "model.layers.0.mlp.up_proj.weight": tensor((1, 4), (4, 1))})


def gguf_file(folder: Path) -> bytes:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(folder / "made.gguf", "llama")
    writer.add_head_count(2)
    writer.add_token_list(["a", "▁b"])
    for part in ("attn_q", "ffn_up", "ffn_gate"):
        writer.add_tensor(f"blk.0.{part}.weight", np.ones((4, 32), np.float32))
    codes = gguf.quantize(np.ones((4, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", codes, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (folder / "made.gguf").read_bytes()


@pytest.fixture(scope="module")
def goods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of every format."""
    folder = tmp_path_factory.mktemp("goods")
    return {
        "safetensors": shard(folder / "x", "a", "x.lora_A.weight", "x.lora_B.weight", "x.weight").read_bytes(),
        "zip": checkpoint(TENSORS),
        "stream": stream(TENSORS),
        "gguf": gguf_file(folder),
    }


def bent(data: st.DataObject, good: bytes) -> bytes:
    """Return `good` with some pieces replaced, and perhaps cut off."""
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 12))] = data.draw(
            st.binary(max_size=12) | st.sampled_from([b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f"])
        )
    return bytes(raw[: data.draw(st.integers(0, len(raw)) | st.just(len(raw)))])


@contextmanager
def watched() -> Iterator[None]:
    """Insist on a quick end and on no file left open."""
    before, began = len(list(Path("/proc/self/fd").iterdir())), time.process_time()
    yield
    assert time.process_time() - began < SECONDS
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def look(path: Path, *, partial: bool) -> None:
    """Do with a suspect what tracing does."""
    try:
        with open_suspect(path, partial=partial) as found:
            anatomy(found.infos())
            found.tokens()
            assert set(found.storage().missing).isdisjoint(found.infos())
            for name, info in found.infos().items():
                count = int(np.prod(info.shape, dtype=object))
                for first in (0, count - 1, count, -1):
                    with_bounds(found, name, first)
    except StrongroomError:
        pass


def with_bounds(found: Suspect, name: str, first: int) -> None:
    with suppress(StrongroomError):
        found.read_into(name, first, memoryview(bytearray(8)))


@FUZZ
@given(data=st.data())
@pytest.mark.parametrize("kind", ["safetensors", "zip", "stream", "gguf"])
def test_bent_files(tmp_path: Path, goods: dict[str, bytes], kind: str, data: st.DataObject) -> None:
    path = tmp_path / "suspect.bin"
    path.write_bytes(bent(data, goods[kind]))
    with watched():
        look(path, partial=data.draw(st.booleans()))


@FUZZ
@given(data=st.data())
def test_bent_folders(tmp_path: Path, goods: dict[str, bytes], data: st.DataObject) -> None:
    documents = {
        "tokenizer.json": {"model": {"vocab": {"a": 0, "▁b": 1}}, "added_tokens": [{"id": 2, "content": "c"}]},
        "adapter_config.json": {"r": 2, "lora_alpha": 4, "use_rslora": False},
        "model.safetensors.index.json": {"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}},
    }
    for name, document in documents.items():
        (tmp_path / name).write_bytes(bent(data, json.dumps(document).encode()))
    (tmp_path / "model.safetensors").write_bytes(goods["safetensors"])
    adapter = data.draw(st.sampled_from([goods["zip"], goods["stream"]]))
    (tmp_path / "adapter_model.bin").write_bytes(bent(data, adapter) if data.draw(st.booleans()) else b"")
    with watched():
        look(tmp_path, partial=data.draw(st.booleans()))
        digest_of(tmp_path)


OPCODES = st.sampled_from(
    [bytes([code]) for code in b"(.012FGIKLMNPQRSTUVXabcdeghijloqrstu\x80\x81\x82\x85\x86\x87\x88\x89\x8a"]
)


@settings(max_examples=800, deadline=None)
@given(st.lists(OPCODES | st.binary(max_size=6) | st.just(tensor()) | st.just(TENSORS), max_size=30).map(b"".join))
def test_opcodes_at_random(program: bytes) -> None:
    with suppress(StrongroomError):
        read_pickle(program + b".", where="x")
