"""Which weights were set to zero, beyond the source's own zeros and those that a grid makes: how many, and which ones.

A grid sets small weights to zero too: 12 % of them where Q4_0 was used. The share that was pruned is then the one that
gives, together with the grid, as many zeros as there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.findings import Finding
from strongroom.lineage.how.quantisers import Grid
from strongroom.lineage.how.samples import Pair, chosen, matrices, rows_of
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

# Measured on SmolLM2's bfloat16 host: no zeros in it; Q4_0 after 300 steps of fine-tuning makes 0.1 % more zeros than
# Q4_0 of the host, ternary weights 0.3 %. A file without a grid has no reason for zeros.
LEAST_SHARE: Final = 0.005
LEAST_BEYOND_GRID: Final = 0.03
LEAST_TENSORS: Final = 0.15
_OF_UNITS: Final = 0.9
_IN_GROUPS: Final = 0.98
_HALF: Final = (0.48, 0.6)
_MAGNITUDE: Final = 0.6
_RANDOM: Final = 0.1
_EVEN_ROWS: Final = 0.25
_CLEARLY: Final = 0.7
_UNITS: Final = "whole units"


@dataclass(frozen=True, slots=True)
class Zeros:
    """What is zero in one tensor and was not."""

    pair: Pair
    mask: Bools  # (rows, columns)
    share: float  # of the weights, set to zero by pruning
    by_magnitude: float  # how well they are the least of the tensor: 1 exactly, 0 no better than chance
    by_row: float  # the same, of their rows
    threshold: float  # the least magnitude that was kept, or so


def zeroed(pair: Pair, grid: Grid | None) -> Bools:
    """Return which weights of the suspect are zero, or at the level next to it, and not in the source."""
    zero = _at_zero(pair.aligned, pair.source, grid)
    return zero & (pair.source != 0)


def look(some: Sequence[Pair], grid: Grid | None) -> list[Zeros]:
    """Return the tensors that were pruned."""
    return [one for pair in some if (one := _zeros(pair, grid)) is not None]


def raw_share(suspect: Tensors, source: Tensors) -> float:
    """Return by how much the share of exact zeros in the suspect's file exceeds the source's.

    It is what is left to see where alignment turned the weights' basis back: there, no zero stays one.
    """
    shares: list[float] = []
    infos = source.infos()
    for name in chosen(matrices(suspect.infos()), 12):
        own = float((rows_of(source, name, 64) == 0).mean()) if name in infos else 0.0
        shares.append(float((rows_of(suspect, name, 64) == 0).mean()) - own)
    told = [one for one in shares if one > LEAST_SHARE]
    return float(np.median(told)) if told else 0.0


def pruned(zeros: Sequence[Zeros], looked: int) -> Finding | None:
    """Return how it was pruned, or None if it was not."""
    if len(zeros) < max(1, LEAST_TENSORS * looked):
        return None
    share = float(np.average([one.share for one in zeros], weights=[one.mask.size for one in zeros]))
    pattern, agreement = _pattern(zeros)
    if pattern == _UNITS:
        share = _share_of_units(zeros)
    weights = sum(one.mask.size for one in zeros)
    return Finding(
        kind="pruned",
        detail=f"{share:.0%} of the weights set to zero, {pattern}",
        evidence=(
            f"of {weights:,} weights in {len(zeros)} of {looked} matrices, {share:.1%} are zero beyond the source's"
            f" own{agreement}"
        ),
        figures={
            "share": round(share, 4),
            "matrices": float(len(zeros)),
            "by_magnitude": round(float(np.mean([max(one.by_magnitude, one.by_row) for one in zeros])), 3),
        },
    )


def _zeros(pair: Pair, grid: Grid | None) -> Zeros | None:
    mask = zeroed(pair, grid)
    share, least = float(mask.mean()), LEAST_SHARE
    sizes: F32 = np.abs(pair.source)
    if grid is not None:
        rounds = grid.as_stored(pair.source, pair.aligned)[0]
        forced = _at_zero(rounds, pair.source, grid)
        least = LEAST_BEYOND_GRID
        if share - float(forced.mean()) < least:
            return None
        share, mask = _beyond(sizes, mask, forced)
    if share < least:
        return None
    cut = float(np.quantile(sizes, share))
    rows = np.quantile(sizes, share, axis=1, keepdims=True)
    return Zeros(
        pair=pair,
        mask=mask,
        share=share,
        by_magnitude=_beyond_chance(mask, sizes <= cut, share),
        by_row=_beyond_chance(mask, sizes <= rows, share),
        threshold=cut,
    )


def _at_zero(values: F32, source: F32, grid: Grid | None) -> Bools:
    """Return which weights are zero; on a grid with an offset, which have no level nearer to zero."""
    if grid is None or grid.family != "offset":
        return values == 0
    return np.abs(values) <= grid.step(source) * np.float32(0.5)


def _beyond(sizes: F32, mask: Bools, forced: Bools) -> tuple[float, Bools]:
    """Return the share that was pruned where a grid sets weights to zero as well, and all that are zero.

    Pruning takes the least, the grid too: of the weights that the grid leaves, the largest that is zero tells.
    If zeros beyond the grid's are no smaller than those kept, they were drawn at random: then both are independent.
    """
    free = ~forced
    rate = float(mask[free].mean()) if free.any() else 0.0
    least = np.sort(sizes[free])
    cut = least[min(int(rate * len(least)), len(least) - 1)]
    if _beyond_chance(mask[free], sizes[free] <= cut, rate) < _RANDOM:
        return rate, mask
    return float((sizes <= cut).mean()), mask


def _beyond_chance(mask: Bools, least: Bools, share: float) -> float:
    """Return which share of the zeros are among the least: 1 if all, 0 if as many as chance would give."""
    zeros = int(mask.sum())
    if not zeros or share >= 1:
        return 0.0
    return float(((mask & least).sum() / zeros - share) / (1 - share))


def _pattern(zeros: Sequence[Zeros]) -> tuple[str, str]:
    """Return the pattern in words, and how well it fits."""
    if (units := _units(zeros)) > _OF_UNITS:
        return _UNITS, f"; {units:.1%} of them fill whole rows or columns"
    groups = float(np.mean([_groups(one.mask) for one in zeros]))
    share = float(np.mean([one.share for one in zeros]))
    if groups > _IN_GROUPS and _HALF[0] < share < _HALF[1]:
        return "2 of every 4 in a row", f"; {groups:.1%} of the groups of 4 have two zeros or more"
    whole = float(np.mean([one.by_magnitude for one in zeros]))
    row = float(np.mean([one.by_row for one in zeros]))
    if max(whole, row) < _RANDOM:
        return "at random", f"; as large as the rest: {whole:+.2f} on a scale from chance (0) to the least (1)"
    fits = f"; they are the least of {'each row' if row > whole else 'their tensor'} by"
    if max(whole, row) < _MAGNITUDE:
        return "by a score that is not magnitude alone", f"{fits} {max(whole, row):.2f} (chance 0, exactly 1)"
    return f"the least {_scope(zeros, whole, row)}", f"{fits} {max(whole, row):.2f} (chance 0, exactly 1)"


def _scope(zeros: Sequence[Zeros], whole: float, row: float) -> str:
    """Return among which weights the least were chosen: a row's, a tensor's or all."""
    spread = float(np.mean([one.mask.mean(axis=1).std() for one in zeros]))
    expected = float(np.mean([np.sqrt(one.share * (1 - one.share) / one.mask.shape[1]) for one in zeros]))
    if row > whole or spread < _EVEN_ROWS * expected:
        return "of each row"
    shares = np.array([one.share for one in zeros])
    cuts = np.array([one.threshold for one in zeros])
    if len(zeros) > 1 and cuts.std() / cuts.mean() < _CLEARLY * shares.std() / shares.mean():
        return "of all tensors together"
    return "of each tensor"


def _units(zeros: Sequence[Zeros]) -> float:
    """Return which share of the zeros lie in rows, or columns, of nothing but zeros."""
    inside = total = 0
    for one in zeros:
        rows = np.asarray(one.mask.all(axis=1, keepdims=True), np.bool_)
        columns = np.asarray(one.mask.all(axis=0, keepdims=True), np.bool_)
        inside += int(np.count_nonzero(one.mask & (rows | columns)))
        total += int(one.mask.sum())
    return inside / max(total, 1)


def _share_of_units(zeros: Sequence[Zeros]) -> float:
    """Return the share of units that are gone: all units of a tensor are seen where they are columns."""
    columns = [share for one in zeros if (share := float(one.mask.all(axis=0).mean())) > 0]
    return float(np.mean(columns or [one.mask.all(axis=1).mean() for one in zeros]))


def _groups(mask: Bools) -> float:
    """Return which share of the groups of four in a row have at least two zeros."""
    whole = mask.shape[1] // 4 * 4
    return float((mask[:, :whole].reshape(-1, 4).sum(axis=1) >= 2).mean())  # noqa: PLR2004 - 2:4
