"""What a change of weights costs: nothing if nothing changed, more the more it did, with an interval that holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")

from strongroom.core.errors import BadInput  # noqa: E402 - after the skip
from strongroom.engines import texts  # noqa: E402
from strongroom.engines.fine_tune import Recipe, fine_tune  # noqa: E402
from strongroom.engines.folder import Folder  # noqa: E402
from strongroom.engines.perplexity import (  # noqa: E402
    Losses,
    Reading,
    compare,
    losses,
    paired_cost,
    student_975,
    token_ids,
)

TEXT = texts.default_texts()[:6_000]  # 6,000 of the small models' tokens: each letter is one


class Louder(Folder):
    """A folder's model with noise on every matrix."""

    def __init__(self, path: Path, share: float) -> None:
        super().__init__(path)
        self.share = share

    def get_tensor(self, name: str) -> torch.Tensor:
        values = super().get_tensor(name)
        if values.ndim < 2:
            return values
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(len(name)))
        return values + self.share * values.std() * noise


@pytest.mark.parametrize("fast", [False, True])
def test_a_model_costs_nothing_against_itself(make_plain: Callable[..., Path], *, fast: bool) -> None:
    one = Folder(make_plain())
    cost = paired_cost(one, Folder(make_plain()), TEXT, reading=Reading(fast=fast))
    assert (cost.ratio, cost.low, cost.high) == (0.0, 0.0, 0.0)
    assert cost.ppl_original == cost.ppl_marked
    assert cost.tokens == len(token_ids(one, TEXT)) // 64 * 63


def test_losses_are_those_of_transformers(make_plain: Callable[..., Path]) -> None:
    folder = make_plain()
    ids = token_ids(Folder(folder), TEXT, 600)
    ours = losses(Folder(folder), ids)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for start, window in zip(range(0, 576, 64), ours.windows, strict=True):
        row = torch.tensor([ids[start : start + 64]])
        assert float(model(row, labels=row).loss.detach()) == pytest.approx(float(window.mean()), rel=1e-5)
    assert ours.perplexity == pytest.approx(math.exp(np.concatenate(ours.windows).mean()), rel=1e-6)


def test_a_trained_model_is_worse_with_noise_and_the_interval_says_so(
    make_plain: Callable[..., Path], tmp_path: Path
) -> None:
    start = Folder(make_plain())
    ids = token_ids(start, TEXT)
    recipe = Recipe(steps=60, rate=1e-2, batch=8, length=32, fast=False)
    trained = Folder(fine_tune(start, ids, tmp_path / "trained", recipe=recipe))
    told: list[tuple[int, int]] = []
    cost = paired_cost(trained, Louder(tmp_path / "trained", 0.5), TEXT, progress=lambda *at: told.append(at))
    assert 0 < cost.low < cost.ratio < cost.high
    assert cost.ratio == pytest.approx(cost.ppl_marked / cost.ppl_original - 1, rel=1e-6)
    assert told == [(at, len(told)) for at in range(1, len(told) + 1)]


def test_the_interval_holds_what_it_promises() -> None:
    chance = np.random.default_rng(5)
    zero = Losses(tuple(np.zeros(50, np.float32) for _ in range(12)))
    held = 0
    for _ in range(600):
        shared = chance.normal(0, 0.02, 12)  # what the tokens of one window have in common
        second = Losses(tuple(chance.normal(0.01 + one, 0.05, 50).astype(np.float32) for one in shared))
        cost = compare(zero, second)
        held += cost.low <= math.expm1(0.01) <= cost.high
    assert 0.92 <= held / 600 <= 0.98


@pytest.mark.parametrize(("degrees", "known"), [(7, 2.3646), (10, 2.2281), (30, 2.0423), (220, 1.9708)])
def test_students_quantile(degrees: int, known: float) -> None:
    assert student_975(degrees) == pytest.approx(known, abs=0.003)


def test_fewer_tokens_than_asked_are_said(make_plain: Callable[..., Path]) -> None:
    one = Folder(make_plain())
    assert paired_cost(one, one, TEXT[:1000], reading=Reading(tokens=10**9)).tokens == 1000 // 64 * 63


def test_too_short_a_text_is_refused(make_plain: Callable[..., Path]) -> None:
    one = Folder(make_plain())
    with pytest.raises(BadInput):
        paired_cost(one, one, TEXT[:500])


def test_other_windows_are_refused() -> None:
    with pytest.raises(BadInput):
        compare(Losses((np.zeros(3, np.float32),) * 9), Losses((np.zeros(3, np.float32),) * 8))


def test_the_two_texts_are_disjoint_and_the_same_each_time() -> None:
    training, measuring = texts.training_texts(100_000), texts.default_texts()
    assert texts.digest(training) == texts.digest(texts.training_texts(100_000))
    assert len(measuring) > 300_000
    lines = {line for line in measuring.splitlines() if len(line) > 60}
    assert not lines & {line for line in training.splitlines() if len(line) > 60}
