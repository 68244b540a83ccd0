"""Whose copy is it: from the values of a file's segments to a verdict with an exact p-value.

Every candidate's evidence E has mean 1 if the candidate's code had no part in the file (`lineage.score`), so 1/E is a
p-value. It is multiplied by the number of copies that were ever issued, of all checkpoints, and by the number of rounds
in which colluders are looked for: the chance that anybody innocent is named is at most `NAMED`. Where the values were
read off in several ways (blind, and against the original), the mean of their E is taken, which is such an E again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from strongroom.core.secrets import Secret
from strongroom.lineage.codes import COMMON, I8, U16, biases, common_code
from strongroom.lineage.score import F64, Found, channel, log_common, log_evidence, log_mean

SCORER: Final = "likelihood-ratios@1"
NAMED: Final = 1e-6  # the chance of naming an innocent, over all copies and rounds
DOUBT: Final = 0.01  # below this, but not named: not nothing either
ROUNDS: Final = 8
_COVERED: Final = 0.9  # of the marked weights: with fewer in the file, "no mark" would say little

Decision = Literal["match", "no_match", "inconclusive"]
Manner = Literal["blind", "original"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """What every copy of a checkpoint version has in common: the biases of the codes, and the checkpoint's own code."""

    bias: U16  # (segments,), in units of 2^-16
    common: I8  # (256,)


def scheme_of(bias: Secret, common: Secret, *, segments: int) -> Scheme:
    """Return the scheme that a checkpoint's two secrets make, of so many segments in all."""
    return Scheme(biases(bias, segments - COMMON), common_code(common))


@dataclass(frozen=True, slots=True)
class Reading:
    """The values of a file's segments, the checkpoint's own 256 first, read off blind or against the original."""

    manner: Manner
    values: F64  # (256 + segments,), NaN where the file holds nothing of a segment
    share: float = 1.0  # of the marked weights: so much the file holds, in the checkpoint's shape


@dataclass(frozen=True, slots=True)
class Candidate:
    """One issued copy."""

    copy: str
    recipient: str
    code: I8  # (segments,)


@dataclass(frozen=True, slots=True)
class Accused:
    """A copy that is named, or the one that fits best, with its corrected p-value."""

    copy: str
    recipient: str
    log10_p: float


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of the mark is left, by the checkpoint's own code: mean value and noise of a segment."""

    manner: Manner
    signal: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """How much of the checkpoint a file holds, and whether that is the original itself."""

    share: float
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whose copy a file was made from, and how sure that is."""

    verdict: Decision
    recipient: str | None
    copy: str | None
    log10_p: float  # of the copy that fits best, corrected
    candidates: int  # copies whose codes were compared
    tried: int  # copies that were ever issued: what the p-value is corrected for, times the rounds
    versions: int  # checkpoint versions that copies were issued of
    colluders: tuple[Accused, ...]  # all that are named, if they are several
    checkpoint_log10_p: float  # of the checkpoint's own code, corrected for readings and versions
    strength: tuple[Strength, ...]
    covered: float  # share of the marked weights that the file holds, in the checkpoint's shape
    scores: tuple[float, ...]  # log10 p of every candidate, corrected, of the first round; in the candidates' order
    reason: str
    p_kind: Literal["exact"] = "exact"
    method: str = SCORER


def decode(
    readings: Sequence[Reading], scheme: Scheme, candidates: Sequence[Candidate], *, tried: int, versions: int = 1
) -> Verdict:
    """Compare what was read off a file with the codes of every candidate.

    Args:
        readings: one or more, of the same file.
        scheme: of the checkpoint version that the candidates are copies of.
        candidates: the copies of that version.
        tried: copies that were ever issued, of all checkpoints; at least the number of candidates.
        versions: checkpoint versions that copies were issued of: so many codes of checkpoints there are.

    Returns:
        the verdict, with its reason.

    """
    tried = max(tried, len(candidates), 1)
    found = [_found(one, scheme) for one in readings]
    strength = [
        Strength(one.manner, each.through.signal, each.through.noise) for one, each in zip(readings, found, strict=True)
    ]
    common = [log_common(one.values[:COMMON], scheme.common) for one in readings]
    seen = _Seen(max(one.share for one in readings), _is_unchanged(readings))
    of_checkpoint = min(0.0, min(common) + math.log(len(readings) * versions))
    accused, best = _name(found, candidates, tried=tried)
    scores = _scores(found, candidates, tried=tried)
    log_p = min((one.log10_p for one in accused), default=best.log10_p if best else 0.0)
    decision, reason = _judge(accused, log_p, of_checkpoint=of_checkpoint, seen=seen)
    first = accused[0] if accused else None
    return Verdict(
        verdict=decision,
        recipient=first.recipient if first else None,
        copy=first.copy if first else None,
        log10_p=log_p,
        candidates=len(candidates),
        tried=tried,
        versions=versions,
        colluders=accused if len(accused) > 1 else (),
        checkpoint_log10_p=of_checkpoint / math.log(10),
        strength=tuple(strength),
        covered=seen.share,
        scores=scores,
        reason=reason,
    )


def _is_unchanged(readings: Sequence[Reading]) -> bool:
    """Whether nothing was changed since the original."""
    return any(one.manner == "original" and one.share > 0 and not np.isfinite(one.values).any() for one in readings)


def best_p(readings: Sequence[Reading], scheme: Scheme, codes: I8) -> float:
    """Return the base-10 logarithm of the smallest p-value of the `codes` (n, segments), before any correction."""
    found = [_found(one, scheme) for one in readings]
    return min(0.0, -float(_log_evidence(found, codes, named=codes[:0]).max()) / math.log(10))


def _found(reading: Reading, scheme: Scheme) -> Found:
    """Return what a reading tells of the copies' segments, by what it tells of the checkpoint's."""
    through = channel(reading.values[:COMMON], scheme.common)
    return Found(reading.values[COMMON:], scheme.bias / 65536, through)


def _log_evidence(found: Sequence[Found], codes: I8, *, named: I8) -> F64:
    """Return ln of the mean of the readings' E for each code."""
    return log_mean(np.stack([log_evidence(one, codes, named=named) for one in found], axis=1))


