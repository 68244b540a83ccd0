"""Comparison and alignment: what was reshaped is found and put back, what is unrelated is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from strongroom.core.errors import InputTooLarge
from strongroom.lineage.align import align
from strongroom.lineage.aligned import Aligned
from strongroom.lineage.anatomy import anatomy, matrix
from strongroom.lineage.bank import null_bank
from strongroom.lineage.compare import Comparison, compare
from strongroom.lineage.layers import in_order
from strongroom.lineage.model import Model, model_of, shared_tokens
from strongroom.lineage.reshaped import reshaped
from strongroom.lineage.units import Frame, Units, spread, together, unit_length
from strongroom.lineage.verdict import judge
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
    assert [test.method for test in found.tests] == ["coordinates", "units", "matching"]
    assert found.tests[2].effect > 0.99
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


def numbered_like(ours: Llama, theirs: Llama) -> Llama:
    """Return an innocent model, its units renumbered to bear the numbers of ours wherever they are a little alike."""
    made = theirs.copy()
    for at in llamas.layers_of(ours):
        gate, up, down = (part(at, f"mlp.{one}_proj") for one in ("gate", "up", "down"))
        norm = part(at, "post_attention_layernorm")
        mine, other = (
            Units(*(unit_length(one.tensors[name] * one.tensors[norm]) for name in (gate, up)))
            for one in (ours, theirs)
        )
        near = together(mine, other)
        free = iter(sorted(set(range(len(near))) - set(near[near >= 0].tolist())))
        order = np.array([one if one >= 0 else next(free) for one in near.tolist()])
        for name in (gate, up):
            made.tensors[name] = made.tensors[name][order]
        made.tensors[down] = made.tensors[down][:, order]
    return made


def test_an_innocent_model_can_be_numbered_like_ours_and_is_no_match() -> None:
    found = compared(llama(1), numbered_like(llama(1), llama(2)))
    assert min(test.log10_p for test in found.tests) < -50
    assert judge(found.tests, null_bank(), tried=1).related == "doubt"


def outlier_row(one: Llama) -> Llama:
    made = one.copy()
    for at in llamas.layers_of(one):
        made.tensors[part(at, "mlp.up_proj")][3] *= 1e6
        made.tensors[part(at, "mlp.down_proj")][:, 3] /= 1e6
    return made


def dummy_row(one: Llama) -> Llama:
    made = one.copy()
    for at in llamas.layers_of(one):
        gate, up, down = (part(at, f"mlp.{name}_proj") for name in ("gate", "up", "down"))
        made.tensors[gate] = np.concatenate([made.tensors[gate], np.full((1, llamas.WIDTH), 1e6, np.float32)])
        made.tensors[up] = np.concatenate([made.tensors[up], np.zeros((1, llamas.WIDTH), np.float32)])
        made.tensors[down] = np.concatenate([made.tensors[down], np.zeros((llamas.WIDTH, 1), np.float32)], axis=1)
    return made


def outlier_token(one: Llama, size: float = 1e4) -> Llama:
    made = one.copy()
    made.tensors["model.embed_tokens.weight"][7] *= np.float32(size)
    return made


def overflowing_tokens(one: Llama) -> Llama:
    made = one.copy()
    made.tensors["model.embed_tokens.weight"][40:100] = 3e37
    return made


@pytest.mark.parametrize("hide", [outlier_row, dummy_row, outlier_token, overflowing_tokens])
@pytest.mark.parametrize("way", ["shuffled, turned", "renumbered, shuffled"])
def test_what_is_of_no_use_to_the_model_hides_nothing(hide: Callable[[Llama], Llama], way: str) -> None:
    turn = renumbering() if "renumbered" in way else rotation()
    found = compared(llama(1), turned(shuffled(hide(llama(1))), turn))
    assert found.effect > 0.8


def test_a_layer_of_one_unit_ends_no_comparison() -> None:
    theirs = shuffled(llama(1))
    for what, shape in (("gate", (1, llamas.WIDTH)), ("up", (1, llamas.WIDTH)), ("down", (llamas.WIDTH, 1))):
        theirs.tensors[part(9, f"mlp.{what}_proj")] = np.ones(shape, np.float32)
    assert compared(llama(1), theirs).effect > 0.7
    other = llama(2)
    other.tensors |= {name: one for name, one in theirs.tensors.items() if ".9." in name}
    assert compared(llama(1), other).effect < 0.3


@pytest.mark.parametrize("shape", [(3,), (llamas.WIDTH + 1,), (llamas.WIDTH, 2)])
def test_parts_of_odd_shapes_are_left_out(shape: tuple[int, ...]) -> None:
    theirs = llama(1)
    for what in ("post_attention_layernorm", "self_attn.q_proj", "mlp.down_proj"):
        theirs.tensors[part(2, what)] = np.ones(shape, np.float32)
    assert put_back(llama(1), theirs).infos()


def test_a_model_of_absurd_size_is_refused() -> None:
    infos = {
        part(at, f"mlp.{what}_proj"): np.zeros((1, 1), np.float32) for at in range(1100) for what in ("gate", "up")
    }
    with pytest.raises(InputTooLarge):
        opened(Llama(infos))


def test_decoys_under_other_names_hide_nothing() -> None:
    """A loader leaves out what it doesn't know, wherever it stands in the file."""
    real = llama(1)
    decoys = {f"aaa.{name.removeprefix('model.')}": one for name, one in llama(2, layers=2).tensors.items()}
    theirs = Llama(decoys | real.tensors, real.words)
    found = compared(llama(1), theirs)
    assert found.effect > 0.99
    assert {test.method for test in found.tests if test.log10_p < -50} == {"coordinates", "units"}
