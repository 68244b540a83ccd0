"""The mark of one copy: prepared for a checkpoint's weights, put into them as they stream by, read back from the copy.

Embedding is informed (improved spread spectrum; Malvar and Florêncio, 2003): the owner knows what the chips find in the
unmarked weights of each segment, h of variance 1, and takes four fifths of it away while adding the code:

    v = h   becomes   v = h + (0.6 c - 0.8 h) = 0.6 c + 0.2 h

at one unit of energy a segment, 0.6² + 0.8². Without that the same energy would give v = c + h, a third of the signal
to noise. The amplitude that it takes is √(segments / weights) of a unit's standard deviation, smaller the larger the
model. Where it would be more than 0.8 %, it is cut there, and so is what can be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.copy_errors import MarkTooWeak, NothingToMark
from strongroom.core.secrets import Secret
from strongroom.lineage.codes import I8, own_code
from strongroom.lineage.correlate import by_segment, survey
from strongroom.lineage.decode import Candidate, Scheme, decode, scheme_of
from strongroom.lineage.dtypes import true_dtypes
from strongroom.lineage.embed import Embedding, Streams
from strongroom.lineage.evidence import committed
from strongroom.lineage.grid import refuse_grid
from strongroom.lineage.keys import SCHEME, CheckpointKeys, checkpoint_keys, derive
from strongroom.lineage.projections import Projections, find_projections
from strongroom.lineage.readings import blind
from strongroom.lineage.segments import deal
from strongroom.ports.marks import MarkReport, Progress, TensorInfo, Tensors

F64 = npt.NDArray[np.float64]

SIGNAL: Final = 0.6
HOST: Final = 0.8
MOST_ALPHA: Final = 0.008  # of a unit's standard deviation: more would cost perplexity
LEAST_RETAINED: Final = 10.0  # alpha times the square root of the marked weights
LEAST_SHARE: Final = 0.2  # of the weights of all matrices; Gemma 3 270M, half of which are embeddings, has 0.26
LEAST_LOG10_P: Final = -12.0  # a copy whose own code is found less surely would convince nobody
_WHERE: Final = "checkpoint"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the mark of one copy is made of."""

    checkpoint: str
    copy: str
    where: Projections
    host: F64  # (segments,), what the chips find in the unmarked weights
    target: F64  # (segments,), what is added to it
    alpha: float
    share: float  # of the weights of all matrices

    @property
    def segments(self) -> int:
        """How many there are, the checkpoint's own among them."""
        return len(self.host)


class WeightMark:
    """The mark of one copy (`ports.marks.Mark`). Threads may share it."""

    def __init__(self, master: Secret, prepared: Prepared, embedding: Embedding) -> None:
        """Take what `WeightMarks.prepare` made."""
        self._master = master
        self._prepared = prepared
        self._embedding = embedding
        whole, _ = committed(master, prepared.checkpoint, prepared.copy, segments=prepared.segments)
        self.commitment = whole.digest()

    def names(self) -> Collection[str]:
        """Return the names of the tensors that it changes."""
        return self._embedding.names()

    def apply(self, name: str, first: int, raw: memoryview) -> None:
        """Mark, in place, the elements of `name` from element `first` on that are in `raw`."""
        self._embedding.apply(name, first, raw)

    def read_back(self, copy: Tensors, progress: Progress | None = None) -> MarkReport:
        """Find the mark in the finished copy.

        Raises:
            MarkTooWeak: it is not there, or would not convince anybody.

        """
        made, keys = self._prepared, checkpoint_keys(self._master, self._prepared.checkpoint)
        reading = blind(copy, made.where, keys, segments=made.segments, progress=progress)
        retained = float(np.nansum((reading.values - made.host) * made.target) / np.linalg.norm(made.target))
        scheme, code = _codes(self._master, keys, made.copy, segments=made.segments)
        found = decode([reading], scheme, [Candidate(made.copy, "", code)], tried=1)
        if not (retained >= LEAST_RETAINED and found.log10_p <= LEAST_LOG10_P):
            raise MarkTooWeak(
                f"the copy retains a mark of strength {retained:.1f}, with p = 10^{found.log10_p:.0f}; it takes "
                f"{LEAST_RETAINED:.0f} and 10^{LEAST_LOG10_P:.0f}",
                where=_WHERE,
            )
        return MarkReport(
            scheme=SCHEME,
            segments=made.segments,
            units=made.where.units,
            share=made.share,
            alpha=made.alpha,
            retained=retained,
            log10_p=found.log10_p,
        )


