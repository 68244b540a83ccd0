"""Low-rank adapters: of the rank and on the projections that were asked for, written as peft does, merged rightly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors")

from strongroom.core.errors import BadInput, StoreUnavailable  # noqa: E402 - after the skip
from strongroom.engines import fine_tune as loop  # noqa: E402
from strongroom.engines.fine_tune import Recipe, training_ids  # noqa: E402
from strongroom.engines.folder import Folder, write_like  # noqa: E402
from strongroom.engines.lora import ALL, ATTENTION, Adapter, deltas, train_adapter  # noqa: E402
from strongroom.engines.perplexity import losses  # noqa: E402

RECIPE = Recipe(steps=12, rate=2e-2, batch=4, length=32, seed=3, fast=False)
ADAPTER = Adapter(rank=3, alpha=6, projections=ATTENTION, recipe=RECIPE)


@pytest.fixture
def source(make_plain: Callable[..., Path]) -> Folder:
    return Folder(make_plain())


@pytest.fixture
def ids(source: Folder) -> list[int]:
    return training_ids(source, letters=20_000)


@pytest.mark.parametrize("projections", [ATTENTION, ALL])
def test_an_adapter_is_of_its_rank_on_its_projections(
    source: Folder, ids: list[int], tmp_path: Path, projections: tuple[str, ...]
) -> None:
    target = train_adapter(source, ids, tmp_path / "new", adapter=replace(ADAPTER, projections=projections))
    assert [one.name for one in tmp_path.iterdir()] == ["new"]
    found = dict(deltas(target))
    assert set(found) == {name for name in source.keys() if name.split(".")[-2] in projections}  # noqa: SIM118 - a source
    for name, delta in found.items():
        assert delta.shape == tuple(source.get_tensor(name).shape)
        assert np.linalg.matrix_rank(delta, tol=1e-5 * np.linalg.norm(delta)) == 3


def test_it_is_written_as_peft_writes(source: Folder, ids: list[int], tmp_path: Path) -> None:
    adapter = replace(ADAPTER, recipe=replace(RECIPE, steps=1))
    written = Folder(train_adapter(source, ids, tmp_path / "new", adapter=adapter))
    config = json.loads(written.read_file("adapter_config.json"))
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 6)
    assert config["target_modules"] == list(ATTENTION)
    low = written.get_tensor("base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight")
    high = written.get_tensor("base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight")
    assert (tuple(low.shape), tuple(high.shape)) == ((3, 32), (16, 3))
    assert low.dtype == torch.float32


def test_what_it_learned_is_there_when_it_is_merged(source: Folder, ids: list[int], tmp_path: Path) -> None:
    before = {name: source.get_tensor(name).clone() for name in source.keys()}  # noqa: SIM118 - a source
    target = train_adapter(
        source, ids, tmp_path / "new", adapter=replace(ADAPTER, projections=ALL, recipe=replace(RECIPE, steps=40))
    )
    for sign, better in ((1, True), (-1, False)):
        changed = {name: one + sign * torch.from_numpy(delta)
                   for name, delta in deltas(target) for one in [before[name]]}  # fmt: skip
        write_like(source, before | changed, tmp_path / "merged", dtype="float32")
        gain = losses(source, ids[:2000]).perplexity / losses(Folder(tmp_path / "merged"), ids[:2000]).perplexity
        assert (gain > 1.05) == better
    assert all(torch.equal(source.get_tensor(name), one) for name, one in before.items())  # the model is left alone


def test_a_run_cut_short_comes_to_the_same_adapter(
    source: Folder, ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "KEEP_EVERY", 5)
    whole = dict(deltas(train_adapter(source, ids, tmp_path / "whole", adapter=ADAPTER)))

    def cut(done: int, _total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_adapter(source, ids, tmp_path / "cut", adapter=ADAPTER, progress=cut)
    told: list[int] = []
    resumed = train_adapter(source, ids, tmp_path / "cut", adapter=ADAPTER, progress=lambda done, _: told.append(done))
    assert told[0] == 6
    assert all(np.array_equal(whole[name], delta) for name, delta in deltas(resumed))


def test_another_seed_draws_another_adapter(source: Folder, ids: list[int], tmp_path: Path) -> None:
    one, two = (
        dict(deltas(train_adapter(source, ids, tmp_path / str(seed),
                                  adapter=replace(ADAPTER, recipe=replace(RECIPE, seed=seed)))))
        for seed in (1, 2)
    )  # fmt: skip
    assert not any(np.allclose(one[name], two[name]) for name in one)


def test_what_can_not_be_is_refused(source: Folder, ids: list[int], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such projection"):
        train_adapter(source, ids, tmp_path / "new", adapter=replace(ADAPTER, projections=("c_attn",)))
    with pytest.raises(BadInput, match="no window"):
        train_adapter(source, ids[:20], tmp_path / "new", adapter=ADAPTER)
    with pytest.raises(BadInput, match="no config"):
        list(deltas(_without_rank(train_adapter(source, ids, tmp_path / "new", adapter=ADAPTER))))
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        train_adapter(source, ids, tmp_path / "file" / "new", adapter=ADAPTER)


def _without_rank(folder: Path) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({key: one for key, one in json.loads(path.read_text()).items() if key != "r"}))
    return folder
