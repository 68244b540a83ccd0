"""How a suspect was derived: kinds and main parameters, alone and together, on a small decoder."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from strongroom.engines.gguf_weights import round_trip
from strongroom.lineage.findings import Finding
from strongroom.lineage.how.case import Case
from strongroom.lineage.how.derive import derivation, derived, direction
from tests.lineage.simulated_model import (
    F32,
    WIDTH,
    Change,
    Model,
    Turned,
    findings,
    least,
    lora,
    matrices,
    merged,
    model,
    noise,
    projections,
    stored,
    trained,
)
from tests.lineage.tensors import Held

WIDTHS = [
    "BF16",
    pytest.param("F16", marks=pytest.mark.slow),
    pytest.param("F32", marks=pytest.mark.slow),
]


@cache
def base() -> Model:
    return model(1)


@cache
def sibling() -> Model:
    some = stored(trained(0.02, seed=11)(base()), "BF16")
    return {name: one.astype(np.float32) for name, one in some.items()}


def through(*changes: Change) -> Model:
    some = base()
    for change in changes:
        some = change(some)
    return some


def gguf(quantiser: str) -> Change:
    return matrices(lambda one: round_trip(np.ascontiguousarray(one), quantiser))


def int8(one: F32) -> Any:
    step = np.abs(one).max(axis=1, keepdims=True) / 127
    return np.round(one / step) * step


def int8_tensor(one: F32) -> Any:
    step = np.abs(one).max() / 127
    return np.round(one / step) * step


def ternary(one: F32) -> Any:
    step = np.abs(one).mean()
    return np.clip(np.round(one / step), -1, 1) * step


def half_of_four(one: F32) -> Any:
    groups = one.reshape(-1, 4)
    return np.where(np.abs(groups).argsort(axis=1).argsort(axis=1) < 2, 0, groups).reshape(one.shape)


def at_random(one: F32) -> Any:
    return np.where(np.random.default_rng(one.size).random(one.shape) < 0.3, 0, one)


SINGLE: dict[str, tuple[Change, str, str]] = {
    "q8_0": (gguf("Q8_0"), "quantised", "Q8_0, blocks of 32, 8 bits"),
    "q4_0": (gguf("Q4_0"), "quantised", "Q4_0, blocks of 32, 4 bits"),
    "q4_1": (gguf("Q4_1"), "quantised", "Q4_1, blocks of 32, 4 bits"),
    "int8 a row": (projections(int8), "quantised", "int8 absmax, a scale for each row, 8 bits"),
    "int8 a tensor": (projections(int8_tensor), "quantised", "int8 absmax, a scale for each tensor, 8 bits"),
    "ternary": (projections(ternary), "quantised", "ternary, a scale for each tensor, 2 bits"),
    "prune 20 %": (least(0.2), "pruned", "20% of the weights set to zero, the least of each tensor"),
    "prune 80 %": (least(0.8), "pruned", "80% of the weights set to zero, the least of each tensor"),
    "prune 2:4": (projections(half_of_four), "pruned", "50% of the weights set to zero, 2 of every 4 in a row"),
    "prune at random": (projections(at_random), "pruned", "30% of the weights set to zero, at random"),
    "noise": (noise(0.1), "noised", "the difference is Gaussian noise of sigma = 0.10 of each tensor's spread"),
    "lora": (lora(8, 0.02), "lora", "rank 8 on down_proj, gate_proj, o_proj, q_proj, up_proj, v_proj"),
    "lora of two parts": (lora(4, 0.02, ("q_proj", "v_proj")), "lora", "rank 4 on q_proj, v_proj"),
    "fine-tune": (trained(0.01), "fine_tuned", "light fine-tuning"),
    "continued training": (trained(0.1), "fine_tuned", "continued training"),
    "merge": (merged(sibling(), 0.3), "merged", "0.30 of sibling"),
}


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("name", SINGLE)
def test_one_change_is_named_with_its_main_parameter_and_nothing_else_is(name: str, dtype: str) -> None:
    change, kind, detail = SINGLE[name]
    found = findings(base(), through(change), dtype, {"sibling": Held(stored(sibling(), "BF16"))})
    told = [one for one in found if one.kind != "cast"]
    assert [one.kind for one in told] == [kind], found
    assert told[0].detail.startswith(detail[:20])
    assert detail.split(":")[-1].strip()[:24] in told[0].detail
    assert ("cast" in {one.kind for one in found}) == (dtype != "BF16")


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((trained(0.02), gguf("Q8_0")), {"quantised": "Q8_0", "fine_tuned": "light"}),
        ((trained(0.02), gguf("Q4_0"), least(0.5)), {"quantised": "Q4_0", "pruned": "50%", "fine_tuned": ""}),
        ((gguf("Q4_0"), trained(0.01)), {"quantised": "once: Q4_0", "fine_tuned": "light"}),
        ((gguf("Q4_0"), lora(8, 0.02)), {"quantised": "once: Q4_0", "lora": "rank 8"}),
        (
            (noise(0.1), gguf("Q8_0")),
            {"quantised": "Q8_0", "noised": "the difference is Gaussian noise of sigma = 0.10"},
        ),
        ((noise(0.1), least(0.5)), {"pruned": "50%", "noised": "the difference is Gaussian noise of sigma = 0.10"}),
        ((lora(8, 0.05), gguf("Q8_0")), {"quantised": "Q8_0", "lora": "rank 8"}),
        (
            (lora(8, 0.05), noise(0.05)),
            {"lora": "rank 8", "noised": "the difference is Gaussian noise of sigma = 0.05"},
        ),
        ((least(0.2), gguf("Q4_0")), {"quantised": "Q4_0", "pruned": "20%"}),
    ],
)
def test_changes_in_a_row_are_all_named(changes: tuple[Change, ...], expected: dict[str, str], dtype: str) -> None:
    found = {one.kind: one for one in findings(base(), through(*changes), dtype) if one.kind != "cast"}
    assert set(found) == set(expected), found
    assert all(found[kind].detail.startswith(detail) for kind, detail in expected.items()), found


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_a_copy_is_at_most_a_cast(dtype: str) -> None:
    found = findings(base(), base(), dtype)
    assert [one.kind for one in found] == ([] if dtype == "BF16" else ["cast"])
    assert all(one.figures["equal"] > 0.99 for one in found)


def test_a_mark_is_not_taken_for_noise() -> None:
    rng = np.random.default_rng(3)
    mark = matrices(
        lambda one: one + 0.006 * one.std(axis=1, keepdims=True) * rng.choice([-1, 1], one.shape),
        ("gate", "up", "down"),
    )
    found = findings(base(), through(mark), "BF16")
    assert [one.kind for one in found] == ["unknown"]
    assert "as a mark is" in found[0].detail


def test_rounding_in_a_turned_basis_is_no_change() -> None:
    turn = np.linalg.qr(np.random.default_rng(4).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    turned = {name: one @ turn if one.ndim == 2 and one.shape[1] == WIDTH else one for name, one in base().items()}
    file = Turned(stored(turned, "BF16"))
    back = {
        name: one.astype(np.float32) @ turn.T if one.ndim == 2 and one.shape[1] == WIDTH else one.astype(np.float32)
        for name, one in file.arrays.items()
    }
    assert derivation(Case(source=Held(stored(base(), "BF16")), aligned=Held(back), suspect=file)) == ()


def test_a_grid_that_the_checkpoint_has_itself_is_not_named() -> None:
    grid = through(gguf("Q4_0"))
    assert not {"quantised", "fine_tuned", "noised"} & {one.kind for one in findings(grid, grid, "BF16")}


def test_a_quantised_file_says_so_itself() -> None:
    some = through(gguf("Q4_0"))
    kinds = {name: "Q4_0" if one.ndim == 2 else "F32" for name, one in some.items()}
    file = Turned(stored(some, "F32"), kinds)
    found = derivation(Case(source=Held(stored(base(), "BF16")), aligned=file, suspect=file))
    assert [one.kind for one in found] == ["quantised"]
    assert found[0].figures["block"] == 32
    assert "stores them so" in found[0].evidence


def test_an_adapter_alone_is_told_by_its_shapes() -> None:
    arrays = {}
    for part in ("q_proj", "v_proj"):
        name = f"base_model.model.model.layers.0.self_attn.{part}.lora_"
        arrays |= {f"{name}A.weight": np.ones((16, 64), np.float32), f"{name}B.weight": np.ones((64, 16), np.float32)}
    found = derivation(Case(source=Held({}), aligned=Held({}), suspect=Turned(arrays)))
    assert [(one.kind, one.figures["rank"]) for one in found] == [("lora", 16.0)]
    assert "q_proj, v_proj" in found[0].detail


def test_the_histogram_of_noise_lies_on_the_gaussian_and_one_of_a_mark_does_not() -> None:
    def histogram(change: Change) -> float:
        file = Turned(stored(through(change), "F32"))
        made = derived(Case(source=Held(stored(base(), "BF16")), aligned=file, suspect=file)).histogram
        assert made is not None
        assert len(made.counts) == len(made.edges) - 1 == 61
        counts, curve = np.array(made.counts), np.array(made.gaussian)
        return float(np.abs(counts - curve).sum() / counts.sum())

    rng = np.random.default_rng(3)
    assert histogram(noise(0.1)) < 0.02
    assert histogram(matrices(lambda one: one + 0.1 * one.std() * rng.choice([-1, 1], one.shape))) > 0.5


def test_nothing_of_another_model_is_explained() -> None:
    found: list[Finding] = findings(base(), model(2), "BF16")
    assert not {one.kind for one in found} & {"lora", "noised", "merged", "pruned", "quantised"}


def test_only_what_loses_information_tells_the_direction() -> None:
    assert "came after" in direction(findings(base(), through(gguf("Q4_0")), "BF16"))
    assert "do not tell" in direction(findings(base(), through(trained(0.01)), "BF16"))
