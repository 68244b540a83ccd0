"""Training: the loss falls, a run that was cut short comes to the same result, and what is written loads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")

from strongroom.core.errors import BadInput, StoreUnavailable  # noqa: E402 - after the skip
from strongroom.engines import fine_tune as module  # noqa: E402
from strongroom.engines.fine_tune import Recipe, fine_tune, trained, training_ids  # noqa: E402
from strongroom.engines.folder import Folder, write_like  # noqa: E402
from strongroom.engines.perplexity import losses  # noqa: E402

RECIPE = Recipe(steps=12, rate=5e-3, batch=4, length=32, seed=3)


@pytest.fixture
def ids(make_plain: Callable[..., Path]) -> list[int]:
    return training_ids(Folder(make_plain()), letters=20_000)


def test_the_loss_falls(make_plain: Callable[..., Path], ids: list[int], tmp_path: Path) -> None:
    start = Folder(make_plain())
    told: list[tuple[int, int]] = []
    target = fine_tune(start, ids, tmp_path / "new", recipe=RECIPE, progress=lambda *at: told.append(at))
    assert told == [(at, 12) for at in range(1, 13)]
    before, after = losses(start, ids[:2000]), losses(Folder(target), ids[:2000])
    assert after.perplexity < 0.8 * before.perplexity
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_is_whole(
    make_plain: Callable[..., Path], ids: list[int], tmp_path: Path, *, tied: bool
) -> None:
    start = Folder(make_plain(tied=tied))
    target = fine_tune(start, ids, tmp_path / "new", recipe=Recipe(steps=1, length=32))
    new = Folder(target)
    assert new.keys() == start.keys()
    assert {new.get_tensor(name).dtype for name in new.keys()} == {torch.bfloat16}  # noqa: SIM118 - a source
    assert set(new.files()) == set(start.files())
    assert transformers.AutoConfig.from_pretrained(target).dtype == torch.bfloat16


def test_a_run_cut_short_comes_to_the_same_weights(
    make_plain: Callable[..., Path], ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY", 5)
    start, state = Folder(make_plain()), tmp_path / "state"
    whole = trained(start, ids, tmp_path / "other", recipe=RECIPE)

    def cut(done: int, _total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(start, ids, state, recipe=RECIPE, progress=cut)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("state")] == ["state"]
    told: list[int] = []
    resumed = trained(start, ids, state, recipe=RECIPE, progress=lambda done, _: told.append(done))
    assert told == list(range(6, 13))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("broken", ["recipe", "text", "bytes"])
def test_a_state_of_another_run_is_not_taken_up(
    make_plain: Callable[..., Path], ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY", 2)
    start, state = Folder(make_plain()), tmp_path / "state"
    trained(start, ids, state, recipe=Recipe(steps=3, length=32))
    if broken == "bytes":
        state.write_bytes(state.read_bytes()[:-100])
    told: list[int] = []
    recipe = Recipe(steps=3, length=32, seed=9 if broken == "recipe" else 0)
    trained(start, ids[broken == "text" :], state, recipe=recipe, progress=lambda done, _: told.append(done))
    assert told == [1, 2, 3]


def test_seeds_differ_and_repeat(make_plain: Callable[..., Path], ids: list[int], tmp_path: Path) -> None:
    start = Folder(make_plain())
    one, same, other = (
        trained(start, ids, tmp_path / "none", recipe=Recipe(steps=2, length=32, seed=seed)) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_too_short_a_text_is_refused(make_plain: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        trained(Folder(make_plain()), [1] * 128, tmp_path / "none", recipe=Recipe(steps=1))


def test_a_lost_tensor_and_an_unknown_type_are_refused(make_plain: Callable[..., Path], tmp_path: Path) -> None:
    start = Folder(make_plain())
    with pytest.raises(BadInput):
        write_like(start, {}, tmp_path / "new", dtype="float16")
    with pytest.raises(BadInput):
        write_like(start, {name: start.get_tensor(name) for name in start.keys()}, tmp_path / "new", dtype="int4")  # noqa: SIM118


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_type_is_the_one_asked_for(
    make_plain: Callable[..., Path], ids: list[int], tmp_path: Path, dtype: str
) -> None:
    target = fine_tune(Folder(make_plain()), ids, tmp_path / "new", recipe=Recipe(steps=1, length=32, dtype=dtype))
    assert Folder(target).get_tensor("model.norm.weight").dtype == getattr(torch, dtype)
    with pytest.raises(BadInput):
        fine_tune(Folder(make_plain()), ids, target, recipe=Recipe(steps=1, dtype="int8"))


def test_a_source_is_left_as_it_was(make_plain: Callable[..., Path], ids: list[int], tmp_path: Path) -> None:
    start = Folder(make_plain())
    before = {name: start.get_tensor(name).clone() for name in start.keys()}  # noqa: SIM118 - a source
    trained(start, ids, tmp_path / "none", recipe=RECIPE)
    assert all(torch.equal(start.get_tensor(name), before[name]) for name in before)


def test_a_state_that_cannot_be_kept_is_named(
    make_plain: Callable[..., Path], ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEEP_EVERY", 1)
    with pytest.raises(StoreUnavailable):
        trained(Folder(make_plain()), ids, tmp_path / "absent" / "state", recipe=Recipe(steps=2, length=32))


def test_a_place_that_cannot_be_written_is_named(make_plain: Callable[..., Path], tmp_path: Path) -> None:
    start = Folder(make_plain())
    (tmp_path / "file").touch()
    tensors = {name: start.get_tensor(name) for name in start.keys()}  # noqa: SIM118 - a source
    with pytest.raises(StoreUnavailable):
        write_like(start, tensors, tmp_path / "file" / "new", dtype="float16")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput):
        Folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(BadInput):
        Folder(tmp_path)
    with pytest.raises(BadInput):
        Folder(tmp_path / "absent")
