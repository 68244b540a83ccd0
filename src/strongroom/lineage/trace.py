"""Which checkpoint a suspect was made from, whose copy it is, how it was made, and how sure all that is.

look up (signatures) → compare (exact, then calibrated) → align → decode → tell ours from a common base → how.

The caller opens things and holds the secrets: what is `Known` here opens itself when it is asked to, and whoever can
decode marks is handed the suspect as aligned. The alignment never looks at codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np

from strongroom.lineage.adapter_order import adapts
from strongroom.lineage.adapters import adapter_pairs
from strongroom.lineage.align import align
from strongroom.lineage.aligned import Aligned
from strongroom.lineage.anatomy import matrix
from strongroom.lineage.ancestry import Base, Opener, ancestry
from strongroom.lineage.bank import Bank
from strongroom.lineage.compare import Comparison, compare
from strongroom.lineage.findings import Finding
from strongroom.lineage.how.case import Case as How
from strongroom.lineage.how.derive import derived
from strongroom.lineage.lookup import Glimpse, likeness, worth_opening
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.reshaped import reshaped
from strongroom.lineage.signature import Signature, tensor_digests
from strongroom.lineage.traced import Evidence, Histogram, LineageFound, RecipientFound, is_marked
from strongroom.lineage.units import spread
from strongroom.lineage.verdict import Judgement, judge
from strongroom.ports.marks import Tensors
from strongroom.ports.suspects import Suspect

Watch = Callable[[str], None]

_ALIGNED: Final = 3  # related checkpoints that are looked at closely, the likeliest first
_ROWS: Final = 64
_TENSORS: Final = 12
_INEXACT: Final = {"rotated", "rescaled"}  # undone by estimates
_ORDER: Final = {"yes": 0, "doubt": 1, "no": 2}


@dataclass(frozen=True, slots=True)
class Known:
    """A checkpoint of the registry."""

    name: str
    signature: Signature
    open: Opener


@dataclass(frozen=True, slots=True)
class Registry:
    """All that a suspect is compared with."""

    checkpoints: Sequence[Known]
    bases: Sequence[Base]
    bank: Bank


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the marks of a checkpoint's copies say of an aligned suspect."""

    recipient: RecipientFound
    copy: Tensors | None = None  # the named copy's own weights, to tell the mark from what was done afterwards


class Copies(Protocol):
    """Whoever can read marks."""

    def decode(self, known: Known, source: Model, aligned: Tensors) -> Decoded | None:
        """Return whose copy of a checkpoint the aligned suspect is; None where no copy was ever issued."""
        ...


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A checkpoint that was opened, and what its comparison with the suspect says."""

    known: Known
    model: Model
    found: Comparison
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class _Relative:
    """A related checkpoint, looked at closely."""

    candidate: _Candidate
    aligned: Aligned
    steps: tuple[Finding, ...]
    distance: float
    decoded: Decoded

    @property
    def marked(self) -> bool:
        """Whether the checkpoint's own mark is in the suspect."""
        return is_marked(self.decoded.recipient)


@dataclass(frozen=True, slots=True)
class _Case:
    registry: Registry
    suspect: Suspect
    model: Model
    copies: Copies | None
    watch: Watch


def trace(
    suspect: Suspect, registry: Registry, *, copies: Copies | None = None, watch: Watch | None = None
) -> Evidence:
    """Gather the evidence of what a suspect was made from; the verdict is `traced.conclude` of it.

    `watch` is told what begins, in words.

    Raises:
        BadInput: weights are no floats, or a file became shorter.

    """
    case = _Case(registry, suspect, model_of(suspect, suspect.tokens()), copies, watch or (lambda _what: None))
    case.watch("looking up signatures")
    glimpse = Glimpse(case.model, tensor_digests(suspect))
    alike = [likeness(one.signature, glimpse) for one in registry.checkpoints]
    chosen = worth_opening(alike) if case.model.body.layers else _adapted(case)
    with ExitStack() as stack:
        candidates: list[_Candidate] = []
        for number, at in enumerate(chosen, 1):
            known = registry.checkpoints[at]
            case.watch(f"comparing with {known.name} ({number} of {len(chosen)})")
            candidates.append(_compared(case, known, stack))
        candidates.sort(key=lambda one: (_ORDER[one.judgement.related], one.judgement.log10_p, -one.judgement.effect))
        relatives = [_look_closer(case, one) for one in candidates[:_ALIGNED] if one.judgement.related != "no"]
        best = min(relatives, key=_rank, default=None)
        seen = _unrelated(case, candidates) if best is None else _concluded(case, best, relatives)
    return msgspec.structs.replace(seen, opened=len(candidates), registered=len(registry.checkpoints))


