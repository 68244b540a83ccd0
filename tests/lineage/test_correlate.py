"""Surveys and differences: against a plain float64 twin, and end to end on a model that is marked and read again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from strongroom.core.copy_errors import OtherShape
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage import elements
from strongroom.lineage.chips import Chips
from strongroom.lineage.correlate import Original, Sums, by_segment, differences, survey
from strongroom.lineage.embed import Embedding, Streams
from strongroom.lineage.keys import checkpoint_keys
from strongroom.lineage.projections import Projection, Projections, find_projections
from strongroom.lineage.segments import deal
from tests.lineage.tensors import Held, gaussian

KEYS = checkpoint_keys(Secret(bytes(range(32))), "ckpt-1")
STREAMS = Streams.of(KEYS)
CHIPS = STREAMS.chips
UP, DOWN = "h.0.mlp.up_proj.weight", "h.0.mlp.down_proj.weight"

Arrays = dict[str, npt.NDArray[np.generic]]


def lines(arrays: Arrays, tensor: Projection) -> npt.NDArray[np.float64]:
    """Return a tensor in float64 with its lines as rows."""
    whole = arrays[tensor.name].astype(np.float32).astype(np.float64)
    return np.where(np.isfinite(whole), whole, 0).T if tensor.axis else np.where(np.isfinite(whole), whole, 0)


def roots(arrays: Arrays, tensor: Projection) -> npt.NDArray[np.float64]:
    return np.sqrt((lines(arrays, tensor) ** 2).mean(axis=1))


def chips(tensor: Projection) -> npt.NDArray[np.float64]:
    made = CHIPS.signs(tensor.name, 0, tensor.weights).reshape(tensor.shape)
    return (made.T if tensor.axis else made).astype(np.float64)


def naive(arrays: Arrays, where: Projections, before: Arrays | None = None) -> Sums:
    """Return the sums by the definition, in float64 and at once."""
    total = np.zeros((3, where.units))
    for tensor in where.tensors:
        if tensor.name not in arrays:
            continue
        some = lines(arrays, tensor)
        there = some != 0
        scale = roots(arrays if before is None else before, tensor)
        scale = np.where(scale > 0, scale, np.inf)[:, None]
        if before is None:
            cut = np.clip(some / scale, -3, 3)
        else:
            cut = np.clip((some - lines(before, tensor)) / scale, -1, 1) * there
        for at, one in enumerate(((cut * chips(tensor)), cut**2, there)):
            np.add.at(total[at], tensor.first_unit + np.arange(tensor.lines) % tensor.units, one.sum(axis=1))
    return Sums(*total)


def same(one: Sums, two: Sums) -> None:
    assert np.array_equal(one.counts, two.counts)
    np.testing.assert_allclose(one.energies, two.energies, rtol=2e-5)
    np.testing.assert_allclose(one.correlations, two.correlations, atol=2e-5 * np.sqrt(two.energies.max()))


def model(dtype: str) -> Arrays:
    """Return a model with everything that needs care: fused, transposed, padded, pruned, infinite, tiny and huge."""
    generator = np.random.default_rng(5)
    arrays = gaussian(generator, layers=3, hidden=130, width=70, dtype=dtype)
    kind = next(iter(arrays.values())).dtype
    arrays |= {
        "x.mlp.gate_up_proj.weight": (generator.normal(size=(260, 70)) * 0.02).astype(kind),
        "x.mlp.down_proj.weight": (generator.normal(size=(70, 130)) * 0.02).astype(kind),
        "y.mlp.c_fc.weight": (generator.normal(size=(70, 130)) * 0.02).astype(kind),
        "y.mlp.c_proj.weight": (generator.normal(size=(130, 70)) * 0.02).astype(kind),
        "z.mlp.up_proj.weight": (generator.normal(size=(1000, 300)) * 0.02).astype(kind),  # more than one chunk
        "z.mlp.down_proj.weight": (generator.normal(size=(300, 1000)) * 0.02).astype(kind),
    }
    first = arrays["model.layers.0.mlp.up_proj.weight"]
    first[3] = 0
    first[4, ::2] = 0
    first[5, 7], first[6, 8], first[7, 9] = np.nan, np.inf, -np.inf
    first[8, 0] = 30  # an outlier, cut
    arrays["model.layers.0.mlp.down_proj.weight"][:, 3] = 0
    return arrays


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_a_survey_is_what_the_definition_says(dtype: str) -> None:
    arrays = model(dtype)
    where = find_projections(Held(arrays).infos())
    found = survey(Held(arrays), where, CHIPS)
    same(found.sums, naive(arrays, where))
    for tensor in where.tensors:
        np.testing.assert_allclose(found.sigma[tensor.name], roots(arrays, tensor), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_differences_are_what_the_definition_says(dtype: str) -> None:
    before = model(dtype)
    generator = np.random.default_rng(6)
    after = {
        name: (one.astype(np.float32) + generator.normal(size=one.shape) * 0.001).astype(np.float32)
        for name, one in before.items()
    }
    after["x.mlp.down_proj.weight"][::2] = 0  # pruned
    after["y.mlp.c_proj.weight"] *= 100  # cut at one
    after["y.mlp.c_fc.weight"][3, ::2] = np.finfo(np.float32).max  # infinite in units of the spread, and cut
    after["y.mlp.c_fc.weight"][4, ::2] = -np.inf  # erased
    where = find_projections(Held(before).infos())
    original = Original(Held(before), survey(Held(before), where, CHIPS).sigma)
    same(differences(Held(after), original, where, chips=CHIPS), naive(after, where, before))


@pytest.mark.parametrize("read_bytes", [1, 30_000, 8 << 20])
def test_tensors_larger_than_the_buffer_are_read_in_turns(monkeypatch: pytest.MonkeyPatch, read_bytes: int) -> None:
    """The same sums whatever the buffer; and what fits it is read once, even if it is gone through twice."""
    monkeypatch.setattr(elements, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(elements, "CHUNK", 4000)
    before = gaussian(np.random.default_rng(15), layers=1, hidden=500, width=90)
    after = {name: (one.astype(np.float32) * 1.01).astype(one.dtype) for name, one in before.items()}
    where = find_projections(Held(before).infos())
    counting = Counting(before)
    found = survey(counting, where, CHIPS)
    same(found.sums, naive(before, where))
    times = 1 if read_bytes > 500 * 90 * 2 else 2
    assert counting.elements == {name: 45_000 * (times if "down" in name else 1) for name in before}
    original = Original(Held(before), found.sigma)
    same(differences(Held(after), original, where, chips=CHIPS), naive(after, where, before))


class Counting(Held):
    """Counts what is read."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.elements = dict.fromkeys(arrays, 0)

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        self.elements[name] += len(buffer) // self.arrays[name].itemsize
        super().read_into(name, first, buffer)


