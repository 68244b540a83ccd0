"""From a file's weights to the values of its segments: blind, or against the original. Neither looks at any code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strongroom.lineage.chips import Chips
from strongroom.lineage.correlate import Original, by_segment, differences, survey
from strongroom.lineage.decode import Reading
from strongroom.lineage.keys import CheckpointKeys
from strongroom.lineage.projections import Projections
from strongroom.lineage.segments import deal
from strongroom.ports.marks import Progress, Tensors

F64 = npt.NDArray[np.float64]


def blind(
    suspect: Tensors, where: Projections, keys: CheckpointKeys, *, segments: int, progress: Progress | None = None
) -> Reading:
    """Return the values S/√E of the suspect's segments, read by itself."""
    seen = survey(suspect, where, Chips(keys.chips), progress=progress)
    sums = by_segment(seen.sums, deal(keys.segments, where.units, segments), segments)
    return Reading("blind", np.where(sums.energies > 0, sums.values, np.nan))


def against_original(
    suspect: Tensors, original: Tensors, where: Projections, *, keys: CheckpointKeys, segments: int
) -> Reading:
    """Return the values of what was changed since the `original`, without what the mark took of the host's own.

    A mark takes a share of the host's own value away (`lineage.mark`), and a merge or a prune scales that share by a
    factor that nobody knows. So it is estimated: what is left is the residual of the regression of the changes on the
    host's values, which uses no code.
    """
    chips, dealt = Chips(keys.chips), deal(keys.segments, where.units, segments)
    host = survey(original, where, chips)
    changed = differences(suspect, Original(original, host.sigma), where, chips=chips)
    sums = by_segment(changed, dealt, segments)
    there = (sums.energies > 0) & (sums.counts > 0)
    values = np.where(there, sums.correlations / np.sqrt(np.maximum(sums.counts, 1.0)), np.nan)
    return Reading("original", _residual(values, by_segment(host.sums, dealt, segments).values))


def _residual(values: F64, host: F64) -> F64:
    """Return `values` less what `host` explains of them; NaN stays."""
    seen = np.isfinite(values)
    energy = float(host[seen] @ host[seen])
    return values - (float(values[seen] @ host[seen]) / energy if energy > 0 else 0.0) * host