def _unrelated(case: _Case, candidates: Sequence[_Candidate]) -> Evidence:
    nearest = candidates[0] if candidates else None
    return Evidence(
        checkpoint=nearest.known.name if nearest else None,
        related=nearest.judgement.related if nearest else "no",
        lineage=_lineage(case, nearest) if nearest else None,
        readable=bool(case.model.body.layers) or nearest is not None,
    )


def _adapted(case: _Case) -> list[int]:
    """Return the checkpoints that an adapter could have been trained on: signatures say nothing of it but its sizes."""
    if not adapter_pairs(case.suspect.infos()):
        return []
    known = [one.signature for one in case.registry.checkpoints]
    return [at for at, one in enumerate(known) if adapts(one.width, one.hidden, case.suspect)]


def _compared(case: _Case, known: Known, stack: ExitStack) -> _Candidate:
    model = stack.enter_context(known.open())
    found = compare(model, case.model)
    return _Candidate(known, model, found, judge(found.tests, case.registry.bank, tried=len(case.registry.checkpoints)))


def _look_closer(case: _Case, one: _Candidate) -> _Relative:
    """Align the suspect with a checkpoint, and read the marks."""
    case.watch(f"aligning with {one.known.name}")
    alignment = align(one.model, case.model, one.found)
    aligned = Aligned(one.model, case.model, alignment)
    decoded: Decoded | None = None
    if case.copies is not None and aligned.infos():
        case.watch(f"reading the marks of {one.known.name}")
        decoded = case.copies.decode(one.known, one.model, aligned)
    return _Relative(
        one,
        aligned,
        reshaped(one.model, case.model, one.found, alignment=alignment),
        distance(one.model.weights, aligned),
        decoded or Decoded(RecipientFound()),
    )


def distance(source: Tensors, aligned: Tensors) -> float:
    """Return how far an aligned suspect is from a checkpoint: the median relative difference of sampled rows."""
    there = source.infos()
    names = [name for name, info in aligned.infos().items() if len(info.shape) > 1 and name in there]
    found: list[float] = []
    chosen: list[int] = spread(len(names), _TENSORS).tolist() if names else []
    for name in (names[at] for at in chosen):
        ours, theirs = matrix(source, name, slice(_ROWS)), matrix(aligned, name, slice(_ROWS))
        size = float(np.linalg.norm(ours))
        if size and ours.shape == theirs.shape:
            found.append(float(np.linalg.norm(theirs - ours)) / size)
    return float(np.median(found)) if found else float("inf")


def _rank(one: _Relative) -> tuple[bool, int, float]:
    """Put first what bears our mark, then what is surely related, then what is nearest."""
    return not one.marked, _ORDER[one.candidate.judgement.related], one.distance


def _concluded(case: _Case, best: _Relative, relatives: Sequence[_Relative]) -> Evidence:
    """Tell ours from a common base, name the steps, and put it all together."""
    one = best.candidate
    ancestor = None
    if not best.marked:
        case.watch("comparing with public bases")
        registry, tried = case.registry, len(relatives)
        ancestor = ancestry(registry.bases, one.model, best.aligned, bank=registry.bank, tried=tried)
    case.watch("how it was made")
    steps, drawn = _made(case, best, relatives)
    return Evidence(
        checkpoint=one.known.name,
        related=one.judgement.related,
        lineage=_lineage(case, one),
        recipient=best.decoded.recipient,
        ancestor=ancestor,
        derivation=steps,
        histogram=drawn,
    )


def _made(case: _Case, best: _Relative, relatives: Sequence[_Relative]) -> tuple[tuple[Finding, ...], Histogram | None]:
    """Return what was done to the checkpoint, or to the named copy of it; and the differences, if they are noise."""
    others = {each.candidate.known.name: each.candidate.model.weights for each in relatives if each is not best}
    start = best.decoded.copy or best.candidate.model.weights
    how = derived(How(start, best.aligned, case.suspect, others))
    found = how.findings
    if any(step.kind in _INEXACT for step in best.steps):  # what alignment leaves over is no step of anybody's
        found = tuple(step for step in found if step.kind != "unknown")
    steps = best.steps + found
    if not steps and distance(start, best.aligned) == 0:
        whose = "the named copy" if best.decoded.copy is not None else "the checkpoint"
        steps = (Finding(kind="copy", detail=f"of {whose}", evidence="sampled rows are the same to the bit"),)
    noise = how.histogram if any(step.kind == "noised" for step in steps) else None
    if noise is None:
        return steps, None
    edges = noise.edges
    return steps, Histogram(edges_low=edges[0], edges_high=edges[-1], counts=noise.counts, sigma=noise.sigma)


def _lineage(case: _Case, one: _Candidate) -> LineageFound:
    return LineageFound.of(one.judgement, one.found, tried=len(case.registry.checkpoints))
