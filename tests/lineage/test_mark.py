"""A mark from its making to its reading, on whole (small) checkpoints: what the house's port promises."""

from __future__ import annotations

import math
from functools import cache

import ml_dtypes
import numpy as np
import pytest

from strongroom.core.copy_errors import CoarseGrid, MarkTooWeak, NothingToMark, OtherShape
from strongroom.core.secrets import Secret
from strongroom.lineage.codes import COMMON, Design, biases, common_code, own_code
from strongroom.lineage.decode import Candidate, Scheme, Verdict, decode
from strongroom.lineage.evidence import committed
from strongroom.lineage.keys import checkpoint_keys, derive
from strongroom.lineage.mark import WeightMark, WeightMarks
from strongroom.lineage.projections import find_projections
from strongroom.lineage.readings import against_original, blind
from strongroom.lineage.segments import deal
from tests.lineage.tensors import DTYPES, Held, gaussian

MASTER = Secret(bytes(range(32)))
DESIGN = Design(100, 2, 1e-6)  # 364 segments and 256
MARKS = WeightMarks(MASTER, lambda _: DESIGN.segments)


@cache
def host(dtype: str = "BF16") -> Held:
    return Held(gaussian(np.random.default_rng(5), layers=12, hidden=512, width=192, dtype=dtype))


def marked(copy: str, original: Held) -> tuple[Held, WeightMark]:
    mark = MARKS.prepare("ckpt-1", copy, original)
    made = Held({name: one.copy() for name, one in original.arrays.items()})
    for name in mark.names():
        mark.apply(name, 0, memoryview(made.arrays[name].reshape(-1).view(np.uint8)))
    return made, mark


def whose(suspect: Held, original: Held, copies: int = 20) -> list[Verdict]:
    keys, where = checkpoint_keys(MASTER, "ckpt-1"), find_projections(original.infos())
    bias = biases(keys.biases, DESIGN.own)
    candidates = [
        Candidate(f"copy-{at}", f"r{at}", own_code(derive(MASTER, "code", f"copy-{at}"), bias)) for at in range(copies)
    ]
    readings = (
        blind(suspect, where, keys, segments=DESIGN.segments),
        against_original(suspect, original, where, keys=keys, segments=DESIGN.segments),
    )
    scheme = Scheme(bias, common_code(keys.common))
    return [decode(some, scheme, candidates, tried=copies) for some in (readings[:1], readings[1:], readings)]


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_copy_is_read_back_and_named(dtype: str) -> None:
    copy, mark = marked("copy-3", host(dtype))
    report = mark.read_back(copy)
    assert report.segments == 620
    assert report.retained > 10
    assert math.isclose(report.retained, report.alpha * math.sqrt(12 * 3 * 512 * 192), rel_tol=0.1)
    assert report.log10_p < -12
    assert mark.commitment == committed(MASTER, "ckpt-1", "copy-3", segments=620)[0].digest()
    for found in whose(copy, host(dtype)):
        assert (found.verdict, found.recipient) == ("match", "r3")
        assert found.checkpoint_log10_p < -10


def test_an_unmarked_or_anothers_copy_is_not_passed_as_this_one() -> None:
    _, mark = marked("copy-3", host())
    with pytest.raises(MarkTooWeak):
        mark.read_back(host())
    other, _ = marked("copy-4", host())
    with pytest.raises(MarkTooWeak):
        mark.read_back(other)


def test_two_who_average_are_both_named_and_the_original_names_nobody() -> None:
    one, two = marked("copy-3", host())[0], marked("copy-11", host())[0]
    both = Held(
        {
            name: ((values.astype(np.float32) + two.arrays[name].astype(np.float32)) / 2).astype(ml_dtypes.bfloat16)
            for name, values in one.arrays.items()
        }
    )
    found = whose(both, host())[2]
    assert {each.recipient for each in found.colluders} == {"r3", "r11"}
    alone, changes, together = whose(host(), host())
    assert (alone.verdict, together.verdict) == ("no_match", "no_match")
    assert (changes.verdict, changes.covered) == ("no_match", 1.0)
    assert "original" in changes.reason


def test_a_scaled_unit_and_a_merge_with_the_unmarked_change_nothing_of_the_verdict() -> None:
    copy, _ = marked("copy-3", host())
    scaled = dict(copy.arrays)
    for layer in range(12):
        up, down = (f"model.layers.{layer}.mlp.{name}_proj.weight" for name in ("up", "down"))
        scaled[up], scaled[down] = scaled[up] * 4, scaled[down] / 4
    assert (
        whose(Held({name: one.astype(ml_dtypes.bfloat16) for name, one in scaled.items()}), host())[0].recipient == "r3"
    )
    merged = {
        name: ((values.astype(np.float32) + host().arrays[name].astype(np.float32)) / 2).astype(np.float32)
        for name, values in copy.arrays.items()
    }
    assert whose(Held(merged), host())[1].recipient == "r3"


