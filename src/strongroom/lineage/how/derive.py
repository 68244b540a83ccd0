"""How a suspect was made: grid, zeros, merges, low rank, noise and training, each taken out before the next is sought.

Whatever loses information is sought first, since it is in the file to be seen: how wide its numbers are, a grid, zeros.
What is left of the differences from the source is then explained by other checkpoints, by an earlier grid, and at last
by what its spectrum says. A difference no larger than storing it explains is no change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from strongroom.lineage.findings import Finding
from strongroom.lineage.how import casts, grids, history, mixes, noise, pruning, ranks, training
from strongroom.lineage.how.case import Case, Derivation
from strongroom.lineage.how.quantisers import blocks_in_words
from strongroom.lineage.how.residuals import Residual, residuals
from strongroom.lineage.how.samples import Pair, pairs, vectors
from strongroom.ports.suspects import Storage

# A copy through Q4_0, Q4_1, Q8_0 and int8 differs by 0.97 to 1.03 of what is expected; through a residual rotation and
# bfloat16, by 1.0 to 1.2.
_BEYOND_ROUNDING: Final = 1.5
_BEYOND_GRID: Final = 1.08
_MOST: Final = 0.5
_SOME: Final = 0.34
_AS_NOISE: Final = 0.3
_MARK_SIZED: Final = 0.02
_NARROW: Final = 16
_MASKED_TRIED: Final = 6
_TRACE: Final = 0.0025  # of a difference's energy: what a merge's own rounding and bend leave
_MARKED: Final = frozenset({"gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})


@dataclass(frozen=True, slots=True)
class _Known:
    """What explains differences already, and what is left of them."""

    findings: list[Finding]
    rest: list[Residual]
    merge: mixes.Merge | None


@dataclass(frozen=True, slots=True)
class _Changes:
    """The matrices that differ by more than storing explains, by what their spectrum says."""

    low: list[ranks.LowRank]
    white: list[noise.White]
    many: list[Residual]  # directions, and nothing white
    looked: int

    @property
    def count(self) -> int:
        return len(self.low) + len(self.white) + len(self.many)


def derivation(case: Case) -> tuple[Finding, ...]:
    """Return what was done to the suspect since it left the source, in the order in which it is told.

    Raises:
        BadInput: a tensor can't be read.

    """
    return derived(case).findings


def derived(case: Case) -> Derivation:
    """Return what was done to the suspect, and the histogram of the differences.

    Raises:
        BadInput: a tensor can't be read.

    """
    alone = ranks.adapter(case.suspect)
    if alone is not None:
        return Derivation((alone,), None)
    some = pairs(case.source, case.aligned)
    if not some:
        return Derivation((), None)
    findings: list[Finding] = []
    width = casts.suspect_width(case.suspect)
    storage = case.suspect.storage()
    grid = grids.stored_grid(storage.kinds) or grids.found_grid(case.suspect, case.source)
    if grid is not None and (grids.is_blurred(grid) or (width.true.startswith("F8") and not _is_told(grid))):
        grid = None  # its error is found in the differences; small floats of eight bits lie on an even grid, too
    some = _of_kind(some, grid, storage)
    if (cast := casts.cast(casts.width_of(case.source), width, some)) is not None and not _is_told(grid):
        findings.append(cast)
    if grid is not None:
        findings.append(_quantised(grid))
    zeros = pruning.look(some, grid.grid if grid else None)
    told = pruning.pruned(zeros, len(some))
    if told is not None:
        findings.append(told)
    rest = residuals(some, width.true, grid=grid.grid if grid else None, pruned=told is not None)
    known = _explained(case, rest, seek_past=grid is None)
    findings += known.findings
    findings += _changes(case, known, grid, dtype=width.true)
    if case.progress is not None:
        case.progress(1, 1)
    return Derivation(tuple(findings), noise.histogram(known.rest))


def direction(findings: Sequence[Finding]) -> str:
    """Return what the weights tell of which came first, the checkpoint or the suspect."""
    lost = [one for one in findings if one.kind in {"quantised", "pruned"} or one.figures.get("bits", 32) < _NARROW]
    if lost:
        kinds = " and ".join(sorted({one.kind for one in lost}))
        return f"the suspect came after the checkpoint: it is {kinds}, and what that took away can't be put back"
    return "the weights alone do not tell which came first: the registry's times do"


def _of_kind(some: list[Pair], grid: grids.Found | None, storage: Storage) -> list[Pair]:
    """Leave out what the file keeps in another type than most, often the embedding: its error is not this grid's."""
    if grid is None or not _is_told(grid):
        return some
    return [one for one in some if storage.kinds.get(one.name, grid.name).startswith(grid.name)] or some