def _name(
    found: Sequence[Found], candidates: Sequence[Candidate], *, tried: int
) -> tuple[tuple[Accused, ...], Accused | None]:
    """Return who is named, surest first, and who fits best; each round takes those named before as known."""
    codes = _codes(found, candidates)
    left, named, accused = list(range(len(candidates))), list[int](), list[Accused]()
    best: Accused | None = None
    while left and len(named) < ROUNDS:
        logs = _log_evidence(found, codes[left], named=codes[named])
        order = [int(one) for one in np.argsort(-logs)]
        ranked = [_accused(candidates[left[at]], float(logs[at]), tried=tried) for at in order]
        best = best or ranked[0]
        sure = [one for one in ranked if one.log10_p <= math.log10(NAMED)]
        if not sure:
            break
        accused += sure
        new = [left[at] for at in order[: len(sure)]]
        named, left = named + new, [one for one in left if one not in new]
    return tuple(sorted(accused, key=lambda one: one.log10_p)), best


def _codes(found: Sequence[Found], candidates: Sequence[Candidate]) -> I8:
    return np.array([one.code for one in candidates], np.int8).reshape(len(candidates), len(found[0].bias))


def _scores(found: Sequence[Found], candidates: Sequence[Candidate], *, tried: int) -> tuple[float, ...]:
    """Return log10 p of every candidate, nobody being known yet."""
    if not candidates:
        return ()
    codes = _codes(found, candidates)
    logs = _log_evidence(found, codes, named=codes[:0])
    return tuple(_accused(one, float(log), tried=tried).log10_p for one, log in zip(candidates, logs, strict=True))


def _accused(candidate: Candidate, log_e: float, *, tried: int) -> Accused:
    corrected = min(0.0, math.log(tried * ROUNDS) - log_e)
    return Accused(candidate.copy, candidate.recipient, corrected / math.log(10))


def _judge(accused: Sequence[Accused], log10_p: float, *, of_checkpoint: float, seen: _Seen) -> tuple[Decision, str]:
    """Return the verdict and the sentence that gives its reason."""
    if accused:
        return "match", made_from([one.recipient for one in accused])
    if of_checkpoint <= math.log(NAMED):
        return "inconclusive", (
            "The file carries the checkpoint's own mark, so it was made from issued copies; whose they are can't be "
            "told: there were more colluders than the code withstands, or too little of the mark is left."
        )
    if log10_p <= math.log10(DOUBT):
        return (
            "inconclusive",
            "One code fits better than chance would usually have it, not well enough to name anybody.",
        )
    return _nothing(seen)


def made_from(recipients: Sequence[str]) -> str:
    """Return the sentence that names the recipients of the copies that a file was made from."""
    if len(recipients) == 1:
        return f"The file was made from the copy of {recipients[0]}."
    return f"The file was made from {len(recipients)} copies together: of {', '.join(dict.fromkeys(recipients))}."


def _nothing(seen: _Seen) -> tuple[Decision, str]:
    """Return what it means that there is no mark to be found."""
    if seen.share < _COVERED:
        return "inconclusive", (
            f"The file holds {seen.share:.0%} of the marked weights under the checkpoint's names and in its shapes:"
            " the rest is missing, renamed or reshaped, and nobody is named by what is left."
        )
    if seen.unchanged:
        return "no_match", "Its projections are the sealed original's, unmarked: this is no issued copy."
    return "no_match", (
        "No mark of this checkpoint was found; that does not show that the file is no derivative: units that were "
        "permuted must be aligned first, and distillation leaves nothing in weights."
    )
