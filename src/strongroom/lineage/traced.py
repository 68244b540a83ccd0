"""What a trace says, in records that are printed, signed and replayed; and how its parts make a verdict."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from strongroom.core.canonical import Record
from strongroom.lineage.ancestry import AncestorFound
from strongroom.lineage.compare import Comparison, Outcome
from strongroom.lineage.decode import Verdict
from strongroom.lineage.findings import Finding
from strongroom.lineage.how.derive import direction
from strongroom.lineage.verdict import EXACT_LIMIT, Judgement, PKind

TraceVerdict = Literal["match", "no_match", "common_ancestor", "inconclusive"]

# A report is read from strangers: what can't be is refused before anything is made of it.
_Words = Annotated[str, msgspec.Meta(max_length=2000)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
_Layer = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Log10 = Annotated[float, msgspec.Meta(ge=-1e9, le=0)]
LayerMap = Annotated[tuple[tuple[_Layer, _Layer, Share], ...], msgspec.Meta(max_length=1 << 12)]

ASSUMPTIONS: Final = {
    "coordinates": "No common seed, an optimizer to which all coordinates are alike, and no numbering after the other.",
    "units": "No common seed, an optimizer to which all hidden units are alike, and no numbering after the other.",
    "matching": "Unrelated models are no more alike than those of the null bank: small Llamas, and two large models.",
    "mark": "The code of the mark was drawn at random and not known to whoever made the suspect.",
    "differences": "Siblings are no more alike than the bank's, and descend from nothing later than that base.",
    "adapter": "The suspect's base was not initialised by the same seed, and training treats all hidden units alike.",
}

_WEIGHTS: Final = (
    "It says which weights a file was made from: not who made it, and not whether they were allowed to.",
    "Distillation leaves nothing in weights: no_match does not show that nothing was taken.",
    "Only registered checkpoints were compared, and of these only those that their signatures made worth opening.",
    "The steps of the derivation are the simplest account of what was measured: no p-value stands behind them.",
)
_START: Final = (
    "Two models with one start can't be told from a model and its derivative unless that start is a registered public "
    "base; nor do weights alone say which of the two was first. The ledger says since when ours was sealed."
)
_COPY: Final = (
    "A mark names a copy, not who passed it on: the issuer had it too, and so has whoever stole it from the recipient."
)


def limits(found: Trace) -> tuple[str, ...]:
    """Return what a verdict does not show."""
    related = found.lineage is not None and found.verdict != "no_match"
    return (*_WEIGHTS, *([_START] if related else []), *([_COPY] if found.recipient.verdict == "match" else []))


class ColluderFound(Record, frozen=True):
    """A copy that is named, among several."""

    name: _Words
    copy: _Words
    log10_p: Log10


class RecipientFound(Record, frozen=True):
    """Whose copy a suspect is, by the marks."""

    verdict: Literal["match", "no_match", "inconclusive"] = "no_match"
    name: _Words | None = None
    copy: _Words | None = None
    log10_p: Log10 = 0.0  # exact; corrected for all copies ever issued, rounds and readings
    candidates: _Count = 0
    tried: _Count = 0
    colluders: Annotated[tuple[ColluderFound, ...], msgspec.Meta(max_length=100)] = ()
    checkpoint_log10_p: Log10 = 0.0  # exact, of the mark that all copies of the checkpoint share
    scores: Annotated[tuple[Log10, ...], msgspec.Meta(max_length=1 << 20)] = ()  # log10 p of every candidate, smallest
    # first, nobody being named yet: how far the named stand out
    reason: _Words = "No marks were read: nothing related was found that copies were issued of."

    @classmethod
    def of(cls, found: Verdict) -> RecipientFound:
        """Return what a verdict on marks says."""
        named = ((one.recipient, one.copy, one.log10_p) for one in found.colluders)
        return cls(
            verdict=found.verdict,
            name=found.recipient,
            copy=found.copy,
            log10_p=found.log10_p,
            candidates=found.candidates,
            tried=found.tried,
            colluders=tuple(ColluderFound(name=name, copy=copy, log10_p=log10_p) for name, copy, log10_p in named),
            checkpoint_log10_p=found.checkpoint_log10_p,
            scores=tuple(round(one, 3) for one in sorted(found.scores)),
            reason=found.reason,
        )


class LineageFound(Record, frozen=True):
    """Which checkpoint, and how sure."""

    log10_p: Log10  # corrected for tests and checkpoints
    p_kind: PKind
    effect: Share
    method: _Words
    layer_map: LayerMap  # layer of the suspect, of the checkpoint, share of its units
    layers: tuple[_Count, _Count]  # how many layers of the suspect and of the checkpoint were compared
    tests: Annotated[tuple[Outcome, ...], msgspec.Meta(min_length=1, max_length=5)]  # all that were made, uncorrected
    tried: Annotated[int, msgspec.Meta(ge=1, le=1 << 30)]  # checkpoints compared, by their signatures or whole
    log10_tail: Log10 | None = None  # extrapolated, where the p-value is calibrated
    pairs: _Count = 0  # of unrelated models that it was calibrated on
    largest: Share = 0.0  # effect among those
    assumption: _Words = ""

    @classmethod
    def of(cls, judged: Judgement, found: Comparison, *, tried: int) -> LineageFound:
        """Return what a judgement of a comparison says."""
        return cls(
            log10_p=judged.log10_p,
            p_kind=judged.p_kind,
            effect=judged.effect,
            method=judged.method,
            layers=found.sizes,
            layer_map=tuple((one.suspect, one.source, round(one.fraction, 4)) for one in found.layers),
            tests=found.tests,
            tried=tried,
            log10_tail=judged.log10_tail,
            pairs=judged.pairs,
            largest=judged.largest,
            assumption=ASSUMPTIONS.get(judged.method.split("-", maxsplit=1)[0], ""),
        )


class Histogram(Record, frozen=True):
    """How the aligned differences of all weights looked at are spread, to be drawn beside a Gaussian."""

    edges_low: float  # of the first bin, in sigmas
    edges_high: float  # of the last bin; all are equally wide
    counts: Annotated[tuple[_Count, ...], msgspec.Meta(min_length=1, max_length=1000)]  # weights in each bin
    sigma: Annotated[float, msgspec.Meta(ge=0)]  # their standard deviation, in spreads of their tensors


class Trace(Record, frozen=True):
    """A suspect's descent."""

    verdict: TraceVerdict
    checkpoint: str | None
    lineage: LineageFound | None  # None where there was nothing to compare
    recipient: RecipientFound
    ancestor: AncestorFound | None
    derivation: tuple[Finding, ...]
    direction: str  # which came first, as far as the weights tell
    opened: int  # checkpoints that were opened, of those
    registered: int
    reason: str


