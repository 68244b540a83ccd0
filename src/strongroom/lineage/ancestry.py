"""Whether a suspect that is related to our checkpoint comes from it, or only from a public base of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np

from strongroom.core.canonical import Record
from strongroom.lineage.align import align
from strongroom.lineage.aligned import Aligned
from strongroom.lineage.bank import Bank
from strongroom.lineage.compare import compare
from strongroom.lineage.descent import Descent, descent
from strongroom.lineage.model import Model
from strongroom.lineage.verdict import judge
from strongroom.ports.marks import Tensors

Opener = Callable[[], AbstractContextManager[Model]]

_RANK: Final = 0.01  # among siblings…
_RARE: Final = math.log10(0.02)  # … and corrected: 180 pairs carry no less where three relatives were tried
_OFF: Final = 0.25  # a slope farther from 1 is no derivative's, but a merge's
_NOISES: Final = 3.0  # a scatter is real beyond so many times what noise brings about

Relation = Literal["ours", "base_only", "unclear"]


@dataclass(frozen=True, slots=True)
class Base:
    """A public model that checkpoints may descend from."""

    name: str
    open: Opener


class AncestorFound(Record, frozen=True):
    """A public base that the checkpoint and the suspect both descend from, and what the differences from it say."""

    base: Annotated[str, msgspec.Meta(max_length=200)]
    relation: Relation
    slope: float  # of the suspect's difference from the base on ours: 1 for what was made from ours
    scatter: Annotated[float, msgspec.Meta(ge=0)]  # of the slopes over tensors, between the quartiles
    noise: Annotated[float, msgspec.Meta(ge=0)]  # what scatter noise alone would bring about
    cosine: Annotated[float, msgspec.Meta(ge=-1.001, le=1.001)]
    tensors: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
    log10_p: Annotated[float, msgspec.Meta(le=0)]  # rank among siblings: fine-tunes of one base, none from another;
    # corrected for the relatives that were tried
    tried: Annotated[int, msgspec.Meta(ge=1, le=1 << 10)]  # related checkpoints that were aligned, this the nearest
    siblings: Annotated[int, msgspec.Meta(ge=0)]  # pairs of them in the bank


def ancestry(bases: Sequence[Base], source: Model, aligned: Tensors, *, bank: Bank, tried: int) -> AncestorFound | None:
    """Return the base that tells least in favour of a descent from `source`, or None if `source` descends from none.

    `source` is the likeliest of `tried` relatives of the suspect.

    Raises:
        BadInput: a base's weights are no floats, or its file became shorter.

    """
    found: list[AncestorFound] = []
    for base in bases:
        with base.open() as model:
            between = compare(source, model)
            related = judge(between.tests, bank, tried=1).related
            if related == "no":
                continue
            placed = Aligned(source, model, align(source, model, between))
            lies = descent(placed, source.weights, aligned) if related == "yes" else None
            found.append(_judged(base.name, lies, bank, tried=tried))
    return max(found, key=lambda one: (one.relation != "ours", one.log10_p), default=None)


def _judged(base: str, found: Descent | None, bank: Bank, *, tried: int) -> AncestorFound:
    """Return what a comparison of differences says; of None, nothing."""
    lies = found or Descent(slope=0.0, scatter=0.0, cosine=0.0, noise=0.0, tensors=0)
    null = np.array([one.strangeness for one in siblings(bank)])
    rank = (1 + int((null <= lies.strangeness).sum())) / (len(null) + 1) if lies.tensors else 1.0
    log10_p = min(0.0, math.log10(rank) + math.log10(tried))
    return AncestorFound(
        base=base,
        relation=_relation(lies, rare=rank <= _RANK and log10_p <= _RARE),
        slope=lies.slope,
        scatter=lies.scatter,
        noise=lies.noise,
        cosine=lies.cosine,
        tensors=lies.tensors,
        log10_p=log10_p,
        tried=tried,
        siblings=len(null),
    )


def rejudged(said: AncestorFound, bank: Bank) -> AncestorFound:
    """Return what the figures of a comparison make, whatever was said of them."""
    lies = Descent(said.slope, said.scatter, said.cosine, said.noise, said.tensors)
    return _judged(said.base, lies, bank, tried=said.tried)


def siblings(bank: Bank) -> list[Descent]:
    """Return how fine-tunes of one base lie to each other: of each pair, the direction that looks more like descent."""
    return [Descent(slope, scatter, cosine, noise=0.0, tensors=0) for _, slope, scatter, cosine in bank.siblings]


def _relation(found: Descent, *, rare: bool) -> Relation:
    if not found.tensors:
        return "unclear"
    close = abs(found.slope - 1) <= _OFF
    if close and rare:
        return "ours"
    apart = abs(found.slope - 1) > _OFF + _NOISES * found.noise
    scattered = found.scatter > max(_OFF, _NOISES * found.noise)
    return "base_only" if apart or scattered else "unclear"
