"""From a file's weights to the values of its segments: blind, or against the original. Neither looks at any code.

Tensors of another shape, or of a dtype that is no float, count as absent: padding one must not hide the others. Values
are rounded to three decimals: what evidence publishes then tells no more of the segments than a verdict takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import OtherShape
from strongroom.lineage.chips import Chips
from strongroom.lineage.correlate import Original, by_segment, differences, survey
from strongroom.lineage.decode import Reading
from strongroom.lineage.elements import FLOATS, shown
from strongroom.lineage.keys import CheckpointKeys
from strongroom.lineage.projections import Projections
from strongroom.lineage.segments import deal
from strongroom.ports.marks import Progress, TensorInfo, Tensors

F64 = npt.NDArray[np.float64]

_DECIMALS: Final = 3  # of a value whose standard deviation is 1


def blind(
    suspect: Tensors, where: Projections, keys: CheckpointKeys, *, segments: int, progress: Progress | None = None
) -> Reading:
    """Return the values S/√E of the suspect's segments (segments,), read by itself.

    Raises:
        OtherShape: it has tensors of the checkpoint's names, and none of them fits.

    """
    part = fitting(suspect, where)
    seen = survey(part, where, Chips(keys.chips), progress=progress)
    sums = by_segment(seen.sums, deal(keys.segments, where.units, segments), segments)
    return Reading("blind", _rounded(np.where(sums.energies > 0, sums.values, np.nan)), _share(part, where))


def against_original(
    suspect: Tensors, original: Tensors, where: Projections, *, keys: CheckpointKeys, segments: int
) -> Reading:
    """Return the values of what was changed since the `original`, without what the mark took of the host's own.

    A mark takes a share of the host's own value away (`lineage.mark`), and a merge or a prune scales that share by a
    factor that nobody knows. So it is estimated: what is left is the residual of the regression of the changes on the
    host's values, which uses no code.

    Raises:
        OtherShape: the suspect has tensors of the checkpoint's names, and none of them fits.

    """
    chips, dealt = Chips(keys.chips), deal(keys.segments, where.units, segments)
    host = survey(original, where, chips)
    part = fitting(suspect, where)
    changed = differences(part, Original(original, host.sigma), where, chips=chips)
    sums = by_segment(changed, dealt, segments)
    there = (sums.energies > 0) & (sums.counts > 0)
    values = np.where(there, sums.correlations / np.sqrt(np.maximum(sums.counts, 1.0)), np.nan)
    values = _residual(values, by_segment(host.sums, dealt, segments).values)
    return Reading("original", _rounded(values), _share(part, where))


def fitting(suspect: Tensors, where: Projections) -> Tensors:
    """Return the `suspect` without the projections that have another shape than in `where`, or no float dtype.

    Raises:
        OtherShape: it has projections, and none of them fits.

    """
    infos = suspect.infos()
    there = {one.name: one for one in where.tensors if one.name in infos}
    fit = {name for name, one in there.items() if infos[name].shape == one.shape and infos[name].dtype in FLOATS}
    if there and not fit:
        name, one = next(iter(there.items()))
        found = f"{shown(infos[name].shape)} in {infos[name].dtype}"
        message = f"none of its {len(there)} projections fits: this one is {found}, the checkpoint's {shown(one.shape)}"
        raise OtherShape(message, where=f"tensor {name!r}")
    return _Part(suspect, {name: info for name, info in infos.items() if name in fit})


def _share(part: Tensors, where: Projections) -> float:
    """Return which share of the marked weights a file holds."""
    infos = part.infos()
    return sum(one.weights for one in where.tensors if one.name in infos) / where.weights


@dataclass(frozen=True, slots=True)
class _Part:
    """Some tensors of a file."""

    whole: Tensors
    part: Mapping[str, TensorInfo]

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return these tensors' dtypes and shapes."""
        return self.part

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on."""
        self.whole.read_into(name, first, buffer)


def _residual(values: F64, host: F64) -> F64:
    """Return `values` less what `host` explains of them; NaN stays."""
    seen = np.isfinite(values)
    energy = float(host[seen] @ host[seen])
    return values - (float(values[seen] @ host[seen]) / energy if energy > 0 else 0.0) * host


def _rounded(values: F64) -> F64:
    return np.round(values, _DECIMALS) + 0.0  # zero has one sign
