"""From a registry of signatures to a verdict: what is opened, what is found, what is not."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest

from strongroom.core.canonical import encode
from strongroom.lineage.ancestry import Base
from strongroom.lineage.bank import null_bank
from strongroom.lineage.lookup import Glimpse, likeness, worth_opening
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.signature import Signature, cosines, large, sign, small, tensor_digests
from strongroom.lineage.trace import Decoded, Known, Registry, trace
from strongroom.lineage.traced import RecipientFound, Trace, conclude
from strongroom.ports.marks import Tensors
from tests.lineage import llamas
from tests.lineage.llamas import Llama, llama, noisy, rotation, scaled, shuffled, turned, with_layers


class Shelf:
    """Models that are opened one by one, and which were."""

    def __init__(self, **models: Llama) -> None:
        self.models, self.asked = models, list[str]()

    def known(self, name: str) -> Known:
        one = self.models[name]
        return Known(name, sign(model_of(one, one.tokens())), lambda: self.opened(name))

    @contextmanager
    def opened(self, name: str) -> Generator[Model]:
        self.asked.append(name)
        yield model_of(self.models[name], self.models[name].tokens())

    def registry(self, *, bases: tuple[Base, ...] = ()) -> Registry:
        return Registry([self.known(name) for name in self.models], bases, null_bank())


def found(shelf: Shelf, suspect: Llama) -> Trace:
    return conclude(trace(suspect, shelf.registry()))


WAYS: dict[str, Callable[[Llama], Llama]] = {
    "as it is": lambda one: one,
    "noise": lambda one: noisy(one, 0.1),
    "units shuffled": shuffled,
    "turned": lambda one: turned(one, rotation()),
    "scaled, shuffled": lambda one: scaled(shuffled(one)),
    "layers dropped": lambda one: with_layers(one, [0, 2, 3]),
    "a part": lambda one: Llama({name: one.tensors[name] for name in one.tensors if ".layers.1." in name}),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_derivative_is_traced_among_many(way: str) -> None:
    shelf = Shelf(**{f"m{seed}:1": llama(seed) for seed in range(1, 7)})
    told = found(shelf, WAYS[way](llama(4)))
    assert (told.verdict, told.checkpoint) == ("match", "m4:1")
    assert told.lineage is not None
    assert told.lineage.p_kind == "exact"
    assert told.lineage.tried == 6


def test_shuffled_and_turned_only_the_bank_can_tell_and_it_is_not_enough_for_a_large_registry() -> None:
    suspect = turned(shuffled(llama(1)), rotation())
    told = found(Shelf(**{"m1:1": llama(1)}), suspect)
    assert told.lineage is not None
    assert told.lineage.p_kind == "calibrated"
    assert told.lineage.pairs == len(null_bank().pairs["matching-anchored"])
    assert told.lineage.effect > 0.9
    many = Shelf(**{f"m{seed}:1": llama(seed) for seed in range(1, 40)})
    assert found(many, suspect).verdict == "inconclusive"


@pytest.mark.parametrize("way", WAYS)
def test_a_stranger_is_traced_to_nothing(way: str) -> None:
    shelf = Shelf(**{f"m{seed}:1": llama(seed) for seed in range(1, 7)})
    told = found(shelf, WAYS[way](llama(77)))
    assert (told.verdict, told.checkpoint, told.derivation) == ("no_match", None, ())


def test_the_nearest_version_is_named() -> None:
    ours = llama(1)
    later = noisy(ours, 0.05, 1)
    shelf = Shelf(**{"m:1": ours, "m:2": later, "other:1": llama(2)})
    assert found(shelf, noisy(later, 0.01, 2)).checkpoint == "m:2"
    assert found(shelf, noisy(ours, 0.01, 2)).checkpoint == "m:1"


def test_signatures_are_looked_up_before_anything_is_opened() -> None:
    shelf = Shelf(**{f"m{seed}:1": llama(seed) for seed in range(1, 31)})
    found(shelf, noisy(llama(17), 0.1))
    assert shelf.asked[0] == "m17:1"
    assert len(shelf.asked) <= 5


def test_what_was_not_opened_is_said() -> None:
    shelf = Shelf(**{f"m{seed}:1": llama(seed) for seed in range(1, 31)})
    told = found(shelf, llama(77))
    assert told.verdict == "no_match"
    assert (told.opened, told.registered) == (len(shelf.asked), 30)
    assert f" {told.opened} of 30 checkpoints were opened" in told.reason
    doubt = found(shelf, turned(shuffled(llama(7)), rotation()))
    assert doubt.verdict == "inconclusive"
    assert f" {doubt.opened} of 30 checkpoints were opened" in doubt.reason
    few = found(Shelf(**{"m1:1": llama(1)}), llama(77))
    assert (few.verdict, few.opened, few.registered) == ("no_match", 1, 1)
    assert "opened" not in few.reason


def test_differences_are_corrected_for_the_relatives() -> None:
    start = llama(1)
    ours = noisy(start, 0.03, 1)
    shelf = Shelf(**{"m:1": ours, "m:2": noisy(ours, 0.03, 2), "other:1": llama(2)})
    base = Base("public", lambda: Shelf(start=start).opened("start"))
    told = conclude(trace(noisy(ours, 0.003, 3), shelf.registry(bases=(base,))))
    assert (told.verdict, told.checkpoint) == ("match", "m:1")
    assert told.ancestor is not None
    assert told.ancestor.tried == 2
    assert told.lineage is not None
    assert told.lineage.log10_p == told.ancestor.log10_p == pytest.approx(np.log10(2 / (told.ancestor.siblings + 1)))


def test_marks_decide_over_a_common_base() -> None:
    """A sibling bears no mark; a copy does, and then the base doesn't matter."""

    class Copies:
        def __init__(self, log10_p: float) -> None:
            self.log10_p = log10_p

        def decode(self, known: Known, source: Model, aligned: Tensors) -> Decoded:
            assert known.name == "m:1"
            assert set(aligned.infos()) <= set(source.weights.infos())
            return Decoded(RecipientFound(checkpoint_log10_p=self.log10_p))

    start = llama(1)
    ours, sibling = noisy(start, 0.03, 1), noisy(start, 0.03, 2)
    shelf = Shelf(**{"m:1": ours})
    base = Base("public", lambda: Shelf(start=start).opened("start"))
    told = [conclude(trace(sibling, shelf.registry(bases=(base,)), copies=Copies(log10_p))) for log10_p in (0.0, -50.0)]
    assert [one.verdict for one in told] == ["common_ancestor", "match"]
    assert told[1].lineage is not None
    assert (told[1].lineage.method, told[1].lineage.log10_p) == ("mark", -50.0)
    assert told[1].ancestor is None