class WeightMarks:
    """Makes the marks of a house (`ports.marks.Marks`)."""

    def __init__(self, master: Secret, segments: Callable[[str], int]) -> None:
        """Derive everything from the `master` secret; `segments` tells how many a checkpoint's codes have.

        All copies of a checkpoint version must have the same number, or their segments would not be the same.
        """
        self._master = master
        self._segments = segments

    def prepare(self, checkpoint: str, copy: str, weights: Tensors, *, progress: Progress | None = None) -> WeightMark:
        """Return the mark of the copy `copy` of the checkpoint with the id `checkpoint`, made for these `weights`.

        Raises:
            NothingToMark: it has no weights that a mark can be put into.
            CoarseGrid: its weights lie on a grid that a mark would not survive.
            MarkTooWeak: it is too small for a mark.

        """
        infos = weights.infos()
        where = find_projections(infos)
        share = _share(where, infos)
        refuse_grid(weights, where)
        segments = self._segments(checkpoint)
        alpha = _amplitude(where, segments)
        keys = checkpoint_keys(self._master, checkpoint)
        streams = Streams.of(keys)
        seen = survey(weights, where, streams.chips, progress=progress)
        dealt = deal(keys.segments, where.units, segments)
        sums = by_segment(seen.sums, dealt, segments)
        scheme, code = _codes(self._master, keys, copy, segments=segments)
        scale = alpha / math.sqrt(segments / where.weights)
        target = scale * (SIGNAL * np.concatenate([scheme.common, code]) - HOST * sums.values)
        amplitude = target / np.sqrt(np.maximum(sums.counts, 1.0))
        dtypes = true_dtypes(weights, where)
        embedding = Embedding(where, seen.sigma, units=amplitude[dealt], streams=streams, dtypes=dtypes)
        prepared = Prepared(checkpoint, copy, where, sums.values, target, alpha, share)
        return WeightMark(self._master, prepared, embedding)


def _share(where: Projections, infos: Mapping[str, TensorInfo]) -> float:
    """Return which share of the weights of all matrices is marked.

    Raises:
        NothingToMark: too small a share: the rest would leave as it is, and may be worth stealing by itself.

    """
    share = where.weights / sum(math.prod(one.shape) for one in infos.values() if len(one.shape) > 1)
    if share < LEAST_SHARE:
        raise NothingToMark(
            f"its MLP projections are {share:.0%} of its matrices' weights; it takes {LEAST_SHARE:.0%}", where=_WHERE
        )
    return share


def _amplitude(where: Projections, segments: int) -> float:
    """Return the mark's amplitude as a share of a unit's standard deviation.

    Raises:
        MarkTooWeak: there are too few units for the code, or too few weights for the least strength.

    """
    if where.units < segments:
        raise MarkTooWeak(f"it has {where.units} hidden units; the code takes {segments}", where=_WHERE)
    alpha = min(MOST_ALPHA, math.sqrt(segments / where.weights))
    strength = alpha * math.sqrt(where.weights)
    if strength < LEAST_RETAINED:
        raise MarkTooWeak(
            f"{where.weights:,} weights carry a mark of strength {strength:.1f}; it takes {LEAST_RETAINED:.0f}",
            where=_WHERE,
        )
    return alpha


def _codes(master: Secret, keys: CheckpointKeys, copy: str, *, segments: int) -> tuple[Scheme, I8]:
    scheme = scheme_of(keys.biases, keys.common, segments=segments)
    return scheme, own_code(derive(master, "code", copy), scheme.bias)
