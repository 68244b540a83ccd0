"""What attacks tell: a row each, apart from the engines that they take, so that front doors can name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What one attack achieved."""

    attack: str
    host: str
    holders: int  # recipients whose copies went into it; 0: none
    perplexity: float | None  # of the result, relative to the unmarked host, less one
    named: tuple[str, ...]  # blind and against the original
    named_blind: tuple[str, ...]
    innocent_named: int  # of either: 0, or the mark is worthless
    log10_p: float  # of the surest, corrected for 1,000 recipients
    log10_p_blind: float
    checkpoint_log10_p: float
    best_innocent_log10_p: float  # before correction, of either reading
    note: str = ""


@dataclass(frozen=True, slots=True)
class LaunderRow:
    """What a trace says of one suspect whose making is known."""

    attack: str
    expected: str  # match, no_match or common_ancestor
    verdict: str
    checkpoint: str | None
    log10_p: float
    p_kind: str
    method: str
    effect: float
    expected_named: str  # right or nobody
    named: str  # right, wrong or nobody
    derivation: tuple[str, ...]  # each finding's kind and detail
    expected_derivation: tuple[str, ...]
    derivation_right: bool | None  # None: nothing is to be found
    perplexity: float | None  # relative to ours, less one
    seconds: float  # of the trace
    note: str = ""  # why there is none: what is not installed