def test_an_empty_registry_and_an_empty_suspect() -> None:
    assert found(Shelf(), llama(1)).verdict == "no_match"
    told = found(Shelf(**{"m:1": llama(1)}), Llama({"w": np.ones((4, 4), np.float32)}))
    assert (told.verdict, told.opened, told.registered) == ("inconclusive", 0, 1)


# ── signatures ───────────────────────────────────────────────────────────────────────────────────────────────────────
def signature(one: Llama) -> Signature:
    return sign(model_of(one, one.tokens()))


def test_a_signature_comes_back_from_its_bytes() -> None:
    made = signature(llama(1))
    assert msgspec.json.decode(encode(made), type=Signature) == made


def test_matrices_in_eight_bits_are_near() -> None:
    values = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    assert np.abs(large(small(values)) - values).max() <= np.abs(values).max() / 254 + 1e-6
    assert (large(small(np.zeros((3, 4), np.float32))) == 0).all()
    assert large(small(np.zeros((0, 4), np.float32))).shape == (0, 4)


def test_cosines_are_the_same_in_any_basis() -> None:
    some = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)
    assert np.allclose(cosines(some), cosines(some @ rotation()), atol=1e-5)


def test_digests_are_of_matrices_and_not_of_what_is_only_filled() -> None:
    one = llama(1)
    one.tensors["empty.weight"] = np.zeros((64, 64), np.float32)
    kept = tensor_digests(one)
    assert "empty.weight" not in kept
    assert "model.norm.weight" not in kept
    assert kept["model.embed_tokens.weight"] != tensor_digests(llama(2))["model.embed_tokens.weight"]
    assert kept["model.embed_tokens.weight"] == tensor_digests(one.copy())["model.embed_tokens.weight"]


@pytest.mark.parametrize("way", ["units shuffled", "turned", "a part"])
def test_each_part_of_a_signature_sees_what_another_misses(way: str) -> None:
    suspect = WAYS[way](llama(3))
    glimpse = Glimpse(model_of(suspect, suspect.tokens()), tensor_digests(suspect))
    alike = [likeness(signature(llama(seed)), glimpse) for seed in range(1, 7)]
    assert worth_opening(alike)[0] == 2
    best = alike[2]
    if way == "turned":
        assert best.cosines > 0.99 > max(one.cosines for at, one in enumerate(alike) if at != 2)
        assert best.log10_p > -6
    else:
        assert best.log10_p < -6
    assert all(one.log10_p > -3 for at, one in enumerate(alike) if at != 2)


def test_a_signature_without_an_embedding_or_layers() -> None:
    bare = Llama({"some.weight": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)})
    made = signature(bare)
    assert (made.layers, made.tokens, made.hidden) == ((), (), ())
    suspect = llama(1)
    like = likeness(made, Glimpse(model_of(suspect), {}))
    assert like.log10_p == 0.0
    assert like.lengths == float("inf")
    assert len(signature(llama(1)).layers) == llamas.LAYERS
