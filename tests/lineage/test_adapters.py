"""Low-rank adapters: which halves belong together, by how much they count, and a base with one in it."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage import adapters
from strongroom.lineage.adapters import WithAdapter, adapter_pairs, merged, scaling_of
from strongroom.lineage.anatomy import matrix
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.ports.marks import TensorInfo

NAMES = {"float32": "F32", "bfloat16": "BF16", "int8": "I8"}
BASE = "model.layers.0.self_attn.q_proj.weight"
RNG = np.random.default_rng(5)
W = RNG.normal(size=(6, 8)).astype(ml_dtypes.bfloat16)
A = RNG.normal(size=(2, 8)).astype(np.float32)
B = RNG.normal(size=(6, 2)).astype(np.float32)
PEFT = "base_model.model."
HALVES = {
    PEFT + BASE.replace("weight", "lora_A.weight"): A,
    PEFT + BASE.replace("weight", "lora_B.weight"): B,
}


def saved(path: Path, arrays: dict[str, npt.NDArray[np.generic]]) -> Path:
    header, blobs, at = {}, [], 0
    for name, one in arrays.items():
        blob = np.ascontiguousarray(one).tobytes()
        offsets = [at, at + len(blob)]
        header[name] = {"dtype": NAMES[one.dtype.name], "shape": list(one.shape), "data_offsets": offsets}
        blobs.append(blob)
        at += len(blob)
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"".join(blobs))
    return path


def config(folder: Path, **members: object) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 8} | members))


def infos(*names: str, shapes: tuple[tuple[int, ...], ...] = ((2, 8), (6, 2))) -> dict[str, TensorInfo]:
    return {name: TensorInfo("F32", shapes[at % len(shapes)]) for at, name in enumerate(names)}


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("base_model.model.x.y.lora_A.weight", "base_model.model.x.y.lora_B.weight"),
        ("base_model.model.x.y.lora_A.default.weight", "base_model.model.x.y.lora_B.default.weight"),
        ("x.y.lora_A.weight", "x.y.lora_B.weight"),
        ("x.y.lora_down.weight", "x.y.lora_up.weight"),
    ],
)
def test_halves_belong_to_their_base(down: str, up: str) -> None:
    assert adapter_pairs(infos(down, up)) == {"x.y.weight": (down, up)}
    assert adapter_pairs(dict(reversed(infos(down, up).items()))) == {"x.y.weight": (down, up)}
    assert adapter_pairs(infos(down)) == {}
    assert adapter_pairs(infos(down, up, shapes=((2, 8), (6, 3)))) == {}
    assert adapter_pairs(infos(down, up, shapes=((2, 8, 1), (6, 2)))) == {}
    assert adapter_pairs(infos(down, up, shapes=((0, 8), (6, 0)))) == {}


@pytest.mark.parametrize(
    ("said", "scaling"),
    [
        ({}, 4.0),
        ({"use_rslora": True}, 8 / 2**0.5),
        ({"r": 0}, 1.0),
        ({"r": -1}, 1.0),
        ({"r": 1 << 40}, 1.0),
        ({"lora_alpha": None}, 1.0),
        ({"lora_alpha": 16.5}, 8.25),
        ({"r": "2"}, 1.0),
    ],
)
def test_scaling(tmp_path: Path, said: dict[str, object], scaling: float) -> None:
    config(tmp_path, **said)
    with SafetensorsFiles(saved(tmp_path / "adapter_model.safetensors", HALVES)) as found:
        assert found.storage().scaling == pytest.approx(scaling)
        assert merged(found) is found  # an adapter alone stays one
        assert list(found.infos()) == list(HALVES)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"r": 2, "lora_alpha": 1e999}', b"[" * 100_000])
def test_a_hostile_config_counts_as_none(raw: bytes) -> None:
    pair = infos("x.lora_A.weight", "x.lora_B.weight")
    assert scaling_of(pair, raw) == 1.0
    assert scaling_of(infos("x"), b'{"r": 2, "lora_alpha": 4}') == 1.0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_base_with_its_adapter(tmp_path: Path, *, wrapped: bool) -> None:
    config(tmp_path)
    own = PEFT + BASE.replace("weight", "base_layer.weight") if wrapped else BASE
    other = PEFT + "model.norm.weight" if wrapped else "model.norm.weight"
    saved(tmp_path / "model.safetensors", {own: W, other: np.ones(8, np.float32)})
    saved(tmp_path / "adapter_model.safetensors", HALVES)
    with merged(SafetensorsFiles(tmp_path)) as found:
        assert isinstance(found, WithAdapter)
        assert dict(found.infos()) == {BASE: TensorInfo("F32", (6, 8)), "model.norm.weight": TensorInfo("F32", (8,))}
        assert found.storage().kinds == {BASE: "BF16", "model.norm.weight": "F32"}
        true = W.astype(np.float32) + 4 * (B @ A)
        assert np.allclose(matrix(found, BASE), true, atol=1e-5)
        for first in range(48):
            for count in (0, 1, 7, 48 - first):
                raw = bytearray(4 * min(count, 48 - first))
                found.read_into(BASE, first, memoryview(raw))
                assert np.allclose(
                    np.frombuffer(raw, "<f4"), true.reshape(-1)[first : first + len(raw) // 4], atol=1e-5
                )
        assert matrix(found, "model.norm.weight").tolist() == [1] * 8
        for name, first, size in ((BASE, 48, 4), (BASE, -1, 4), (BASE, 0, 3), (next(iter(HALVES)), 0, 4), ("x", 0, 4)):
            with pytest.raises(BadInput):
                found.read_into(name, first, memoryview(bytearray(size)))


def test_an_adapter_that_does_not_fit_stays_beside(tmp_path: Path) -> None:
    for base in (W[:5], W.astype(np.int8), W[:, :7]):
        saved(tmp_path / "model.safetensors", {BASE: base, **HALVES})
        with merged(SafetensorsFiles(tmp_path / "model.safetensors")) as found:
            assert isinstance(found, SafetensorsFiles)


def test_an_adapter_is_held_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "_FACTOR_LIMIT", 15)
    path = saved(tmp_path / "x.safetensors", {BASE: W, **HALVES})
    with merged(SafetensorsFiles(path)) as found, pytest.raises(InputTooLarge):
        matrix(found, BASE)


def test_infinite_factors_are_no_trouble(tmp_path: Path) -> None:
    huge = {name: np.full_like(one, 3e38) for name, one in HALVES.items()}
    with merged(SafetensorsFiles(saved(tmp_path / "x.safetensors", {BASE: W, **huge}))) as found:
        assert np.isfinite(matrix(found, BASE)).all()
