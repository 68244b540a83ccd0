"""What the mark costs of a decode step: the demo's model in float32, one thread, batches of 1 and of 8.

Four batches take turns, step by step, in one run, so that noise falls on all alike:

    marked    every draw's seed comes from the account's key and the last tokens
    unmarked  the same draw, every seed fresh: what an account without a mark costs
    plain     no such draw at all: torch.multinomial over the softmax, as engines elsewhere do it
    greedy    no draw: the largest logit

A step's cost is its CPU time, user plus system over all threads; figures are medians over the steps. `share` is what
a step costs more than a plain one, of the plain one: what the mark's arithmetic costs in all. Text and prompts are the
same for all; temperature 1, no top-k, no top-p: the whole vocabulary is in the draw.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from strongroom.core.secrets import Secret
from strongroom.engines import decode
from strongroom.engines.decode import Batch
from strongroom.engines.demo_model import demo_model
from strongroom.engines.row import Order
from strongroom.engines.torch_tensors import make_tensor
from strongroom.engines.transformers_engine import Engine
from strongroom.ports.engine import Sampling
from strongroom.watermark.keys import MarkKey

STEPS = 60
WARM = 6
KEY = MarkKey("bench", "2026-11", Secret(bytes(range(16))))
PROMPT = "The harbour town wakes before the sun does, and the first boats"
KINDS = ("marked", "unmarked", "plain", "greedy")


class Plain:
    """A plain directory as a source of weights."""

    def __init__(self, directory: Path) -> None:
        """Read all of `directory`."""
        self.blobs = {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}
        raw = bytearray(self.blobs["model.safetensors"])
        length = int.from_bytes(raw[:8], "little")
        self.header = json.loads(raw[8 : 8 + length])
        self.header.pop("__metadata__", None)
        self.view = memoryview(raw)[8 + length :]

    def keys(self) -> list[str]:
        """Return the tensors' names."""
        return list(self.header)

    def get_tensor(self, name: str) -> object:
        """Return a tensor."""
        entry = self.header[name]
        return make_tensor(self.view[slice(*entry["data_offsets"])], entry["dtype"], tuple(entry["shape"]))

    def files(self) -> list[str]:
        """Return the files' names."""
        return list(self.blobs)

    def read_file(self, path: str) -> bytes:
        """Return a file."""
        return self.blobs[path]


def multinomial(logits: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Draw as engines elsewhere do."""
    del seeds
    return torch.multinomial(torch.from_numpy(logits).softmax(-1), 1)[:, 0].numpy()


@contextmanager
def drawing(kind: str) -> Iterator[None]:
    """Let the loop draw as `kind` does."""
    original = decode.choose
    if kind == "plain":
        decode.choose = multinomial  # type: ignore[assignment] - a benchmark looks inside
    try:
        yield
    finally:
        decode.choose = original


def batch_of(engine: Engine, kind: str, rows: int) -> Batch:
    """Return a batch of `rows` rows that go on for as long as the benchmark does."""
    batch = engine.batch()
    heat = 0.0 if kind == "greedy" else 1.0
    for row in range(rows):
        sampling = Sampling(max_new_tokens=4 * STEPS, temperature=heat, seed=row)
        order = Order(ids=engine.tokens.encode(PROMPT), room=4 * STEPS, sampling=sampling)
        batch.join(engine.row(order, KEY if kind == "marked" else None))
    return batch


def steps(engine: Engine, rows: int) -> dict[str, list[float]]:
    """Return the CPU seconds of every step of every kind, taken in turns."""
    batches = {kind: batch_of(engine, kind, rows) for kind in KINDS}
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(WARM + STEPS):
        for kind in KINDS if turn % 2 else reversed(KINDS):
            with drawing(kind):
                start = time.process_time()
                batches[kind].step()
                spent = time.process_time() - start
            if turn >= WARM:
                taken[kind].append(spent)
    return taken


def figures(taken: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return medians in milliseconds, the middle half's width, and the share over a plain step."""
    plain = statistics.median(taken["plain"])
    found: dict[str, dict[str, float]] = {}
    for kind, values in taken.items():
        low, middle, high = statistics.quantiles(values, n=4)
        share = 100 * statistics.median(a - b for a, b in zip(values, taken["plain"], strict=True)) / plain
        found[kind] = {
            "cpu_ms": round(middle * 1e3, 2),
            "middle_half_ms": round((high - low) * 1e3, 2),
            "share_percent": round(share, 2),
        }
    return found


def main() -> dict[str, object]:
    """Measure."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        engine = Engine.load(Plain(demo_model(Path(place))))
    engine._ends = frozenset()  # noqa: SLF001 - so that no row leaves, and all batches stay of one size
    engine.model.float()  # type: ignore[attr-defined] - a torch module
    with torch.inference_mode():
        batches = {f"batch of {rows}": figures(steps(engine, rows)) for rows in (1, 8)}
    return {"steps": STEPS, "threads": torch.get_num_threads(), "step": batches}


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
