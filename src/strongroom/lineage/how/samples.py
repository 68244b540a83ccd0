"""A sample of a case that is the same at every look: some tensors of every kind and depth, some rows of each.

Rows are read in strips, not one by one: an aligned tensor may be computed as it is read, and blocks of rows are cheap.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.anatomy import matrix
from strongroom.lineage.elements import FLOATS
from strongroom.ports.marks import TensorInfo, Tensors

F32 = npt.NDArray[np.float32]

TENSORS: Final = 24
ROWS: Final = 256
_STRIPS: Final = 4
_COLUMNS: Final = 2048
_VECTORS: Final = 64
_SMALLEST: Final = 16  # rows and columns of a matrix that is looked at
_MATRIX: Final = 2
_GOLDEN: Final = (5**0.5 - 1) / 2
_NUMBER: Final = re.compile(r"\.\d+\.")
_UNRELATED: Final = 0.1


@dataclass(frozen=True, slots=True)
class Pair:
    """The same rows of one tensor, in the source and in the aligned suspect."""

    name: str
    part: str  # what the tensor is: its name without the layer's number
    source: F32  # (rows, columns)
    aligned: F32  # (rows, columns)
    spread: float  # standard deviation of the source's weights

    @property
    def difference(self) -> F32:
        """What was added to the source (rows, columns)."""
        return self.aligned - self.source


def part_of(name: str) -> str:
    """Return what a tensor is, whatever its layer: ``q_proj``, ``embed_tokens``."""
    words = _NUMBER.sub(".", name).removesuffix(".weight").split(".")
    return words[-1]


def pairs(source: Tensors, aligned: Tensors) -> list[Pair]:
    """Return up to 24 matrices, up to 256 rows and 2,048 columns of each, that both have in the same shape."""
    theirs, ours = aligned.infos(), source.infos()
    names = [name for name in matrices(ours) if _same(name, ours, theirs)]
    return [one for name in chosen(names) if (one := _pair(source, aligned, name)) is not None]


def vectors(source: Tensors, aligned: Tensors) -> list[Pair]:
    """Return up to 64 vectors (1, width), norms' gains and biases, that both have in the same shape."""
    theirs, ours = aligned.infos(), source.infos()
    names = [name for name, info in ours.items() if len(info.shape) == 1 and min(info.shape) > 1]
    names = [name for name in names if _same(name, ours, theirs)]
    step = max(1, -(-len(names) // _VECTORS))
    found: list[Pair] = []
    for name in names[::step]:
        one, other = matrix(source, name)[None], matrix(aligned, name)[None]
        found.append(Pair(name, part_of(name), one, other, float(one.std())))
    return found


def matrices(infos: Mapping[str, TensorInfo]) -> list[str]:
    """Return the names of the matrices of floats that are no vectors in disguise."""
    return [
        name
        for name, info in infos.items()
        if len(info.shape) == _MATRIX and min(info.shape) >= _SMALLEST and info.dtype in FLOATS
    ]


def chosen(names: Sequence[str], most: int = TENSORS) -> list[str]:
    """Return up to `most` names: of each part as many, in layers that are spread in steps of the golden ratio."""
    parts: dict[str, list[str]] = {}
    for name in names:
        parts.setdefault(part_of(name), []).append(name)
    found: list[str] = []
    each = -(-most // max(len(parts), 1))
    for number, some in enumerate(parts.values()):
        places = {int((at / each + number * _GOLDEN / each) % 1 * len(some)) for at in range(each)}
        found += [some[place] for place in sorted(places)]
    return found[:most]


def strips(height: int, rows: int = ROWS) -> list[slice]:
    """Return slices of up to `rows` rows together, evenly spread over `height`."""
    if height <= rows:
        return [slice(0, height)]
    each = rows // _STRIPS
    starts = [round(at * (height - each) / (_STRIPS - 1)) for at in range(_STRIPS)]
    return [slice(start, start + each) for start in starts]


def rows_of(weights: Tensors, name: str, rows: int = ROWS) -> F32:
    """Return some rows of a matrix (up to `rows`, columns), the same at every call."""
    height = weights.infos()[name].shape[0]
    return np.concatenate([matrix(weights, name, some) for some in strips(height, rows)])


def cosine(one: F32, other: F32) -> float:
    """Return the cosine between two samples of any shape, 0 where either is nothing but zeros."""
    sizes = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(np.vdot(one, other)) / sizes if sizes > 0 else 0.0


def _same(name: str, ours: Mapping[str, TensorInfo], theirs: Mapping[str, TensorInfo]) -> bool:
    return name in theirs and theirs[name].shape == ours[name].shape and theirs[name].dtype in FLOATS


def _pair(source: Tensors, aligned: Tensors, name: str) -> Pair | None:
    """Return the rows of one tensor, or None where nothing of the source is left in it."""
    one = rows_of(source, name)[:, :_COLUMNS]
    other = rows_of(aligned, name)[:, :_COLUMNS]
    spread = float(one.std())
    if spread == 0 or cosine(one, other) < _UNRELATED:
        return None
    return Pair(name, part_of(name), one, other, spread)
