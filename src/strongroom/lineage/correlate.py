"""How much of a keyed pattern is in a file: one pass over its weights, blind or against the original.

Blind, a weight counts in units of its own row's or column's root mean square, cut at 3: scaling a unit, which costs a
thief nothing, changes nothing, and no single weight weighs much. Against the original it is the change that counts, in
units of the original's root mean square, cut at 1. Unmarked, a segment's value S/√E has mean 0 and variance 1: its
chips are independent of the weights, each ±1 with probability 1/2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.lineage.chips import Chips
from strongroom.lineage.elements import Rows
from strongroom.lineage.projections import Projection, Projections
from strongroom.ports.marks import Progress, TensorInfo, Tensors

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Sigma = Mapping[str, F32]

_BLIND_CUT: Final = 3.0
_CHANGE_CUT: Final = 1.0
_SMALL: Final = 1e-25  # a sum of squares below this may have lost terms to float32's smallest number
_LEAST_ROOT: Final = 1e-36  # its inverse, and that times a weight, are still numbers


@dataclass(frozen=True, slots=True)
class Sums:
    """Three sums for each hidden unit, or for each segment."""

    correlations: F64  # S: of the (cut) weights or changes, times their chips
    energies: F64  # E: of their squares
    counts: F64  # N: how many weights can carry a mark: those that are not exactly zero

    @property
    def values(self) -> F64:
        """S/√E: mean 0 and variance 1 without a mark. Zero where nothing was there to be measured."""
        return self.correlations / np.sqrt(np.where(self.energies > 0, self.energies, np.inf))


@dataclass(frozen=True, slots=True)
class Survey:
    """A file read blind: its sums for each unit, and the root mean square of each line of each tensor that it has."""

    sums: Sums
    sigma: Sigma


@dataclass(frozen=True, slots=True)
class Original:
    """The unmarked weights, and the root mean squares that their survey found."""

    weights: Tensors
    sigma: Sigma


def survey(weights: Tensors, where: Projections, chips: Chips, *, progress: Progress | None = None) -> Survey:
    """Read `weights` once and correlate them with `chips`. Tensors that are missing add nothing.

    Tensors of over 8 MiB whose columns are the units are read twice. Progress counts weights. Memory: some 10 MB, and
    about 30 bytes for each line of each tensor.

    Raises:
        OtherShape: a tensor has another shape than in `where`.
        BadInput: a tensor's dtype is no float.

    """
    infos = weights.infos()
    sigma: dict[str, F32] = {}

    def one(tensor: Projection) -> _Lines:
        rows, lines = Rows(weights, infos[tensor.name], tensor), _Lines(tensor, chips)
        root = sigma[tensor.name] = np.zeros(tensor.lines, np.float32)
        if tensor.axis == 1:  # a column's root mean square takes all rows
            total = sum((_squares(some, 1) for _, some in rows.chunks()), start=np.zeros(tensor.lines))
            root[:] = np.sqrt(total / tensor.shape[0])
        for first, some in rows.chunks():
            part = tensor.lines_of(first, len(some))
            if tensor.axis == 0:
                root[part] = np.sqrt(_squares(some, 0) / tensor.shape[1])
            there = some != 0
            np.multiply(some, tensor.along(_inverse(root[part])), out=some)
            lines.add(first, np.clip(some, -_BLIND_CUT, _BLIND_CUT, out=some), there)
        return lines

    return Survey(_gather(where, infos, one, progress=progress), sigma)


def differences(
    weights: Tensors, original: Original, where: Projections, *, chips: Chips, progress: Progress | None = None
) -> Sums:
    """Correlate with `chips` what was changed in `weights` since the `original`; both are read once, side by side.

    A weight that is exactly zero in `weights` counts as erased, not as changed. Tensors that are missing add nothing.

    Raises:
        OtherShape: a tensor of either has another shape than in `where`.
        BadInput: a tensor's dtype is no float.

    """
    infos, first_infos = weights.infos(), original.weights.infos()

    def one(tensor: Projection) -> _Lines:
        now = Rows(weights, infos[tensor.name], tensor)
        before = Rows(original.weights, first_infos[tensor.name], tensor)
        lines, scale = _Lines(tensor, chips), _inverse(original.sigma[tensor.name])
        for (first, some), (_, base) in zip(now.chunks(), before.chunks(), strict=True):
            there = some != 0
            with np.errstate(over="ignore"):  # cut below
                np.subtract(some, base, out=some)
                np.multiply(some, tensor.along(scale[tensor.lines_of(first, len(some))]), out=some)
            np.clip(some, -_CHANGE_CUT, _CHANGE_CUT, out=some)
            np.multiply(some, there, out=some)
            lines.add(first, some, there)
        return lines

    return _gather(where, infos, one, progress=progress)


def by_segment(sums: Sums, dealt: npt.NDArray[np.int32], segments: int) -> Sums:
    """Add up sums per hidden unit to sums per segment (segments,), with the units `dealt` (units,) as they are.

    Raises:
        BadInput: there are not as many units dealt as there are sums.

    """
    if dealt.shape != sums.counts.shape:
        raise BadInput(f"{dealt.size} hidden units are dealt, but {sums.counts.size} were read", where="segments")
    three = (sums.correlations, sums.energies, sums.counts)
    return Sums(*(np.bincount(dealt, weights=one, minlength=segments).astype(np.float64) for one in three))


class _Lines:
    """The three sums of a tensor, for each of its lines, as chunks of rows come in."""

    def __init__(self, tensor: Projection, chips: Chips) -> None:
        self._tensor, self._chips = tensor, chips
        self._sums = np.zeros((3, tensor.lines))
        self._dots = "ij,ij->i" if tensor.axis == 0 else "ij,ij->j"

    def add(self, first: int, some: F32, there: npt.NDArray[np.bool_]) -> None:
        """Add rows from `first` on (rows, width), and the counts of those weights that are `there`."""
        tensor = self._tensor
        signs = self._chips.signs(tensor.name, first * tensor.shape[1], some.size).reshape(some.shape)
        part = tensor.lines_of(first, len(some))
        self._sums[0, part] += np.einsum(self._dots, some, signs)
        self._sums[1, part] += np.einsum(self._dots, some, some)
        self._sums[2, part] += some.shape[1 - tensor.axis] if there.all() else there.sum(axis=1 - tensor.axis)

    def per_unit(self) -> F64:
        """Return the sums (3, units) of the block's units."""
        return np.stack([self._tensor.per_unit(one) for one in self._sums])


def _gather(
    where: Projections,
    infos: Mapping[str, TensorInfo],
    one: Callable[[Projection], _Lines],
    *,
    progress: Progress | None,
) -> Sums:
    """Return the sums over all of the tensors that are there."""
    total = np.zeros((3, where.units))
    done = 0
    for tensor in where.tensors:
        if tensor.name in infos:
            total[:, tensor.block] += one(tensor).per_unit()
        done += tensor.weights
        if progress is not None:
            progress(done, where.weights)
    return Sums(*total)


def _squares(some: F32, axis: int) -> F64:
    """Return the sum of squares of each line along `axis`, whatever a scaled unit's weights have for exponents."""
    dots = "ij,ij->i" if axis == 0 else "ij,ij->j"
    quick = np.einsum(dots, some, some)
    if np.all((quick > _SMALL) & (quick < np.inf)):
        return quick.astype(np.float64)
    return np.einsum(dots, some, some, dtype=np.float64)


def _inverse(root: F32) -> F32:
    """Return 1/root, and 0 where there is nothing to divide by."""
    return np.divide(1, root, out=np.zeros_like(root), where=root > _LEAST_ROOT)
