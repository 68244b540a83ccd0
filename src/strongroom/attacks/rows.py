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
