"""Marks in weights, measured: speed at a real model's shapes, the mark that is left in 16 bits, values without a mark.

The shapes are those of SmolLM2-135M's MLP (79.6 million weights). Speed is CPU seconds of one thread on Gaussian
weights, contestants taking turns: a plain copy of the same bytes, and numpy's dot product of as many float32. The
figures of real weights are of the demo's model; it lies on a 4-bit grid, so noise of .08 of a tensor's spread takes it
off.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/lineage.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from watermark_texts import cache

from strongroom.core.secrets import Secret
from strongroom.engines.demo_model import demo_model
from strongroom.lineage.correlate import Original, by_segment, differences, survey
from strongroom.lineage.embed import Embedding, Streams
from strongroom.lineage.grid import coarse_share
from strongroom.lineage.keys import CheckpointKeys, checkpoint_keys
from strongroom.lineage.projections import Projections, find_projections
from strongroom.lineage.segments import deal
from strongroom.ports.marks import TensorInfo

ROUNDS = 5
KEYS = 8
SEGMENTS = 2810
PUSH, HOST_SHARE = 0.6, 0.8  # a segment's value is moved by PUSH times its code, less HOST_SHARE of what it was
NOISE = 0.08
LAYERS, HIDDEN, WIDTH = 30, 1536, 576
DTYPES: dict[str, np.dtype[np.generic]] = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16)}

Arrays = dict[str, npt.NDArray[np.generic]]


class Held:
    """A checkpoint in memory."""

    def __init__(self, arrays: Arrays, dtype: str) -> None:
        """Take its tensors, all of one dtype."""
        self.arrays = arrays
        self._dtype = dtype

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return dtypes and shapes."""
        return {name: TensorInfo(dtype=self._dtype, shape=tuple(one.shape)) for name, one in self.arrays.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Copy elements."""
        one = self.arrays[name].reshape(-1)
        buffer[:] = one[first : first + len(buffer) // one.itemsize].view(np.uint8).data


def keys(number: int) -> CheckpointKeys:
    """Return the secrets of a fixed master key."""
    return checkpoint_keys(Secret(bytes([number]) * 32), "benchmark")


def gaussian(dtype: str) -> Held:
    """Return a checkpoint of Gaussian weights at the model's shapes."""
    generator = np.random.default_rng(1)
    shapes = {"gate_proj": (HIDDEN, WIDTH), "up_proj": (HIDDEN, WIDTH), "down_proj": (WIDTH, HIDDEN)}
    some = (generator.standard_normal((HIDDEN, WIDTH), np.float32) * 0.05).astype(DTYPES[dtype])
    return Held(
        {
            f"model.layers.{layer}.mlp.{name}.weight": some.reshape(shape).copy()
            for layer in range(LAYERS)
            for name, shape in shapes.items()
        },
        dtype,
    )


def apply(mark: Embedding, held: Held) -> None:
    """Mark all tensors in place."""
    for name in mark.names():
        mark.apply(name, 0, held.arrays[name].reshape(-1).view(np.uint8).data)


def contestants(dtype: str) -> tuple[int, dict[str, Callable[[], object]]]:
    """Return how many weights there are, and what is done to them."""
    held = gaussian(dtype)
    where, streams = find_projections(held.infos()), Streams.of(keys(0))
    found = survey(held, where, streams.chips)
    units = np.where(np.arange(where.units) % 2, 0.005, -0.005)
    mark = Embedding(where, found.sigma, units=units, streams=streams)
    target = {name: np.empty_like(one) for name, one in held.arrays.items()}
    wide = np.ones(where.weights, np.float32)
    changed = Held({name: one.copy() for name, one in held.arrays.items()}, dtype)

    def copy() -> None:
        for name, one in held.arrays.items():
            np.copyto(target[name], one)

    return where.weights, {
        "copy of the bytes": copy,
        "float32 dot product": lambda: np.dot(wide, wide),
        "embed": lambda: apply(mark, changed),
        "survey (blind detection)": lambda: survey(held, where, streams.chips),
        "differences (against the original)": lambda: differences(
            changed, Original(held, found.sigma), where, chips=streams.chips
        ),
    }


def speed(dtype: str) -> dict[str, dict[str, object]]:
    """Return weights per CPU second, and the CPU next to the two yardsticks'."""
    weights, work = contestants(dtype)
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, one in work.items():
            start = time.process_time()
            one()
            taken[name].append(time.process_time() - start)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    copy, dot, *_ = seconds.values()
    return {
        name: {
            "million weights per CPU second": round(weights / one / 1e6),
            "CPU, to the copy's": round(one / copy, 1),
            "CPU, to the dot product's": round(one / dot, 1),
        }
        for name, one in seconds.items()
    }


def real() -> Held:
    """Return the projections of the demo's model."""
    with safe_open(demo_model(cache()) / "model.safetensors", "numpy") as file:
        infos = {
            name: TensorInfo(dtype=file.get_slice(name).get_dtype(), shape=tuple(file.get_slice(name).get_shape()))
            for name in file.keys()  # noqa: SIM118 - it is no dictionary
        }
        return Held({one.name: file.get_tensor(one.name) for one in find_projections(infos).tensors}, "F16")


def unmarked(held: Held) -> dict[str, object]:
    """Return the moments of the segments' values without a mark, over keys."""
    where = find_projections(held.infos())
    parts = []
    for number in range(KEYS):
        sums = survey(held, where, Streams.of(keys(number)).chips).sums
        parts.append(by_segment(sums, deal(keys(number).segments, where.units, SEGMENTS), SEGMENTS).values)
    values = np.concatenate(parts)
    fourth = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    count = values.size
    return {
        "keys, segments each": f"{KEYS}, {SEGMENTS}",
        "mean": f"{values.mean():+.4f} (standard error {count**-0.5:.4f})",
        "variance": f"{values.var():.4f} ({(2 / count) ** 0.5:.4f})",
        "excess kurtosis": f"{fourth - 3:+.4f} ({(24 / count) ** 0.5:.4f})",
    }


def off_the_grid(held: Held, dtype: str) -> Held:
    """Return the weights with a little noise, in `dtype`."""
    generator = np.random.default_rng(2)
    made: Arrays = {}
    for name, one in held.arrays.items():
        wide = one.astype(np.float32)
        made[name] = (wide + NOISE * wide.std() * generator.standard_normal(wide.shape, np.float32)).astype(
            DTYPES[dtype]
        )
    return Held(made, dtype)


def achieved(held: Held, number: int) -> dict[str, object]:
    """Return how far a marked copy's values are from what was asked for."""
    where: Projections = find_projections(held.infos())
    streams = Streams.of(keys(number))
    dealt = deal(keys(number).segments, where.units, SEGMENTS)
    found = survey(held, where, streams.chips)
    own = by_segment(found.sums, dealt, SEGMENTS)
    code = np.random.default_rng(3).choice([-1.0, 1.0], SEGMENTS)
    target = PUSH * code - HOST_SHARE * own.values
    alpha = target / np.sqrt(own.counts)
    copy = Held({name: one.copy() for name, one in held.arrays.items()}, next(iter(held.infos().values())).dtype)
    apply(Embedding(where, found.sigma, units=alpha[dealt], streams=streams), copy)
    got = by_segment(survey(copy, where, streams.chips).sums, dealt, SEGMENTS).values
    changed = by_segment(differences(copy, Original(held, found.sigma), where, chips=streams.chips), dealt, SEGMENTS)
    return {
        "mark, root mean square, share of a unit's spread": round(float(np.sqrt((alpha**2).mean())), 5),
        "blind value less what was asked for: standard deviation": round(float((got - target - own.values).std()), 4),
        "its slope on what was asked for": round(float(np.polyfit(target, got - own.values, 1)[0]), 4),
        "against the original: change kept, to what was asked for": round(
            float(np.polyfit(target, changed.correlations / np.sqrt(changed.counts), 1)[0]), 4
        ),
        "against the original: root mean square value": round(float(np.sqrt((changed.values**2).mean())), 1),
    }


def main() -> dict[str, object]:
    """Return all figures."""
    held = real()
    return {
        "speed": {dtype: speed(dtype) for dtype in DTYPES},
        "real weights without a mark": unmarked(held),
        "real weights, blocks on a coarse grid": f"{coarse_share(held, find_projections(held.infos())):.1%}",
        f"marked, moved by {PUSH} times the code less {HOST_SHARE} of the host": {
            dtype: achieved(off_the_grid(held, dtype), 100) for dtype in DTYPES
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    figures = main()
    print(json.dumps(figures, indent=1))
    if target is not None:
        target.write_text(json.dumps(figures, indent=1) + "\n")