def _is_told(grid: grids.Found | None) -> bool:
    """Tell whether the file itself says that it is quantised: what it is kept in is no cast then."""
    return grid is not None and grid.off is None


def _quantised(grid: grids.Found) -> Finding:
    how = (
        "the file stores them so"
        if grid.off is None
        else f"weights are {grid.off:.3f} of a step off its steps (0.25 where there is no grid)"
    )
    return Finding(
        kind="quantised",
        detail=f"{grid.name}, {blocks_in_words(grid.block)}, {grid.bits} bits",
        evidence=f"{grid.tensors} of {grid.looked} tensors: {how}; the checkpoint's own are on no such grid",
        figures={"bits": float(grid.bits), "block": float(grid.block), "tensors": float(grid.tensors)}
        | ({} if grid.off is None else {"off": round(grid.off, 4)}),
    )


def _explained(case: Case, before: list[Residual], *, seek_past: bool) -> _Known:
    """Return merges and an earlier grid, and what is left of the differences."""
    found: list[Finding] = []
    changed = [one for one in before if one.energy > 0]
    merge, rest = mixes.merged(before, vectors(case.source, case.aligned), case.mixes)
    if merge is not None:
        found.append(mixes.finding(merge, len(changed)))
    past, rest = history.past_grid(rest) if seek_past else (None, rest)
    if past is not None:
        grid = past.grid
        found.append(
            Finding(
                kind="quantised",
                detail=f"once: {grid.described}, {grid.bits} bits, and changed again since",
                evidence=(
                    f"in {past.tensors} matrices, the difference holds {past.weight:.2f} times the error that this"
                    f" makes of the checkpoint, {past.explained:.1%} of its energy"
                ),
                figures={"bits": float(grid.bits), "block": float(grid.block), "weight": round(past.weight, 3)},
            )
        )
    if found:
        rest = [
            after if after.energy > _TRACE * one.energy else after.with_difference(np.zeros_like(after.difference))
            for one, after in zip(before, rest, strict=True)
        ]
    return _Known(found, rest, merge)


def _changes(case: Case, known: _Known, grid: grids.Found | None, *, dtype: str) -> list[Finding]:
    """Return low rank, noise and training, or that something is there that is none of these."""
    rest = known.rest
    sorted_ = _sort(rest, _BEYOND_ROUNDING if grid is None else _BEYOND_GRID)
    gains = training.moved(
        mixes.without(vectors(case.source, case.aligned), known.merge, case.mixes), _width_of_vectors(case, dtype)
    )
    hidden = training.codes(rest, grid.grid) if grid is not None and grid.exact else None
    found: list[Finding] = []
    blurred = noise.noised(sorted_.white, on_grid=grid is not None, looked=len(rest))
    spiked = _spiked(sorted_)
    if _like_a_mark(sorted_) or (spiked is not None and _unlike(gains, blurred)):
        blurred = None
    if blurred is not None and len(sorted_.white) >= _MOST * sorted_.count:
        found.append(blurred)
        gains = _unlike(gains, blurred)
        if spiked is not None:
            found.append(spiked)
    elif _is_lora(sorted_, gains):
        found.append(ranks.lora(sorted_.low, sorted_.count, sorted_.looked))
    else:
        blurred = None
    many = sorted_.many + ([] if blurred else [one.residual for one in sorted_.white])
    if not any(one.kind == "lora" for one in found):
        many = many + [one.residual for one in sorted_.low]
    if gains or (len(sorted_.many) > _SOME * sorted_.count):
        found.append(training.fine_tuned(many, gains, looked=sorted_.looked, hidden=hidden))
    if not found and (sorted_.count or (training.differ(hidden) and not known.findings)):
        found.append(_unknown(sorted_, hidden))
    return found


