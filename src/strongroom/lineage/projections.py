"""Which tensors carry marks: the MLP projections of a checkpoint, and the hidden units that their rows or columns are.

A hidden unit has a row in every projection into the hidden space (gate, up) and a column in the one out of it (down).
All that belongs to a unit is marked alike, so that it can be found again when somebody has shuffled the units.
Attention is left alone: there, whole subspaces can be rotated without a trace. Biases are too few to matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import NothingToMark
from strongroom.ports.marks import TensorInfo

PLAIN: Final = frozenset({"F16", "BF16", "F32"})


@dataclass(frozen=True, slots=True)
class _Role:
    """What a module's name says: whether it leads into the hidden space, and how to be sure."""

    into: bool
    fused: bool = False  # may hold gate and up one after the other: row r and row r + h are one unit
    shared: bool = False  # others use the name too: only under an MLP's path
    conv: bool = (
        False  # GPT-2's Conv1D is stored transposed, its copies as Linear are not: the wider side is the hidden
    )


_ROLES: Final[Mapping[str, _Role]] = {
    "gate_proj": _Role(into=True),  # Llama, Mistral, Qwen, Gemma …
    "up_proj": _Role(into=True),
    "down_proj": _Role(into=False),
    "gate_up_proj": _Role(into=True, fused=True),  # Phi-3
    "w1": _Role(into=True, shared=True),  # Mixtral, InternLM2, Meta's own Llama
    "w3": _Role(into=True, shared=True),
    "w2": _Role(into=False, shared=True),
    "fc1": _Role(into=True),  # OPT, Phi-2, Whisper, CLIP
    "fc2": _Role(into=False),
    "fc_in": _Role(into=True),  # GPT-J, CodeGen
    "fc_out": _Role(into=False),
    "dense_h_to_4h": _Role(into=True, fused=True),  # GPT-NeoX, Bloom, Falcon; fused in ChatGLM
    "dense_4h_to_h": _Role(into=False),
    "c_fc": _Role(into=True, shared=True, conv=True),  # GPT-2, StarCoder
    "c_proj": _Role(into=False, shared=True, conv=True),
}
_MLP_PATHS: Final = frozenset({"mlp", "ffn", "feed_forward", "feedforward", "block_sparse_moe", "experts", "moe"})
_AXES: Final = 2
_DIGITS: Final = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Projection:
    """A tensor that carries marks. Its lines are its rows (`axis` 0) or its columns (1)."""

    name: str
    dtype: str
    shape: tuple[int, int]
    axis: int
    first_unit: int  # the number, over the whole checkpoint, of the unit of line 0
    units: int  # how many hidden units its block has: as many as lines, or half if it is fused

    @property
    def lines(self) -> int:
        """How many rows or columns belong to units."""
        return self.shape[self.axis]

    @property
    def weights(self) -> int:
        """How many elements it has."""
        return self.shape[0] * self.shape[1]

    @property
    def block(self) -> slice:
        """Where its units stand among the checkpoint's."""
        return slice(self.first_unit, self.first_unit + self.units)

    def per_unit(self, lines: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up a figure per line (lines,) to one per unit of its block (units,)."""
        return lines.reshape(-1, self.units).sum(axis=0)

    def per_line(self, units: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return a figure per unit of the checkpoint (units,) as one per line (lines,)."""
        return np.tile(units[self.block], self.lines // self.units)

    def lines_of(self, first: int, rows: int) -> slice:
        """Return which lines the `rows` rows from `first` on have a part of: these rows, or every column."""
        return slice(first, first + rows) if self.axis == 0 else slice(None)

    def along(self, lines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return a figure per line as a matrix that broadcasts along whole rows."""
        return lines[:, None] if self.axis == 0 else lines[None, :]


@dataclass(frozen=True, slots=True)
class Projections:
    """All that carries marks in a checkpoint, in the order in which the units are numbered."""

    tensors: tuple[Projection, ...]
    units: int

    @property
    def weights(self) -> int:
        """How many weights there are to mark."""
        return sum(one.weights for one in self.tensors)


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    role: _Role
    info: TensorInfo

    @property
    def axis(self) -> int:
        """Which axis counts hidden units."""
        rows, columns = self.info.shape
        if self.role.conv and rows != columns:
            return int(columns > rows)
        return int(self.role.into == self.role.conv)

    @property
    def lines(self) -> int:
        """How long that axis is."""
        return self.info.shape[self.axis]


def find_projections(infos: Mapping[str, TensorInfo]) -> Projections:
    """Return the MLP projections among the tensors `infos`, whatever their order, with all hidden units numbered.

    Raises:
        NothingToMark: there are none, they are quantised, or the projections of a block differ in their hidden width.

    """
    blocks = _blocks(infos)
    tensors: list[Projection] = []
    first = 0
    for prefix in sorted(blocks, key=_natural):
        units = _hidden_width(prefix, blocks[prefix])
        tensors += [
            Projection(one.name, one.info.dtype, _pair(one.info.shape), one.axis, first, units)
            for one in sorted(blocks[prefix], key=lambda one: _natural(one.name))
        ]
        first += units
    return Projections(tuple(tensors), first)


def _blocks(infos: Mapping[str, TensorInfo]) -> dict[str, list[_Found]]:
    """Return the blocks, by prefix, that have plain projections both into their hidden space and out of it."""
    found: dict[str, list[_Found]] = {}
    for name, info in infos.items():
        role = _role(name)
        if role is not None and len(info.shape) == _AXES and min(info.shape) > 0:
            found.setdefault(name.rsplit(".", 2)[0], []).append(_Found(name, role, info))
    whole = {prefix: block for prefix, block in found.items() if _both_ways(block)}
    if not whole:
        raise NothingToMark(f"no MLP projections among its {len(infos)} tensors", where="checkpoint")
    for block in whole.values():
        for one in block:
            if one.info.dtype not in PLAIN:  # a mark in the other blocks would leave this one as it is
                message = f"its MLP projections are quantised or not in 16 or 32 bits ({one.info.dtype})"
                raise NothingToMark(message, where=f"tensor {one.name!r}")
    return whole


def _both_ways(block: Iterable[_Found]) -> bool:
    return {one.role.into for one in block} == {True, False}


def _role(name: str) -> _Role | None:
    """Return what the tensor's `name` makes it, or None."""
    *path, module, leaf = ["", "", *name.split(".")]
    role = _ROLES.get(module)
    if leaf != "weight" or role is None or any("attn" in part or "attention" in part for part in path):
        return None
    return None if role.shared and _MLP_PATHS.isdisjoint(path) else role


def _hidden_width(prefix: str, block: Iterable[_Found]) -> int:
    """Return how many hidden units the block has."""
    units = min(one.lines for one in block if not one.role.into)
    for one in block:
        if one.lines != units and not (one.role.fused and one.lines == 2 * units):
            message = f"its block {prefix!r} has {units} hidden units, but {one.name!r} has {one.lines}"
            raise NothingToMark(message, where="checkpoint")
    return units


def _natural(name: str) -> tuple[tuple[int | str, ...], str]:
    """Return a key that sorts numbers in names by value: layers.2 before layers.10."""
    parts = _DIGITS.split(name)
    return tuple(int(part) if at % 2 else part for at, part in enumerate(parts)), name


def _pair(shape: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = shape
    return rows, columns
