"""False alarms of each key on harmless texts (rule 8): the report that goes before anybody is accused.

An exact p-value is valid over the draw of keys. This shows whether it is so for each key as well, on texts of the kind
that will be judged: with common runs left out it should be, without it a key may like a much repeated run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput
from strongroom.core.tails import log_binomial_tail, log_gamma_tail
from strongroom.watermark.common import Tokens
from strongroom.watermark.detect import score_all
from strongroom.watermark.keys import MarkKey
from strongroom.watermark.prf import I64

LEVELS: Final = (1e-2, 1e-3, 1e-4)
_NO_RUNS: Final = np.empty(0, np.int64)


class KeyAlarms(Record, frozen=True):
    """How many of the texts one key called marked, by level."""

    account: str
    epoch: str
    alarms: tuple[int, ...]


class Calibration(Record, frozen=True):
    """False alarms on harmless texts.

    Attributes:
        levels: the nominal rates.
        texts: how many texts had a pair to score.
        keys: one row a key.
        averaged: the rate over all keys, by level.
        worst: the highest rate of any key, by level.
        excess_p: by level, the chance that the worst of so many keys has that many alarms or more if every key's rate
            is the nominal one and the texts are independent (binomial tail, Bonferroni over keys). Small: texts share
            runs.

    """

    levels: tuple[float, ...]
    texts: int
    keys: tuple[KeyAlarms, ...]
    averaged: tuple[float, ...]
    worst: tuple[float, ...]
    excess_p: tuple[float, ...]


def calibrate(
    keys: Sequence[MarkKey], texts: Sequence[Tokens], *, levels: Sequence[float] = LEVELS, common: I64 = _NO_RUNS
) -> Calibration:
    """Count, for each key, the harmless `texts` whose p-value is at most each of the `levels`.

    Raises:
        BadInput: there is no key, no text with a run of five tokens, or a level outside (0, 1).
        InputTooLarge: a text has more than 50,000,000 tokens.

    """
    sums, counts = score_all(texts, keys, common=common)
    sums, counts = sums[:, counts > 0], counts[counts > 0]
    if not sums.size or not all(0 < level < 1 for level in levels):
        raise BadInput(
            "a calibration needs keys, texts of at least five tokens, and levels in (0, 1)", where="calibrate"
        )
    logs = log_gamma_tail(counts, sums)
    alarms = np.array([(logs <= math.log(level)).sum(axis=1) for level in levels], np.int64)
    most = alarms.max(axis=1).tolist()
    total = int(counts.size)
    return Calibration(
        levels=tuple(levels),
        texts=total,
        keys=tuple(
            KeyAlarms(account=key.account, epoch=key.epoch, alarms=tuple(row))
            for key, row in zip(keys, alarms.T.tolist(), strict=True)
        ),
        averaged=tuple((alarms.mean(axis=1) / total).tolist()),
        worst=tuple(hits / total for hits in most),
        excess_p=tuple(
            min(1.0, math.exp(log_binomial_tail(hits, total, level)) * len(keys))
            for hits, level in zip(most, levels, strict=True)
        ),
    )
