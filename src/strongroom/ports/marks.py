"""What custody asks of whoever marks copies: prepare a mark, put it into weights as they stream by, read it back.

Custody knows nothing of chips and codes, and lineage nothing of envelopes: they meet here. Weights are read and marked
in pieces of any size, so that neither side ever holds a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from strongroom.core.canonical import Record

Progress = Callable[[int, int], None]


class TensorInfo(Record, frozen=True):
    """A tensor's dtype, in safetensors' words (``BF16`` …), and its shape."""

    dtype: str
    shape: tuple[int, ...]


class Tensors(Protocol):
    """The named tensors of a checkpoint, read in pieces."""

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape, in the checkpoint's order."""
        ...

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the little-endian elements of `name` from element `first` on (row-major)."""
        ...


class MarkReport(Record, frozen=True):
    """What a finished copy was found to carry, read back from its own weights before it leaves."""

    scheme: str  # strongroom/weight-mark@1
    segments: int
    units: int  # hidden units that were dealt to them
    share: float  # of the weights of all matrices in the checkpoint: so much of it is marked
    alpha: float  # the mark's amplitude, as a share of a unit's standard deviation
    retained: float  # alpha times the square root of the marked weights, as found in the file's own dtype
    log10_p: float  # of the copy's own code, by the decoder, before any correction


class PerplexityCost(Record, frozen=True):
    """What a mark of some strength costs the model, measured once for a checkpoint version."""

    ratio: float  # the relative change of perplexity: 0.0003 is 0.03 %
    low: float  # of its 95 % interval
    high: float
    tokens: int
    texts: str  # hexadecimal SHA-256 of the texts
    measured_on: str = ""  # the id of the copy that it was measured on: the first of its version and strength


class Mark(Protocol):
    """The mark of one copy. Threads may share it."""

    commitment: str  # hexadecimal SHA-256: binds chips, segments, code and scorer without showing them

    def names(self) -> Collection[str]:
        """Return the names of the tensors that it changes."""
        ...

    def apply(self, name: str, first: int, raw: memoryview) -> None:
        """Mark, in place, the elements of `name` from element `first` on that are in `raw` (whole elements)."""
        ...

    def read_back(self, copy: Tensors, progress: Progress | None = None) -> MarkReport:
        """Find the mark in the finished copy.

        Raises:
            MarkTooWeak: it is not there, or would not convince anybody.

        """
        ...


class Marks(Protocol):
    """Whoever can mark the copies of a checkpoint."""

    def prepare(self, checkpoint: str, copy: str, weights: Tensors, *, progress: Progress | None = None) -> Mark:
        """Return the mark of the copy `copy` of the checkpoint with the id `checkpoint`, made for these `weights`.

        Raises:
            NothingToMark: it has no weights that a mark can be put into.
            CoarseGrid: its weights lie on a grid that a mark would not survive.
            MarkTooWeak: it is too small for a mark.

        """
        ...
