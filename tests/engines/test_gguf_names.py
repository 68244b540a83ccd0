"""GGUF of other architectures, in parts and cut off: what transformers' own file of the model would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

gguf = pytest.importorskip("gguf")

from strongroom.core.errors import BadInput  # noqa: E402 - after the skip
from strongroom.engines.gguf_names import interleaves, name_of, raised  # noqa: E402
from strongroom.engines.gguf_weights import GgufTensors  # noqa: E402
from strongroom.lineage.adapters import adapter_pairs  # noqa: E402
from strongroom.lineage.anatomy import anatomy, gains, matrix  # noqa: E402

RNG = np.random.default_rng(4)
HEADS, KEY_HEADS, WIDTH, HIDDEN = 4, 2, 64, 96
Arrays = dict[str, npt.NDArray[np.float32]]


def block(at: int = 0) -> Arrays:
    shapes = {
        "attn_norm": (WIDTH,),
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH // 2, WIDTH),
        "ffn_norm": (WIDTH,),
        "ffn_gate": (HIDDEN, WIDTH),
        "ffn_up": (HIDDEN, WIDTH),
        "ffn_down": (WIDTH, HIDDEN),
    }
    return {f"blk.{at}.{part}.weight": RNG.normal(size=shape).astype(np.float32) for part, shape in shapes.items()}


def write(path: Path, architecture: str, arrays: Arrays, tokens: tuple[str, ...] = ()) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    if tokens:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(list(tokens))
    for name, one in arrays.items():
        writer.add_tensor(name, one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "architecture", ["qwen2", "qwen3", "gemma", "gemma2", "gemma3", "llama", "granite", "starling"]
)
def test_rows_and_norms_are_transformers(tmp_path: Path, architecture: str) -> None:
    arrays = block()
    query, norm = arrays["blk.0.attn_q.weight"], arrays["blk.0.ffn_norm.weight"]
    with GgufTensors(write(tmp_path / "x.gguf", architecture, arrays)) as found:
        layer = anatomy(found.infos()).layers[0]
        gate = layer["gate"]
        assert gate is not None
        assert np.array_equal(matrix(found, gate), arrays["blk.0.ffn_gate.weight"])
        for piece in (slice(3, 9), slice(95, 96)):
            assert np.array_equal(matrix(found, gate, piece), arrays["blk.0.ffn_gate.weight"][piece])
        if architecture == "starling":  # nobody knows in which order its rows are
            assert layer["query"] is None
            return
        assert layer["query"] is not None
        pairs = query.reshape(HEADS, WIDTH // HEADS // 2, 2, WIDTH).swapaxes(1, 2).reshape(query.shape)
        turned = architecture in {"llama", "granite"}
        assert np.array_equal(matrix(found, layer["query"]), pairs if turned else query)
        stored = norm - 1 if architecture.startswith("gemma") else norm
        assert layer["mlp_norm"] is not None
        assert np.array_equal(matrix(found, layer["mlp_norm"]), stored.astype(np.float32))


@pytest.mark.parametrize("architecture", ["gemma2", "gemma3"])
def test_the_gain_before_gemmas_mlp_is_what_llama_cpp_multiplies_by(tmp_path: Path, architecture: str) -> None:
    arrays = block()
    for part in ("post_attention_norm", "post_ffw_norm"):
        arrays[f"blk.0.{part}.weight"] = np.full(WIDTH, 9, np.float32)
    with GgufTensors(write(tmp_path / "x.gguf", architecture, arrays)) as found:
        known = anatomy(found.infos())
        gain = gains(found, known.layers[0]["mlp_norm"], offsets=known.offsets)
        assert gain is not None
        assert np.allclose(gain, arrays["blk.0.ffn_norm.weight"], atol=1e-6)


def test_names() -> None:
    assert name_of("blk.3.attn_q.bias", "qwen2") == "model.layers.3.self_attn.q_proj.bias"
    assert name_of("blk.3.attn_q.bias", "llama") is None  # its order is the rows'
    assert name_of("blk.3.attn_v.bias", "llama") == "model.layers.3.self_attn.v_proj.bias"
    assert name_of("blk.3.attn_qkv.weight", "phi3") == "model.layers.3.self_attn.qkv_proj.weight"
    assert name_of("blk.3.ffn_up.weight", "phi3") == "model.layers.3.mlp.gate_up_proj.weight"
    assert name_of("blk.3.attn_q_norm.weight", "qwen3") == "model.layers.3.self_attn.q_norm.weight"
    assert name_of("output.weight", "gemma3") == "lm_head.weight"
    for odd in ("blk.²3.attn_q.weight", "blk.3.ffn_gate_exps.weight", "blk.3", "", "rope_freqs.weight", "a.b.c.d"):
        assert name_of(odd, "llama") is None
    assert interleaves("blk.3.attn_k.weight", "llama") == "head_count_kv"
    assert interleaves("token_embd.weight", "llama") is None
    assert raised("output_norm.weight", "gemma3")
    assert not raised("output_norm.weight", "qwen3")


def test_tokens_are_byte_level(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gguf", "gemma3", block(), ("<bos>", "▁the", "é", "<0x0A>"))
    with GgufTensors(path) as found:
        assert found.tokens() == ("<bos>", "Ġthe", "Ã©", "Ċ")
    with GgufTensors(write(tmp_path / "y.gguf", "gemma3", block())) as found:
        assert found.tokens() is None


def test_parts_in_a_folder_are_one(tmp_path: Path) -> None:
    arrays = block(0) | block(1)
    for at in (1, 2):
        one = {name: value for name, value in arrays.items() if name.startswith(f"blk.{at - 1}.")}
        write(tmp_path / f"m-{at:05}-of-00002.gguf", "llama", one, ("a", "b") if at == 1 else ())
    before = len(list(Path("/proc/self/fd").iterdir()))
    with GgufTensors(tmp_path) as found:
        assert len(found.infos()) == len(arrays)
        assert found.tokens() == ("a", "b")
        assert np.array_equal(matrix(found, "model.layers.1.mlp.up_proj.weight"), arrays["blk.1.ffn_up.weight"])
    write(tmp_path / "m-00003-of-00002.gguf", "llama", block(1))
    with pytest.raises(BadInput, match="in another part as well"):
        GgufTensors(tmp_path)
    write(tmp_path / "mmproj.gguf", "clip", block())
    with pytest.raises(BadInput, match="2 GGUF models"):
        GgufTensors(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    arrays = block(0) | block(1)
    whole = write(tmp_path / "x.gguf", "qwen2", arrays).read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[:-20_000])
    with pytest.raises(BadInput, match="ends within a tensor"):
        GgufTensors(tmp_path / "x.gguf")
    with GgufTensors(tmp_path / "x.gguf", partial=True) as found:
        missing = found.storage().missing
        assert "model.layers.1.mlp.down_proj.weight" in missing
        assert len(missing) + len(found.infos()) == len(arrays)
        for name in found.infos():
            assert np.isfinite(matrix(found, name)).all()


@pytest.mark.parametrize("shift", [-32, 32])
def test_tensors_over_each_other_are_refused(tmp_path: Path, shift: int) -> None:
    path = write(
        tmp_path / "x.gguf",
        "qwen2",
        {"blk.0.ffn_up.weight": np.ones((4, 32), np.float32), "z": np.ones(64, np.float32)},
    )
    blob = bytearray(path.read_bytes())
    at = blob.rfind((512).to_bytes(8, "little"))
    assert at > 0
    blob[at : at + 8] = (512 + shift).to_bytes(8, "little")
    path.write_bytes(blob + bytes(64))
    if shift < 0:
        with pytest.raises(BadInput, match="over each other"):
            GgufTensors(path)
    else:
        GgufTensors(path).close()


def test_a_head_of_absurd_size_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.engines.gguf_weights._HEAD_LIMIT", 100)
    path = write(tmp_path / "x.gguf", "llama", block())
    with GgufTensors(path) as found, pytest.raises(BadInput, match="heads of"):
        found.read_into("model.layers.0.self_attn.q_proj.weight", 0, memoryview(bytearray(4)))


def test_k_quants_are_decoded_in_pieces(tmp_path: Path, reference: Callable[[bytes], npt.NDArray[np.float32]]) -> None:
    kind = gguf.GGMLQuantizationType.Q4_K
    raw = RNG.integers(0, 256, (6, 2 * 144), dtype=np.uint8)
    raw.reshape(-1, 144)[:, :4] = np.array([0.01, 0.02], np.float16).view(np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "qwen2")
    writer.add_tensor("blk.0.ffn_up.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    true = reference(raw.tobytes()).reshape(-1)
    with GgufTensors(tmp_path / "x.gguf") as found:
        assert found.storage().kinds == {"model.layers.0.mlp.up_proj.weight": "Q4_K"}
        for first, count in ((0, 3072), (0, 1), (255, 2), (511, 600), (3071, 1)):
            buffer = bytearray(4 * count)
            found.read_into("model.layers.0.mlp.up_proj.weight", first, memoryview(buffer))
            assert np.allclose(np.frombuffer(buffer, "<f4"), true[first : first + count], atol=1e-6)


@pytest.fixture
def reference() -> Callable[[bytes], npt.NDArray[np.float32]]:
    """Q4_K as llama.cpp's ``dequantize_row_q4_K`` says it, weight by weight."""

    def scale(packed: bytes, at: int) -> tuple[int, int]:
        if at < 4:
            return packed[at] & 63, packed[at + 4] & 63
        low, high = packed[at + 4] & 15, packed[at + 4] >> 4
        return low | packed[at - 4] >> 6 << 4, high | packed[at] >> 6 << 4

    def decoded(raw: bytes) -> npt.NDArray[np.float32]:
        out: list[float] = []
        for start in range(0, len(raw), 144):
            one = raw[start : start + 144]
            size, least = np.frombuffer(one[:4], "<f2").astype(float)
            for at in range(8):
                step, low = scale(one[4:16], at)
                nibbles = one[16 + at // 2 * 32 : 48 + at // 2 * 32]
                out += [size * step * (byte >> 4 * (at % 2) & 15) - least * low for byte in nibbles]
        return np.array(out, np.float32)

    return decoded


def test_an_adapter_alone(tmp_path: Path) -> None:
    """As llama.cpp's converter writes one: B's rows are interleaved as its base's are, A's are not."""
    halves = {
        "blk.0.attn_q.weight.lora_a": RNG.normal(size=(4, WIDTH)).astype(np.float32),
        "blk.0.attn_q.weight.lora_b": RNG.normal(size=(WIDTH, 4)).astype(np.float32),
        "token_embd.weight.lora_a": RNG.normal(size=(4, WIDTH)).astype(np.float32),
    }
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_head_count(HEADS)
    writer.add_float32("adapter.lora.alpha", 16)
    for name, one in halves.items():
        writer.add_tensor(name, one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufTensors(tmp_path / "x.gguf") as found:
        stem = "model.layers.0.self_attn.q_proj"
        names = f"{stem}.lora_A.weight", f"{stem}.lora_B.weight"
        assert adapter_pairs(found.infos()) == {f"{stem}.weight": names}
        assert found.storage().scaling == 4
        down, up = (matrix(found, name) for name in names)
        assert np.array_equal(down, halves["blk.0.attn_q.weight.lora_a"])
        turned = halves["blk.0.attn_q.weight.lora_b"].reshape(HEADS, WIDTH // HEADS // 2, 2, 4).swapaxes(1, 2)
        assert np.array_equal(up, turned.reshape(WIDTH, 4))