def test_scaling_units_changes_nothing() -> None:
    """What costs a thief nothing: a unit's up row by f and its down column by 1/f, even by 1e25."""
    arrays = gaussian(np.random.default_rng(7), layers=1, hidden=64, width=400, dtype="F32")
    where = find_projections(Held(arrays).infos())
    plain = survey(Held(arrays), where, CHIPS).sums
    factors = np.float32(10.0) ** np.linspace(-25, 25, 64, dtype=np.float32)
    scaled = {
        name: one * (1 / factors if "down" in name else factors[:, None]) if "gate" not in name else one
        for name, one in arrays.items()
    }
    found = survey(Held(scaled), where, CHIPS).sums
    np.testing.assert_allclose(found.correlations, plain.correlations, atol=1e-3)
    np.testing.assert_allclose(found.energies, plain.energies, rtol=1e-5)


def test_tensors_that_are_missing_add_nothing() -> None:
    arrays = gaussian(np.random.default_rng(8), layers=2, hidden=32, width=48)
    where = find_projections(Held(arrays).infos())
    part = {name: one for name, one in arrays.items() if "layers.1" not in name and "gate" not in name}
    found = survey(Held(part), where, CHIPS)
    same(found.sums, naive(part, where))
    assert not found.sums.counts[32:].any()
    assert not found.sums.values[32:].any()
    assert set(found.sigma) == set(part)
    original = Original(Held(arrays), survey(Held(arrays), where, CHIPS).sigma)
    assert not differences(Held(part), original, where, chips=CHIPS).correlations.any()


def test_another_shape_is_named_with_both() -> None:
    arrays = gaussian(np.random.default_rng(9), layers=1, hidden=32, width=48)
    where = find_projections(Held(arrays).infos())
    name = "model.layers.0.mlp.gate_proj.weight"
    other = arrays | {name: arrays[name][:16]}
    original = Original(Held(arrays), survey(Held(arrays), where, CHIPS).sigma)
    for read in (
        lambda: survey(Held(other), where, CHIPS),
        lambda: differences(Held(other), original, where, chips=CHIPS),
    ):
        with pytest.raises(OtherShape, match="the tensor is 16x48, the checkpoint's is 32x48") as caught:
            read()
        assert name in caught.value.where


def test_a_suspect_may_have_another_float_type_but_no_integers() -> None:
    arrays = gaussian(np.random.default_rng(10), layers=1, hidden=64, width=200)
    where = find_projections(Held(arrays).infos())
    plain = survey(Held(arrays), where, CHIPS).sums
    for dtype, closeness in ((np.float64, 1.0), (np.float32, 1.0), (ml_dtypes.float8_e4m3fn, 0.99)):
        scale = 1 if dtype is not ml_dtypes.float8_e4m3fn else 1000  # as a quantiser scales
        suspect = {name: (one.astype(np.float32) * scale).astype(dtype) for name, one in arrays.items()}
        found = survey(Held(suspect), where, CHIPS).sums
        assert np.corrcoef(found.correlations, plain.correlations)[0, 1] >= closeness - 1e-9
    with pytest.raises(BadInput, match="I8"):
        survey(Held({name: one.astype(np.int8) for name, one in arrays.items()}), where, CHIPS)


