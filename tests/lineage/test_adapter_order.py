"""An adapter alone: exact ranks, valid whatever the file holds."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from strongroom.lineage.adapter_order import SHUFFLES, adapter_ranks, log10_p_of_ranks
from strongroom.lineage.model import model_of
from tests.lineage.llamas import HIDDEN, LAYERS, WIDTH, Llama, layers_of, llama, noisy, part

RANK = 8


def adapter(source: Llama | None, seed: int, *, strength: float = 1.0, rank: int = RANK) -> Llama:
    """Return an adapter of the up projections, its rows taught by what `source`'s units write, or by nobody."""
    chance = np.random.default_rng(seed)
    tensors = {}
    for at in layers_of(source or llama(1)):
        learnt = chance.standard_normal((HIDDEN, rank))
        if source is not None:
            written = source.tensors[part(at, "mlp.down_proj")].T
            learnt = learnt + strength * written @ chance.standard_normal((WIDTH, rank))
        name = f"base_model.model.{part(at, 'mlp.up_proj').removesuffix('.weight')}"
        tensors[f"{name}.lora_A.weight"] = chance.standard_normal((rank, WIDTH)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = learnt.astype(np.float32)
    return Llama(tensors)


def log10_p(source: Llama, suspect: Llama) -> float:
    return log10_p_of_ranks(adapter_ranks(model_of(source), suspect), SHUFFLES)


def test_it_is_traced_to_its_own_base_and_to_no_other() -> None:
    ours = llama(1)
    assert log10_p(ours, adapter(ours, 1)) < -6
    assert log10_p(llama(2), adapter(ours, 1)) > -3


def test_p_values_of_strangers_are_super_uniform() -> None:
    found = np.array([log10_p(llama(seed % 7), adapter(None, seed)) for seed in range(60)])
    for level in (0.1, 0.01):
        assert (found <= math.log10(level)).sum() <= level * 60 + 4 * math.sqrt(level * 60)


def repeated(model: Llama) -> Llama:
    """Return a model, or an adapter, whose layers are all the first."""
    return Llama({name: model.tensors[re.sub(r"layers[.]\d+", "layers.0", name)] for name in model.tensors})


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_layers_that_are_copies_count_once(rank: int) -> None:
    ours, learnt = llama(1), adapter(None, 1, rank=rank)
    assert len(adapter_ranks(model_of(ours), learnt)) == LAYERS
    for source, suspect in ((ours, repeated(learnt)), (repeated(ours), learnt), (repeated(ours), repeated(learnt))):
        assert len(adapter_ranks(model_of(source), suspect)) == 1
    nearly = noisy(repeated(ours), 0.1)
    assert len(adapter_ranks(model_of(nearly), learnt)) == 1


def test_copies_of_a_lucky_layer_are_no_proof() -> None:
    ours = repeated(llama(1))
    found = [log10_p(ours, repeated(adapter(None, seed))) for seed in range(20)]
    assert min(found) >= -math.log10(SHUFFLES + 1)
    assert sum(one <= -1 for one in found) <= 6


@pytest.mark.parametrize("value", [3e38, np.inf, np.nan, 0.0])
def test_what_overflows_proves_nothing(value: float) -> None:
    hostile = adapter(None, 3)
    for name, values in hostile.tensors.items():
        if "lora_B" in name:
            values[:2, 0] = value
    assert log10_p(llama(1), hostile) > -3
    for name in list(hostile.tensors):
        hostile.tensors[name] = np.full_like(hostile.tensors[name], value)
    assert log10_p(llama(1), hostile) > -3


@pytest.mark.parametrize(("ranks", "expected"), [((), 0.0), ((0,), -math.log10(400)), ((399, 399), 0.0)])
def test_ranks_are_put_together_by_their_product(ranks: tuple[int, ...], expected: float) -> None:
    assert log10_p_of_ranks(ranks, 399) == pytest.approx(expected)


def test_the_product_is_fishers() -> None:
    x = (1 / 400) * (40 / 400)
    assert 10 ** log10_p_of_ranks((0, 39), 399) == pytest.approx(x * (1 - math.log(x)))
