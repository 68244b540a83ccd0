"""What is looked at to tell how a suspect was made, and what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strongroom.lineage.findings import Finding
from strongroom.ports.marks import Progress, Tensors
from strongroom.ports.suspects import Suspect


@dataclass(frozen=True, slots=True)
class Case:
    """A suspect, beside the checkpoint that it came from."""

    source: Tensors
    """The checkpoint, or the recipient's marked copy of it: its own names, dtypes and shapes."""
    aligned: Tensors
    """The suspect in the source's coordinates and names; tensors that it lacks are absent."""
    suspect: Suspect
    """The suspect as its file has it: grids lie along its own rows."""
    mixes: Mapping[str, Tensors] = field(default_factory=dict[str, Tensors])
    """Other registered checkpoints of the same shapes, by name: the suspect may be a merge with one of them."""
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """The differences of all weights looked at, each in spreads of its tensor, to be drawn beside a Gaussian."""

    sigma: float  # their standard deviation, in spreads of their tensors
    edges: tuple[float, ...]  # of the bins, in sigmas: one more than there are bins
    counts: tuple[int, ...]  # weights in each bin; those beyond the outermost edges are left out
    gaussian: tuple[float, ...]  # how many weights each bin would have if they were Gaussian


@dataclass(frozen=True, slots=True)
class Derivation:
    """How a suspect was made, as far as its weights tell."""

    findings: tuple[Finding, ...]
    histogram: Histogram | None  # None where nothing differs beyond what storing explains