def _sort(rest: Sequence[Residual], beyond: float) -> _Changes:
    made = _Changes([], [], [], len(rest))
    changed = [one for one in rest if one.difference.any() and one.energy > beyond * one.expected]
    masked = 0
    parts: set[str] = set()
    for one in changed:
        new = one.pair.part not in parts
        parts.add(one.pair.part)
        tried = new or not one.mask.any() or masked < _MASKED_TRIED
        masked += one.mask.any() and tried
        if not tried and len(made.low) >= masked / 2:
            continue  # so many are of low rank that the others need not be tried: it takes long
        if tried and (low := ranks.low_rank(one)) is not None:
            made.low.append(low)
        elif (white := noise.white(one)) is not None:
            made.white.append(white)
        else:
            made.many.append(one)
    return made


def _width_of_vectors(case: Case, dtype: str) -> str:
    """Return what a suspect's vectors are kept in: a quantised file keeps them in float32."""
    infos = case.suspect.infos()
    kept = [info.dtype for info in infos.values() if len(info.shape) == 1]
    return dtype if not kept or kept[0] != "F32" or dtype != "F32" else "F32"


def _is_lora(some: _Changes, gains: list[tuple[Pair, float]]) -> bool:
    """Tell whether most differences are of one low rank; where norms moved too, most matrices must be so."""
    least = _MOST * (some.looked if gains else some.count)
    return bool(some.low) and len(some.low) >= least and ranks.alike(some.low)


def _unlike(gains: list[tuple[Pair, float]], blurred: Finding | None) -> list[tuple[Pair, float]]:
    """Return the vectors that moved otherwise than noise on all tensors would move them."""
    if blurred is None:
        return gains
    return [one for one in gains if abs(one[1] / blurred.figures["sigma"] - 1) > _AS_NOISE]


def _like_a_mark(some: _Changes) -> bool:
    """Tell whether small white differences are on MLPs alone: so it is with a copy's mark, not with noise."""
    there = {one.residual.pair.part for one in some.white}
    return bool(there) and there <= _MARKED and float(np.median([one.sigma for one in some.white])) < _MARK_SIZED


def _spiked(some: _Changes) -> Finding | None:
    """Return directions that stand out of noise, where about as many do in most tensors."""
    counts = [one.spectrum.spikes for one in some.white if one.spectrum.spikes]
    if len(counts) < max(2, _SOME * len(some.white)):
        return None
    parts = sorted({one.residual.pair.part for one in some.white if one.spectrum.spikes})
    rank = int(np.median(counts))
    return Finding(
        kind="lora",
        detail=f"rank {rank}, or more beneath the noise, on {', '.join(parts)}",
        evidence=f"in {len(counts)} of {some.looked} matrices, {min(counts)} to {max(counts)} directions stand out",
        figures={"rank": float(rank), "matrices": float(len(counts))},
    )


def _unknown(some: _Changes, hidden: training.Codes | None) -> Finding:
    sizes = [one.sigma for one in some.white] + [float(np.sqrt(one.energy)) for one in some.many]
    size = float(np.median(sizes)) if sizes else hidden.size if hidden else 0.0
    parts = sorted({one.residual.pair.part for one in some.white})
    detail = f"a difference of {size:.2%} of a tensor's spread that is neither noise, nor training, nor a low rank"
    if _like_a_mark(some):
        detail = f"a white difference of {size:.2%} of a tensor's spread, on {', '.join(parts)} alone, as a mark is"
    elif hidden is not None and not some.count:
        detail = f"something of {size:.2%} of a tensor's spread before it was quantised, too little to tell what"
    evidence = f"{some.count} of {some.looked} matrices differ by more than storing explains"
    if hidden is not None:
        evidence += f"; {hidden.share:.1%} of the weights are at another step than the checkpoint's own would be"
    return Finding(kind="unknown", detail=detail, evidence=evidence, figures={"size": round(size, 5)})