def test_progress_ends_with_all_weights() -> None:
    arrays = gaussian(np.random.default_rng(11), layers=2, hidden=32, width=48)
    where = find_projections(Held(arrays).infos())
    seen: list[tuple[int, int]] = []
    survey(Held(arrays), where, CHIPS, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(at * 32 * 48, where.weights) for at in range(1, 7)]


def test_dealt_units_must_fit_the_sums() -> None:
    with pytest.raises(BadInput):
        by_segment(Sums(*np.zeros((3, 10))), np.zeros(9, np.int32), 2)


def test_unmarked_values_are_standard_normal() -> None:
    """Over keys: the chips are the only randomness that the claim rests on."""
    arrays = gaussian(np.random.default_rng(12), layers=4, hidden=128, width=96)
    arrays["model.layers.0.mlp.up_proj.weight"][:, 0] = 5  # a host that is far from Gaussian
    where = find_projections(Held(arrays).infos())
    found = []
    for at in range(40):
        keys = checkpoint_keys(Secret(bytes([at]) * 32), "ckpt-1")
        sums = survey(Held(arrays), where, Chips(keys.chips)).sums
        found.append(by_segment(sums, deal(keys.segments, where.units, 64), 64).values)
    values = np.concatenate(found)
    assert abs(values.mean()) < 5 / values.size**0.5
    assert abs(values.var() - 1) < 5 * (2 / values.size) ** 0.5
    assert np.abs(values).max() < 5


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_what_was_asked_for_is_found_in_every_segment(dtype: str) -> None:
    """Twelve layers: survey, embed so that the value moves by x·c - lam·h, survey again, and against the original."""
    generator = np.random.default_rng(13)
    host = gaussian(generator, layers=12, hidden=512, width=192, dtype=dtype)
    where = find_projections(Held(host).infos())
    segments = 300
    dealt = deal(KEYS.segments, where.units, segments)
    first = survey(Held(host), where, CHIPS)
    own = by_segment(first.sums, dealt, segments)
    target = 0.6 * generator.choice([-1.0, 1.0], segments) - 0.8 * own.values
    mark = Embedding(where, first.sigma, units=(target / np.sqrt(own.counts))[dealt], streams=STREAMS)
    marked = {name: one.copy() for name, one in host.items()}
    for name in mark.names():
        mark.apply(name, 0, memoryview(marked[name].reshape(-1).view(np.uint8)))

    got = by_segment(survey(Held(marked), where, CHIPS).sums, dealt, segments).values
    assert np.std(got - (own.values + target)) < 0.02
    assert np.abs(got - (own.values + target)).max() < 0.06

    original = Original(Held(host), first.sigma)
    changed = by_segment(differences(Held(marked), original, where, chips=CHIPS), dealt, segments)
    assert 0 <= own.counts.sum() - changed.counts.sum() < 5  # float16 may round a weight near zero to zero
    assert np.abs(changed.correlations / np.sqrt(changed.counts) - target).max() < 0.05
    assert np.abs(changed.values).mean() > 10  # the change is nearly nothing but the mark


@pytest.mark.slow
def test_reading_a_large_tensor_takes_little_memory(tmp_path: Path) -> None:
    """400 MB in two tensors: the peak of a process of its own, over what it had before."""
    script = """
import sys
from pathlib import Path
import numpy as np
from strongroom.core.secrets import Secret
from strongroom.lineage.chips import Chips
from strongroom.lineage.correlate import Original, differences, survey
from strongroom.lineage.projections import find_projections
from tests.lineage.tensors import OnDisk
weights = OnDisk(Path(sys.argv[1]))
where = find_projections(weights.infos())
chips = Chips(Secret(bytes(32)))

def peak():  # not getrusage's, which a child inherits
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))

before = peak()
found = survey(weights, where, chips)
assert found.sums.counts.sum() == where.weights
differences(weights, Original(weights, found.sigma), where, chips=chips)
print(peak() - before)
"""
    import safetensors.numpy

    rows = np.random.default_rng(14).normal(size=(100, 8000)).astype(np.float16)
    whole = np.tile(rows, (125, 1))
    file = tmp_path / "large.safetensors"
    safetensors.numpy.save_file({UP: whole, DOWN: np.ascontiguousarray(whole.T)}, file)
    assert file.stat().st_size > 400_000_000
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert int(done.stdout) < 100_000  # KiB