def test_half_of_the_layers_are_enough() -> None:
    copy, _ = marked("copy-3", host())
    part = {name: one for name, one in copy.arrays.items() if int(name.split(".")[2]) < 6}
    found = whose(Held(part), host())[2]
    assert found.recipient == "r3"
    assert found.covered == 0.5


def test_tensors_that_do_not_fit_hide_nothing_of_the_others() -> None:
    copy, _ = marked("copy-3", host())
    names = list(copy.arrays)
    padded = copy.arrays | {
        names[0]: np.pad(copy.arrays[names[0]], ((0, 1), (0, 0))),
        names[1]: copy.arrays[names[1]].reshape(-1),
        names[2]: copy.arrays[names[2]].astype(np.int8),
    }
    for found in whose(Held(padded), host()):
        assert (found.verdict, found.recipient) == ("match", "r3")
    absent = {name: one for name, one in copy.arrays.items() if name not in names[:3]}
    assert whose(Held(padded), host()) == whose(Held(absent), host())


def test_a_file_of_which_nothing_fits_is_of_another_shape() -> None:
    name = "model.layers.3.mlp.up_proj.weight"
    for other in (np.zeros((4, 4), np.float32), np.zeros((512, 192), np.int8)):
        with pytest.raises(OtherShape, match="none of its 1 projections fits") as caught:
            whose(Held({name: other}), host())
        assert name in caught.value.where
    assert whose(Held({"wte.weight": np.zeros((4, 4), np.float32)}), host())[0].verdict == "inconclusive"


def test_values_have_three_decimals() -> None:
    copy, _ = marked("copy-3", host())
    keys, where = checkpoint_keys(MASTER, "ckpt-1"), find_projections(host().infos())
    for reading in (
        blind(copy, where, keys, segments=DESIGN.segments),
        against_original(copy, host(), where, keys=keys, segments=DESIGN.segments),
    ):
        assert np.array_equal(reading.values, np.round(reading.values, 3), equal_nan=True)
        assert not np.signbit(reading.values[reading.values == 0]).any()
        assert len(set(reading.values.tolist())) > 100


def test_what_can_carry_no_mark_is_refused() -> None:
    small = Held(gaussian(np.random.default_rng(1), layers=2, hidden=512, width=64))
    with pytest.raises(MarkTooWeak, match="strength"):
        MARKS.prepare("ckpt-1", "copy-1", small)
    few = Held(gaussian(np.random.default_rng(1), layers=1, hidden=512, width=2048))
    with pytest.raises(MarkTooWeak, match="hidden units"):
        MARKS.prepare("ckpt-1", "copy-1", few)
    with pytest.raises(NothingToMark):
        MARKS.prepare("ckpt-1", "copy-1", Held({"wte.weight": np.zeros((8, 8), np.float32)}))
    grid = {
        name: (np.round(one.astype(np.float32) / 0.03).clip(-8, 7) * 0.03).astype(ml_dtypes.bfloat16)
        for name, one in host().arrays.items()
    }
    with pytest.raises(CoarseGrid):
        MARKS.prepare("ckpt-1", "copy-1", Held(grid))


@pytest.mark.parametrize(("kept", "true"), [("F32", "BF16"), ("F32", "F16"), ("F16", "BF16")])
def test_what_is_kept_in_a_wider_dtype_can_not_be_snapped_back(kept: str, true: str) -> None:
    """A copy of bfloat16 kept in float32 is itself bfloat16: rounding it to bfloat16 does nothing to it."""
    original = Held({name: one.astype(DTYPES[true]).astype(DTYPES[kept]) for name, one in host("F32").arrays.items()})
    copy, mark = marked("copy-3", original)
    assert mark.read_back(copy).retained > 10
    for name, one in copy.arrays.items():
        snapped = one.astype(DTYPES[true]).astype(DTYPES[kept])
        assert np.mean(snapped == one) > 0.998, name  # below 2^-17, float16 can't hold all of bfloat16


def test_copies_differ_only_where_their_codes_do() -> None:
    one, two = marked("copy-3", host())[0], marked("copy-11", host())[0]
    keys = checkpoint_keys(MASTER, "ckpt-1")
    bias = biases(keys.biases, DESIGN.own)
    codes = [own_code(derive(MASTER, "code", name), bias) for name in ("copy-3", "copy-11")]
    dealt = deal(keys.segments, 12 * 512, DESIGN.segments)
    same = np.concatenate([np.ones(COMMON, bool), codes[0] == codes[1]])[dealt]
    gate = "model.layers.7.mlp.gate_proj.weight"
    equal = (one.arrays[gate] == two.arrays[gate]).all(axis=1)
    units = slice(7 * 512, 8 * 512)
    assert equal[same[units]].all()
    assert not equal[~same[units]].any()
