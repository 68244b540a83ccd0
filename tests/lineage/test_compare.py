"""Comparison and alignment: what was reshaped is found and put back, what is unrelated is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strongroom.lineage.align import align
from strongroom.lineage.aligned import Aligned
from strongroom.lineage.anatomy import anatomy, matrix
from strongroom.lineage.compare import Comparison, compare
from strongroom.lineage.layers import in_order
from strongroom.lineage.model import Model, model_of, shared_tokens
from strongroom.lineage.reshaped import reshaped
from strongroom.lineage.units import Frame, spread
from tests.lineage import llamas
from tests.lineage.llamas import Llama, llama, noisy, part, renumbering, rotation, scaled, shuffled, turned, with_layers


def opened(one: Llama) -> Model:
    return model_of(one, one.tokens())


def compared(ours: Llama, theirs: Llama) -> Comparison:
    return compare(opened(ours), opened(theirs))


def put_back(ours: Llama, theirs: Llama) -> Aligned:
    source, suspect = opened(ours), opened(theirs)
    return Aligned(source, suspect, align(source, suspect, compare(source, suspect)))


WAYS: dict[str, Callable[[Llama], Llama]] = {
    "as it is": lambda one: one,
    "noise": lambda one: noisy(one, 0.1),
    "units shuffled": shuffled,
    "scales": scaled,
    "heads": llamas.heads_moved,
    "turned": lambda one: turned(one, rotation()),
    "renumbered": lambda one: turned(one, renumbering()),
    "shuffled, turned": lambda one: turned(shuffled(one), rotation()),
    "turned, shuffled, scaled, heads": lambda one: llamas.heads_moved(scaled(shuffled(turned(one, rotation())))),
    "noise, shuffled, turned": lambda one: turned(shuffled(noisy(one, 0.05)), rotation()),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_reshaped_model_is_put_back(way: str) -> None:
    ours = llama(1)
    aligned = put_back(ours, WAYS[way](ours))
    names = [name for name in ours.tensors if "_proj" in name]
    assert set(names) <= set(aligned.infos())
    for name in names:
        mine, theirs = ours.tensors[name], matrix(aligned, name)
        off = float(np.linalg.norm(theirs - mine) / np.linalg.norm(mine))
        assert off < (0.25 if "noise" in way else 2e-3), name


@pytest.mark.parametrize("way", WAYS)
def test_and_what_was_done_is_named(way: str) -> None:
    ours = llama(1)
    source, suspect = opened(ours), opened(WAYS[way](ours))
    found = compare(source, suspect)
    kinds = {step.kind for step in reshaped(source, suspect, found, alignment=align(source, suspect, found))}
    expected = {
        kind
        for word, kind in (
            ("shuffled", "permuted"),
            ("heads", "permuted"),
            ("turned", "rotated"),
            ("renumbered", "rotated"),
            ("scale", "rescaled"),
        )
        if word in way
    }
    assert kinds == expected


@pytest.mark.parametrize("way", WAYS)
def test_an_unrelated_model_is_not_found_whatever_was_done_to_it(way: str) -> None:
    found = compared(llama(1), WAYS[way](llama(2)))
    assert all(test.log10_p > -3 for test in found.tests)
    assert max(test.effect for test in found.tests) < 0.1
    assert not put_back(llama(1), WAYS[way](llama(2))).infos()


def test_order_is_exact_and_found_first() -> None:
    found = compared(llama(1), noisy(llama(1), 0.05))
    assert [test.method for test in found.tests] == ["coordinates", "units"]
    assert found.tests[1].log10_p < -100
    assert found.tests[1].effect > 0.99


@pytest.mark.parametrize(
    ("numbers", "pairs"),
    [
        ([0, 2, 3], {(0, 0), (1, 2), (2, 3)}),
        ([0, 1, 1, 2, 3], {(0, 0), (1, 1), (2, 1), (3, 2), (4, 3)}),
        ([3, 2, 1, 0], {(0, 3), (1, 2), (2, 1), (3, 0)}),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_layers_are_mapped(numbers: list[int], pairs: set[tuple[int, int]], *, hidden: bool) -> None:
    theirs = with_layers(llama(1), numbers)
    found = compared(llama(1), turned(shuffled(theirs), rotation()) if hidden else theirs)
    assert {(one.suspect, one.source) for one in found.layers} == pairs
    assert all(one.fraction > 0.9 for one in found.layers)


def test_units_added_between_and_units_taken_away() -> None:
    ours, theirs = llama(1), llama(1)
    chance = np.random.default_rng(0)
    for at in llamas.layers_of(ours):
        gate, up, down = (part(at, f"mlp.{one}_proj") for one in ("gate", "up", "down"))
        order = chance.permutation(len(ours.tensors[gate]) + 16)
        for name in (gate, up):
            more = chance.standard_normal((16, llamas.WIDTH)).astype(np.float32) / 8
            theirs.tensors[name] = np.concatenate([theirs.tensors[name], more])[order]
        none = np.zeros((llamas.WIDTH, 16), np.float32)
        theirs.tensors[down] = np.concatenate([theirs.tensors[down], none], axis=1)[:, order]
    for mine, other in ((ours, theirs), (theirs, ours)):
        aligned = put_back(mine, other)
        for at in llamas.layers_of(ours):
            name = part(at, "mlp.gate_proj")
            there = np.abs(matrix(aligned, name)).sum(axis=1) > 0
            assert there.sum() == len(ours.tensors[name])
            assert np.allclose(matrix(aligned, name)[there], mine.tensors[name][there], atol=1e-5)


def test_a_part_is_compared_by_what_it_has() -> None:
    ours = llama(1)
    some = Llama({name: one for name, one in ours.tensors.items() if ".layers.2." in name}, None)
    found = compared(ours, some)
    assert [(one.suspect, one.source) for one in found.layers] == [(2, 2)]
    aligned = put_back(ours, some)
    assert set(aligned.infos()) == {name for name in some.tensors if "_proj" in name}


def test_models_of_other_widths_are_compared_by_their_tokens() -> None:
    found = compared(llama(1), llama(2, width=48))
    assert {test.method for test in found.tests} == {"coordinates", "units-anchored", "matching-anchored"}
    assert found.turn is None


def test_tokens_are_shared_by_their_strings() -> None:
    one, other = llama(1), llama(2)
    other.words = [f"w{at}" for at in range(299, -1, -1)]
    mine, theirs = shared_tokens(opened(one), opened(other), most=100)
    assert (mine + theirs == 299).all()
    assert len(mine) == 100
    again, _ = shared_tokens(opened(one), opened(other), most=100)
    assert (mine == again).all()


def test_names_are_read_from_their_ends() -> None:
    body = anatomy({name.removeprefix("model."): one for name, one in llama(1).infos().items()})
    assert len(body.layers) == llamas.LAYERS
    assert body.embedding == "embed_tokens.weight"
    assert body.layers[0]["mlp_norm"] == "layers.0.post_attention_layernorm.weight"


def test_what_is_no_gated_model_has_no_layers() -> None:
    body = anatomy({name: one for name, one in llama(1).infos().items() if "gate" not in name})
    assert body.layers == ()
    found = compared(llama(1), Llama({"some.weight": np.zeros((4, 4), np.float32)}))
    assert found.layers == ()
    assert found.effect == 0.0


def test_a_layer_that_stands_there_many_times_counts_once() -> None:
    """Or chance hits of the one would be taken for hits of all."""
    one = opened(llama(1))
    theirs = opened(with_layers(llama(2), [0, 0, 0, 1, 1, 2]))
    raw = Frame(columns=spread(llamas.WIDTH, 64))
    found = in_order(one, theirs, (raw, raw))
    assert found.permutations == 3
    assert found.sampled == 3 * llamas.HIDDEN
