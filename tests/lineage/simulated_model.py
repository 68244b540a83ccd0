"""A small decoder with the statistics of a trained one, and what is done to it: in numpy, with known parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from strongroom.lineage.findings import Finding
from strongroom.lineage.how.case import Case
from strongroom.lineage.how.derive import derived
from strongroom.ports.marks import Tensors
from strongroom.ports.suspects import Storage
from tests.lineage.tensors import DTYPES, Held

F32 = npt.NDArray[np.float32]
Model = dict[str, F32]
Change = Callable[[Model], Model]

WIDTH, HIDDEN, LAYERS, TOKENS = 256, 512, 3, 1024
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH // 2, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}


class Turned(Held):
    """A suspect in memory."""

    def __init__(self, arrays: Mapping[str, npt.NDArray[Any]], kinds: Mapping[str, str] | None = None) -> None:
        super().__init__(arrays)
        said = kinds or {name: info.dtype for name, info in self.infos().items()}
        self._storage = Storage(format="gguf" if kinds else "safetensors", kinds=said)

    def tokens(self) -> None:
        return None

    def storage(self) -> Storage:
        return self._storage


def model(seed: int) -> Model:
    """Return weights, in bfloat16's values, whose rows and columns have spreads of their own."""
    rng = np.random.default_rng(seed)
    made = {"model.embed_tokens.weight": _matrix(rng, (TOKENS, WIDTH), 0.13)}
    for layer in range(LAYERS):
        for part, shape in SHAPES.items():
            made[f"model.layers.{layer}.{part}.weight"] = _matrix(rng, shape, 0.2)
        made[f"model.layers.{layer}.input_layernorm.weight"] = (0.4 + 0.1 * rng.normal(size=WIDTH)).astype(np.float32)
    return {name: one.astype(DTYPES["BF16"]).astype(np.float32) for name, one in made.items()}


def _matrix(rng: np.random.Generator, shape: tuple[int, int], spread: float) -> F32:
    rows, columns = np.exp(0.2 * rng.normal(size=(shape[0], 1))), np.exp(0.15 * rng.normal(size=(1, shape[1])))
    return (rng.normal(size=shape) * rows * columns * spread).astype(np.float32)


def matrices(change: Callable[[F32], Any], only: Sequence[str] = ()) -> Change:
    """Return a change of every matrix, or of those whose names hold one of `only`."""

    def changed(some: Model) -> Model:
        return {
            name: np.asarray(change(one), np.float32)
            if one.ndim == 2 and (not only or any(word in name for word in only))
            else one
            for name, one in some.items()
        }

    return changed


def projections(change: Callable[[F32], Any]) -> Change:
    return matrices(change, ("_proj",))


def noise(sigma: float) -> Change:
    rng = np.random.default_rng(5)
    return matrices(lambda one: one + rng.normal(size=one.shape) * sigma * one.std())


def lora(rank: int, size: float, only: Sequence[str] = ("_proj",)) -> Change:
    """Return a product of two thin matrices, added."""
    rng = np.random.default_rng(6)

    def added(one: F32) -> Any:
        low = rng.normal(size=(one.shape[0], rank)) @ rng.normal(size=(rank, one.shape[1]))
        return one + low / low.std() * size * one.std()

    return matrices(added, only)


def trained(size: float, seed: int = 7) -> Change:
    """Return what training does: many directions of falling size, by part, and gains that move."""
    rng = np.random.default_rng(seed)

    def added(some: Model) -> Model:
        made: Model = {}
        for name, one in some.items():
            if one.ndim == 1:
                made[name] = (one + 0.03 * one.std() * rng.normal(size=one.shape)).astype(np.float32)
                continue
            count = min(one.shape)
            sizes = 1 / (1 + np.arange(count)) ** 0.4
            step = (rng.normal(size=(one.shape[0], count)) * sizes) @ rng.normal(size=(count, one.shape[1]))
            much = size * (4 if "embed" in name else np.exp(0.3 * rng.normal()))
            made[name] = (one + step / step.std() * much * one.std()).astype(np.float32)
        return made

    return added


def merged(other: Model, weight: float) -> Change:
    return lambda some: {
        name: ((1 - weight) * one + weight * other[name]).astype(np.float32) for name, one in some.items()
    }


def least(share: float) -> Change:
    return projections(lambda one: np.where(np.abs(one) <= np.quantile(np.abs(one), share), 0, one))


def stored(some: Model, dtype: str) -> dict[str, npt.NDArray[np.generic]]:
    return {name: one.astype(DTYPES[dtype]) for name, one in some.items()}


def findings(source: Model, suspect: Model, dtype: str, mixes: Mapping[str, Tensors] | None = None) -> list[Finding]:
    """Return how a suspect, stored in `dtype`, was derived from a source in bfloat16."""
    file = Turned(stored(suspect, dtype))
    case = Case(source=Held(stored(source, "BF16")), aligned=file, suspect=file, mixes=mixes or {})
    return list(derived(case).findings)
