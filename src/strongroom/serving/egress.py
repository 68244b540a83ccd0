"""How much of the weights could have left through the answers: a ceiling, never an estimate of what did.

A token that somebody may choose freely carries log2 of the vocabulary in bits, and a log probability 32 more. So
``days = 8 · weight bytes / bits a day``: how long it would take if every answer carried nothing but weights.
"""

from __future__ import annotations

from typing import Final

import msgspec

from strongroom.serving.spool import Tally

_LOGPROB_BITS: Final = 32
_VECTOR_BITS: Final = 8  # of a byte of vectors


class Exposure(msgspec.Struct, frozen=True):
    """What one account, or all together, got today and in all.

    `days` is None where nothing was served, or the size of the weights is not known.
    """

    bytes_today: int
    bits_today: int
    bits: int
    days: float | None
    rank: int  # of the hidden size, what may be known at most
    hidden_size: int  # 0: not known
    alarm: bool


class Rules(msgspec.Struct, frozen=True):
    """When an alarm is raised, and what it is reckoned with."""

    weight_bytes: int  # 0: not known
    token_bits: int
    days: int  # 0: never
    rank: float
    hidden_size: int  # 0: not known


def bits_of(tally: Tally, token_bits: int) -> int:
    """Return the bits that what was served may carry at most."""
    vectors = _VECTOR_BITS * tally.bytes if tally.texts else 0
    return tally.completion_tokens * token_bits + _LOGPROB_BITS * tally.logprobs + vectors


def exposure(today: Tally, ever: Tally, rules: Rules) -> Exposure:
    """Return how far the weights are exposed to whoever got this."""
    bits = bits_of(today, rules.token_bits)
    days = 8 * rules.weight_bytes / bits if bits and rules.weight_bytes else None
    leaks = days is not None and days < rules.days
    known = bool(rules.hidden_size) and ever.rank > rules.rank * rules.hidden_size
    return Exposure(
        bytes_today=today.bytes,
        bits_today=bits,
        bits=bits_of(ever, rules.token_bits),
        days=days,
        rank=ever.rank,
        hidden_size=rules.hidden_size,
        alarm=leaks or known,
    )