class Evidence(Record, frozen=True):
    """All that a verdict is made of."""

    checkpoint: str | None  # the likeliest
    related: Literal["yes", "doubt", "no"] = "no"
    lineage: LineageFound | None = None
    recipient: RecipientFound = RecipientFound()
    ancestor: AncestorFound | None = None
    derivation: Annotated[tuple[Finding, ...], msgspec.Meta(max_length=100)] = ()
    readable: bool = True  # whether the suspect has anything that lineage compares
    histogram: Histogram | None = None  # of the differences, where there are any
    opened: _Count = 0  # checkpoints that were opened and compared whole; of the others, signatures alone, of
    registered: _Count = 0


def conclude(seen: Evidence) -> Trace:
    """Return the verdict that the evidence makes: a function of it alone, so that a stranger can repeat it."""
    verdict, reason = _verdict(seen)
    return Trace(
        verdict=verdict,
        checkpoint=seen.checkpoint if verdict != "no_match" else None,
        lineage=_surest(seen),
        recipient=seen.recipient,
        ancestor=seen.ancestor,
        derivation=seen.derivation if verdict != "no_match" else (),
        direction=direction(seen.derivation) if seen.derivation and verdict != "no_match" else "",
        opened=seen.opened,
        registered=seen.registered,
        reason=reason,
    )


def is_marked(recipient: RecipientFound) -> bool:
    """Whether the mark that all copies of a checkpoint share was found."""
    return recipient.checkpoint_log10_p <= EXACT_LIMIT or recipient.verdict == "match"


def _verdict(seen: Evidence) -> tuple[TraceVerdict, str]:
    """Return the verdict, and why."""
    if seen.lineage is None and not seen.readable:
        return "inconclusive", "It holds no gated MLP layers that could be compared."
    if seen.lineage is None or seen.related == "no":
        which = "any registered checkpoint" if _all_opened(seen) else "a checkpoint that was opened"
        return "no_match", f"It is no more like {which} than unrelated models are like each other.{_unopened(seen)}"
    if is_marked(seen.recipient):
        return "match", "It carries the mark that all issued copies of the checkpoint share."
    if seen.related == "doubt":
        reason = "It is more like the checkpoint than most unrelated models, but not beyond chance."
        return "inconclusive", f"{reason}{_unopened(seen)}"
    return _by_ancestor(seen.ancestor)


def _all_opened(seen: Evidence) -> bool:
    return seen.opened == seen.registered


def _unopened(seen: Evidence) -> str:
    """Say what a verdict leaves open of checkpoints that were not opened: signatures choose, and prove nothing."""
    if _all_opened(seen):
        return ""
    return (
        f" {seen.opened} of {seen.registered} checkpoints were opened, the likeliest by their signatures: of the others"
        " nothing is shown."
    )


def _by_ancestor(ancestor: AncestorFound | None) -> tuple[TraceVerdict, str]:
    """Return the verdict on a suspect that is related to the checkpoint, and bears no mark of it."""
    if ancestor is None:
        reason = "It descends from the checkpoint, or both from one start: no public base of the checkpoint is known."
        return "match", reason
    base = ancestor.base
    if ancestor.relation == "ours":
        since = f"It holds what the checkpoint changed since {base!r}"
        return "match", f"{since}; or both descend from something later than that base, which is not registered."
    if ancestor.relation == "base_only":
        return "common_ancestor", f"It descends from {base!r}, as the checkpoint does, and not from the checkpoint."
    return "inconclusive", f"It descends from {base!r}; whether by way of the checkpoint can't be told."


def _surest(seen: Evidence) -> LineageFound | None:
    """Return the lineage with the p-value that the verdict rests on."""
    found = seen.lineage
    if found is None:
        return None
    if is_marked(seen.recipient):
        p = min(seen.recipient.checkpoint_log10_p, seen.recipient.log10_p)
        return _by(found, method="mark", log10_p=p, p_kind="exact")
    if seen.ancestor is not None and seen.ancestor.relation == "ours":
        return _by(found, method="differences", log10_p=seen.ancestor.log10_p, p_kind="calibrated")
    return found


def _by(found: LineageFound, *, method: str, log10_p: float, p_kind: PKind) -> LineageFound:
    """Return a lineage that rests on another method."""
    return LineageFound(
        log10_p=log10_p,
        p_kind=p_kind,
        effect=found.effect,
        method=method,
        layer_map=found.layer_map,
        layers=found.layers,
        tests=found.tests,
        tried=found.tried,
        assumption=ASSUMPTIONS[method],
    )
