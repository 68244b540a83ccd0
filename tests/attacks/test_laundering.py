"""What thieves do to whole models: what keeps the model's words keeps its logits, the rest does what its name says."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import torch

from strongroom.attacks import laundering, symmetries
from strongroom.attacks.bodies import (
    DOWN,
    EMBEDDING,
    FINAL_NORM,
    GATE,
    HEAD,
    KEY,
    OUTPUT,
    QUERY,
    UP,
    VALUE,
    Body,
    body_of,
    is_projection,
    write_body,
    write_cut,
    write_some,
)
from strongroom.core.errors import BadInput
from strongroom.engines.demo_model import demo_model
from strongroom.engines.gguf_weights import GgufTensors
from strongroom.engines.transformers_load import load_model
from strongroom.lineage.suspects import SafetensorsFiles
from tests.engines.models import write_plain

Change = Callable[[Body, np.random.Generator], Body]

SILENT: dict[str, Change] = {  # what changes nothing in what the model says
    "units": symmetries.permute_units,
    "scales": symmetries.rescale,
    "heads": symmetries.permute_heads,
    "coordinates": symmetries.permute_coordinates,
    "rotation": symmetries.rotate,
    "dummies": partial(laundering.dummy_units, count=16),
}
IDS = [5, 17, 3, 42, 42, 8, 60, 11]


def chance(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Body:
    """A small Llama: 2 layers, 4 heads on 2, tied, norms that are not all one."""
    folder = write_plain(tmp_path_factory.mktemp("small"))
    small = body_of(folder)
    drawn = chance(3)
    norms = {n: drawn.uniform(0.5, 2, v.shape).astype(np.float32) for n, v in small.tensors.items() if v.ndim == 1}
    return small.changed(norms | {n: v * 8 for n, v in small.tensors.items() if is_projection(n)})


def logits(body: Body, ids: list[int] = IDS) -> np.ndarray:
    with torch.inference_mode():
        return load_model(body)(torch.tensor([ids])).logits[0].float().numpy()


def matched(body: Body, other: Body) -> bool:
    return all(np.array_equal(body.tensors[name], other.tensors[name]) for name in body.tensors)


def off(body: Body, changed: Body) -> float:
    """By how much the logits differ at most, relative to their spread."""
    before = logits(body)
    return float(np.abs(logits(changed)[:, : before.shape[1]] - before).max() / before.std())


@pytest.mark.parametrize("name", list(SILENT))
def test_a_symmetry_changes_weights_and_no_logits(body: Body, name: str) -> None:
    changed = SILENT[name](body, chance())
    assert off(body, changed) < 1e-4
    assert any(np.shape(values) != np.shape(body.tensors.get(name)) or not np.allclose(values, body.tensors[name])
               for name, values in changed.tensors.items())  # fmt: skip
    assert matched(changed, SILENT[name](body, chance()))  # by its seed alone
    assert not matched(changed, SILENT[name](body, chance(2)))


def test_all_symmetries_after_one_another_change_no_logits(body: Body) -> None:
    changed = body
    for change in (*SILENT.values(), *reversed(SILENT.values())):
        changed = change(changed, chance())
    assert off(body, changed) < 1e-3


def test_a_wrong_symmetry_would_be_seen(body: Body) -> None:
    name = f"model.layers.1.{DOWN}.weight"
    assert off(body, body.changed({name: body.tensors[name][:, ::-1].copy()})) > 0.01


def test_a_permutation_is_undone_by_its_inverse(body: Body) -> None:
    order = chance().permutation(64)
    changed = symmetries.permute_units(body, chance())
    assert np.array_equal(changed.part(0, GATE)[np.argsort(order)], body.part(0, GATE))
    assert np.array_equal(changed.part(0, UP)[np.argsort(order)], body.part(0, UP))
    assert np.array_equal(changed.part(0, DOWN)[:, np.argsort(order)], body.part(0, DOWN))


def test_scales_are_between_a_quarter_and_four_and_of_either_sign(body: Body) -> None:
    changed = symmetries.rescale(body, chance())
    for part in (UP, VALUE, QUERY, KEY):
        ratios = changed.part(1, part) / body.part(1, part)
        assert np.allclose(ratios, ratios[:, :1], rtol=1e-4)
        assert 0.25 <= np.abs(ratios).min() < 0.6
        assert 1.7 < np.abs(ratios).max() <= 4
        assert (ratios.min() < 0) == (part in {UP, VALUE})
    assert np.array_equal(changed.part(1, GATE), body.part(1, GATE))


def test_heads_move_whole_and_within_their_groups(body: Body) -> None:
    changed = symmetries.permute_heads(body, chance(4))
    size = 8
    before, after = (one.part(0, QUERY).reshape(4, size, -1) for one in (body, changed))
    order = [next(at for at in range(4) if np.array_equal(before[at], head)) for head in after]
    assert sorted(order) == [0, 1, 2, 3]
    keys = [next(at for at in range(2) if np.array_equal(body.part(0, KEY).reshape(2, size, -1)[at], head))
            for head in changed.part(0, KEY).reshape(2, size, -1)]  # fmt: skip
    assert [at // 2 for at in order] == np.repeat(keys, 2).tolist()
    columns = changed.part(0, OUTPUT).reshape(-1, 4, size)
    assert np.array_equal(columns, body.part(0, OUTPUT).reshape(-1, 4, size)[:, order])


def test_a_rotation_leaves_no_norm_and_no_tied_head(body: Body) -> None:
    changed = symmetries.rotate(body, chance())
    assert all((values == 1).all() for values in changed.tensors.values() if values.ndim == 1)
    assert HEAD not in body.tensors
    assert json.loads(changed.read_file("config.json"))["tie_word_embeddings"] is False
    gram, before = (one.tensors[EMBEDDING] @ one.tensors[EMBEDDING].T for one in (changed, body))
    assert np.allclose(gram, before, atol=1e-4)
    assert np.abs(np.corrcoef(changed.tensors[EMBEDDING].ravel(), body.tensors[EMBEDDING].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_cast_rounds_to_the_nearest(body: Body, dtype: str, tmp_path: Path) -> None:
    changed = laundering.cast_to(body, chance(), dtype=dtype)
    for name, values in body.tensors.items():
        wanted = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
        assert np.array_equal(changed.tensors[name], wanted)
    assert matched(changed, body_of(write_body(changed, tmp_path / "cast")))  # written down, nothing more is lost


@pytest.mark.parametrize(
    ("change", "levels", "loss"),
    [(laundering.int8, 255, 0.02), (laundering.fp8, 255, 0.05), (laundering.ternary, 3, 0.6)],
)
def test_coarser_types_have_so_many_values(body: Body, change: Change, levels: int, loss: float) -> None:
    changed = change(body, chance())
    for name, values in changed.tensors.items():
        if not is_projection(name):
            assert np.array_equal(values, body.tensors[name])
            continue
        rows = [values.ravel()] if change is not laundering.int8 else list(values)
        assert max(len(np.unique(row)) for row in rows) <= levels
        assert 0 < np.linalg.norm(values - body.tensors[name]) / np.linalg.norm(body.tensors[name]) < loss


@pytest.mark.parametrize("quantisation", ["Q8_0", "Q4_0", "Q4_1"])
def test_a_gguf_file_holds_what_the_body_holds(body: Body, quantisation: str, tmp_path: Path) -> None:
    changed = laundering.gguf(body, chance(), quantisation=quantisation)
    file = write_body(changed, tmp_path / "model")
    assert file.suffix == ".gguf"
    assert [one.name for one in tmp_path.iterdir()] == [file.name]
    with GgufTensors(file) as found:
        assert {name: info.shape for name, info in found.infos().items()} == {
            name: values.shape for name, values in changed.tensors.items()
        }
        for name, values in changed.tensors.items():
            buffer = bytearray(4 * values.size)
            found.read_into(name, 0, memoryview(buffer))
            read = np.frombuffer(buffer, np.float32).reshape(values.shape)
            assert np.array_equal(read, values), name  # quantising once more changes nothing
            assert not np.array_equal(values, body.tensors[name]) or values.ndim == 1
    assert symmetries.permute_units(changed, chance()).stored == "bfloat16"  # a later step is no GGUF file's


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_pruning_and_noise_spare_what_is_no_projection(body: Body, share: float) -> None:
    pruned, noisy = laundering.prune(body, chance(), share=share), laundering.noise(body, chance(), share=share)
    for name, values in body.tensors.items():
        if is_projection(name):
            assert (pruned.tensors[name] == 0).mean() == pytest.approx(share, abs=0.01)
            assert (noisy.tensors[name] - values).std() == pytest.approx(share * values.std(), rel=0.1)
        else:
            assert np.array_equal(pruned.tensors[name], values)
            assert np.array_equal(noisy.tensors[name], values)


def test_a_merge_needs_a_model_of_the_same_shape(body: Body) -> None:
    other = body.changed({name: -values for name, values in body.tensors.items()})
    half = laundering.merged(body, chance(), other=other, share=0.25)
    assert all(np.allclose(half.tensors[name], values / 2) for name, values in body.tensors.items())
    with pytest.raises(BadInput, match="two shapes"):
        laundering.merged(body, chance(), other=symmetries.rotate(body, chance()), share=0.5)


def test_layers_are_left_out_and_repeated(tmp_path: Path, body: Body) -> None:
    shorter = laundering.drop_layers(body, chance(), count=1)
    assert shorter.layers == 1
    assert np.array_equal(shorter.part(0, GATE), body.part(0, GATE))
    longer = laundering.repeat_layers(body, chance(), count=1)
    assert longer.layers == 3
    assert all(np.array_equal(longer.part(at, GATE), body.part(source, GATE)) for at, source in enumerate([0, 1, 1]))
    for changed, wanted in ((shorter, 1), (longer, 3)):
        written = body_of(write_body(changed, tmp_path / str(wanted)))
        assert written.config["num_hidden_layers"] == wanted
        assert np.isfinite(logits(written)).all()
        assert off(body, changed) > 0.001


def test_more_layers_keep_their_order(body: Body) -> None:
    deep = laundering.repeat_layers(laundering.repeat_layers(body, chance(), count=1), chance(), count=1)
    numbered = deep.changed(
        {f"model.layers.{at}.{GATE}.weight": np.full_like(body.part(0, GATE), at) for at in range(deep.layers)}
    )
    dropped = laundering.drop_layers(numbered, chance(), count=1)
    kept = [int(dropped.part(at, GATE)[0, 0]) for at in range(dropped.layers)]
    assert kept == sorted(kept)
    assert len(set(kept)) == numbered.layers - 1
    assert kept[0] == 0
    assert kept[-2:] == [numbered.layers - 2, numbered.layers - 1]


def test_dummy_units_lie_among_the_others_and_do_nothing(body: Body) -> None:
    changed = laundering.dummy_units(body, chance(), count=16)
    silent = (changed.part(0, DOWN) == 0).all(axis=0)
    assert silent.sum() == 16
    assert np.array_equal(changed.part(0, GATE)[~silent], body.part(0, GATE))
    assert 0 < np.flatnonzero(silent).min() < np.flatnonzero(silent).max() < 79
    norms = np.linalg.norm(changed.part(0, UP), axis=1)
    assert np.isin(np.round(norms[silent], 3), np.round(norms[~silent], 3)).all()
    assert json.loads(changed.read_file("config.json"))["intermediate_size"] == 80


def test_a_vocabulary_grows_and_is_cut(body: Body, tmp_path: Path) -> None:
    size = len(body.tensors[EMBEDDING])
    grown = laundering.grow_vocabulary(body, chance(), count=7)
    assert grown.tensors[EMBEDDING].shape == (size + 7, 32)
    assert off(body, grown) < 1e-5
    cut = laundering.cut_vocabulary(body, chance(), size=70)
    assert np.array_equal(cut.tensors[EMBEDDING], body.tensors[EMBEDDING][:70])
    for changed, wanted in ((grown, size + 7), (cut, 70)):
        written = body_of(write_body(changed, tmp_path / str(wanted)))
        assert written.config["vocab_size"] == wanted
        document = json.loads(written.read_file("tokenizer.json"))
        numbers = {*document["model"]["vocab"].values(), *(one["id"] for one in document["added_tokens"])}
        assert numbers == set(range(wanted))


def test_parts_hold_what_they_say(body: Body, tmp_path: Path) -> None:
    with SafetensorsFiles(write_some(body, {1}, tmp_path / "some")) as some:
        assert set(some.infos()) == {name for name in body.tensors if ".layers.1." in name}
    whole = write_cut(body, 1.0, tmp_path / "whole").stat().st_size
    cut = write_cut(body, 0.5, tmp_path / "cut")
    assert cut.stat().st_size == whole // 2
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        f"{name}.safetensors" for name in ("cut", "some", "whole")
    ]


def test_what_is_no_llama_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="plain Llama"):
        body_of(write_plain(tmp_path / "gpt2", "gpt2"))


def test_final_norm_is_folded_into_the_head(body: Body) -> None:
    changed = symmetries.rotate(body, chance())
    folded = body.tensors[EMBEDDING] * body.tensors[FINAL_NORM]
    assert np.allclose(changed.tensors[HEAD] @ changed.tensors[HEAD].T, folded @ folded.T, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SILENT))
def test_symmetries_of_a_real_model(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    real = body_of(demo_model(tmp_path_factory.getbasetemp()))
    ids = list(range(1000, 1020))
    before = logits(real, ids)
    after = logits(SILENT[name](real, chance()), ids)
    assert np.abs(after - before).max() < 1e-3 * before.std()
