"""Was a low-rank adapter trained on a checkpoint: by what its second factors (out, rank) learnt of their own layer.

An adapter holds no weights of its base, but its B starts at zero, and each of its rows is moved by the gradient of one
line: an up projection's row by what its hidden unit writes to the residual stream, a value projection's by what its
dimension writes there by way of the output projection. So lines that write alike have rows alike. The agreement of the
two is compared with what it is when the checkpoint's lines are shuffled: under the null they are numbered at random
(`lineage.exact`), so the rank among shuffles is an exact p-value, layer by layer, and Fisher's product puts the layers
together. It takes numberings that are independent: of layers that are copies of each other, the first counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.adapters import adapter_pairs
from strongroom.lineage.anatomy import matrix
from strongroom.lineage.exact import fixed_points
from strongroom.lineage.layers import COPIED
from strongroom.lineage.model import Model
from strongroom.lineage.units import nearest, spread, unit_length
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

SHUFFLES: Final = 399
_SAMPLE: Final = 128  # lines, and columns of them, by which copies are told
_DIMENSIONS: Final = 128  # to which what is written is projected at random
_BLOCK: Final = 16  # dimensions that are shuffled among each other: of one head, whatever its size
_HEADS: Final = (64, 128, 32, 80, 96, 256, 16)  # sizes of a head, the likeliest first


def adapter_ranks(source: Model, suspect: Tensors) -> tuple[int, ...]:
    """Return, of each of an adapter's layers, how many shuffles of the checkpoint's lines fit at least as well.

    Layers that are copies of each other, in the checkpoint or in the adapter, count once.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    pairs = adapter_pairs(suspect.infos())
    chance = np.random.default_rng(0)  # of no influence on what is tested: any will do, the same one repeats
    ranks: list[int] = []
    seen: list[tuple[F32, F32]] = []
    for learnt, written, block in _lines(source, suspect, pairs):
        sample = _sample(learnt), _sample(written)
        if not any(_copied(sample[0], one) or _copied(sample[1], other) for one, other in seen):
            seen.append(sample)
            ranks.append(_rank(learnt, written, block, chance=chance))
    return tuple(ranks)


def log10_p_of_ranks(ranks: Sequence[int], shuffles: int) -> float:
    """Return log10 of the p-value of independent ranks among so many shuffles each (Fisher's product)."""
    if not ranks or shuffles < 1:
        return 0.0
    total = -sum(math.log((1 + rank) / (shuffles + 1)) for rank in ranks)
    if total <= 0:
        return 0.0
    # P(product of n uniform numbers <= x) is x times the sum of (-ln x)^k / k! for k < n
    logs = [k * math.log(total) - math.lgamma(k + 1) for k in range(len(ranks))]
    top = max(logs)
    return min(0.0, (top + math.log(sum(math.exp(one - top) for one in logs)) - total) / math.log(10))


def _lines(source: Model, suspect: Tensors, pairs: Mapping[str, tuple[str, str]]) -> Iterator[tuple[F32, F32, int]]:
    """Yield what was learnt of lines (lines, rank), what they write (lines, any), and how many may be shuffled."""
    names = {_ending(name): pair for name, pair in pairs.items()}
    for layer in source.body.layers:
        for part, writer in (("up", "down"), ("value", "output")):
            name, writes = layer[part], layer[writer]
            pair = names.get(_ending(name)) if name else None
            if pair is None or writes is None:
                continue
            learnt, written = matrix(suspect, pair[1]), matrix(source.weights, writes).T
            if part == "value":
                found = _by_head(written, len(learnt))
                if found is not None:
                    yield learnt, found, _BLOCK
            elif len(learnt) == len(written):
                yield learnt, written, len(learnt)


def _sample(lines: F32) -> F32:
    chosen, columns = spread(len(lines), _SAMPLE), spread(lines.shape[1], _SAMPLE)
    return unit_length(lines[np.ix_(chosen, columns)])


def _copied(one: F32, other: F32) -> bool:
    """Whether two samples of lines are the same, or a tenth are each other's nearest under one number."""
    if one.shape != other.shape:
        return False
    return np.array_equal(one, other) or fixed_points(nearest(one @ other.T)) >= COPIED * len(one)


def _by_head(written: F32, values: int) -> F32 | None:
    """Return what each value dimension writes, by all query heads that share it; None if heads can't be told."""
    if values == len(written):
        return written
    if values < _BLOCK or len(written) % values or values % _BLOCK:
        return None
    groups = len(written) // values
    size = next(size for size in _HEADS if values % size == 0)
    return written.reshape(-1, groups, size, written.shape[1]).mean(axis=1).reshape(values, -1)


def _rank(learnt: F32, written: F32, block: int, *, chance: np.random.Generator) -> int:
    """Return how many of the shuffles, within blocks, fit at least as well as the order that is."""
    mix = chance.standard_normal((written.shape[1], min(_DIMENSIONS, written.shape[1]))).astype(np.float32)
    ours, theirs = unit_length(written @ mix), unit_length(learnt)
    fit = _fit(theirs, ours)
    if not ours.any() or not theirs.any() or not math.isfinite(fit):
        return SHUFFLES
    start = np.arange(len(ours)) // block * block
    shuffles = (np.lexsort((chance.random(len(ours)), start)) for _ in range(SHUFFLES))
    return sum(1 for order in shuffles if not _fit(theirs, ours[order]) < fit)


def _fit(learnt: F32, written: F32) -> float:
    """Return how far lines that write alike have learnt alike: the sum of the products of their cosines."""
    return float(np.square(learnt.T @ written).sum(dtype=np.float64))


def _ending(name: str | None) -> str:
    """Return a tensor's name from its layer on."""
    return name[name.find("layers.") :] if name and "layers." in name else name or ""


def adapts(source_width: int, hidden: Sequence[int], suspect: Tensors) -> bool:
    """Whether an adapter's factors could belong to a checkpoint of these sizes."""
    infos = suspect.infos()
    for name, (down, up) in adapter_pairs(infos).items():
        if ".up_proj" in name or ".gate_proj" in name:
            return infos[down].shape[1] == source_width and infos[up].shape[0] in set(hidden)
        if ".q_proj" in name or ".v_proj" in name:
            return infos[down].shape[1] == source_width
    return True
