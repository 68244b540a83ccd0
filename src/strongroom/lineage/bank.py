"""The null bank: how alike models are that are certain to be unrelated, and what p-value that gives a suspect.

The unit of independence is a pair of models. With n pairs the smallest p-value that the bank itself supports is
1 / (n + 1); what a fitted tail says below that is called extrapolated, and is never enough by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record, decode, digest

F64 = npt.NDArray[np.float64]

FORMAT: Final = "strongroom/null-bank@1"
_FILE: Final = "null_bank.json"
_TAIL: Final = 0.1  # the share of the largest effects that the tail is fitted to
_FINEST: Final = 1 / 128  # effects are shares of so many units


class BankModel(Record, frozen=True):
    """A model of the bank."""

    name: str
    width: int
    hidden: int
    layers: int
    text: str


class Bank(Record, frozen=True):
    """Effects of every test between pairs of models. Models are named by their place in `models`."""

    format: Literal["strongroom/null-bank@1"]
    models: tuple[BankModel, ...]
    pairs: dict[str, tuple[tuple[int, int, float], ...]]  # by test: source, suspect, effect
    siblings: tuple[tuple[int, float, float, float], ...]  # base; slope, scatter, cosine of two fine-tunes of it
    note: Annotated[str, msgspec.Meta(max_length=1000)]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A p-value from the bank, before any correction."""

    log10_p: float  # by rank, at least that of 1 / (n + 1)
    log10_tail: float  # by the fitted tail: extrapolated where the effect is beyond every pair's
    pairs: int
    largest: float  # effect among them

    @property
    def at_floor(self) -> bool:
        """Whether the effect is beyond everything in the bank."""
        return self.log10_p <= -math.log10(self.pairs + 1) + 1e-9


@cache
def null_bank() -> Bank:
    """Return the bank that this version carries."""
    raw = resources.files("strongroom.lineage").joinpath(_FILE).read_bytes()
    return decode(raw, Bank, where=_FILE, canonical=False)


def bank_digest(bank: Bank) -> str:
    """Return the SHA-256 by which a report names the bank."""
    return digest(bank)


def calibrated(null: F64, effect: float) -> Calibrated:
    """Return the p-value of an `effect` among the `null` effects of unrelated pairs (n,), where larger is stranger."""
    count = len(null)
    rank = (1 + int((null >= effect).sum())) / (count + 1)
    return Calibrated(math.log10(rank), _tail(null, effect), count, float(null.max(initial=0.0)))


def effects(bank: Bank, method: str, *, without: frozenset[int] = frozenset()) -> F64:
    """Return the effects of a test over the pairs of the bank, but those of the models `without`."""
    pairs = bank.pairs.get(method, ())
    return np.array([effect for one, other, effect in pairs if one not in without and other not in without])


def _tail(null: F64, effect: float) -> float:
    """Return log10 of the chance of so large an effect by an exponential tail over the largest tenth."""
    if not len(null):
        return 0.0
    start = float(np.quantile(null, 1 - _TAIL))
    if effect <= start:
        return math.log10(max(float((null >= effect).mean()), 1 / (len(null) + 1)))
    excess = null[null > start] - start
    mean = max(float(excess.mean()) if len(excess) else 0.0, _FINEST)
    return math.log10(_TAIL) - (effect - start) / mean / math.log(10)
