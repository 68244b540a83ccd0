"""Whose answers is this text made of? One test over every key that could have marked it, and a verdict (rule 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput
from strongroom.core.tails import log_gamma_tail
from strongroom.watermark.common import Tokens
from strongroom.watermark.detect import score_all
from strongroom.watermark.keys import MarkKey
from strongroom.watermark.prf import I64

ALPHA: Final = 1e-6  # the family-wise error of a match: one search in a million over unmarked texts names anybody
DOUBT: Final = 1e-2  # a corrected p up to here is too small to say no, too large to accuse
FEW: Final = 100  # scored pairs; docs/watermark.md has the measured power by length that this comes from

METHOD: Final = (
    "strongroom/mark@1 gumbel4: sum of -ln(1-u) over distinct (4-token context, token) pairs, exact Gamma(T,1) upper "
    "tail, Bonferroni over all keys tried (Holm where several fit)"
)
CAVEATS: Final = (
    "Answers at temperature 0 carry no mark, and near-certain tokens carry next to none.",
    "Paraphrase, translation and heavy editing remove the mark: five tokens in a row must survive for a pair to count.",
    "Tokenise with the tokenizer that drew the text: another one shifts the pairs and hides the mark.",
    "A match says that the text holds answers sold to the account, not who put them there.",
    "The p-value is exact over the draw of keys; where many texts share boilerplate, leave common runs out.",
)
_NO_RUNS: Final = np.empty(0, np.int64)


class Accusation(Record, frozen=True):
    """One account's key that fits: its p-value is corrected by Holm's procedure over all keys tried."""

    account: str
    epoch: str
    p_value: float
    log10_p: float


class Verdict(Record, frozen=True):
    """What a search over many keys found.

    Attributes:
        verdict: match, no_match or inconclusive.
        account, epoch: whose key it is; None unless it is a match.
        p_value: of the best key, corrected for all keys tried: min(1, raw x candidates). Never 0.
        log10_p: its decimal logarithm, right where `p_value` has reached the smallest float.
        raw_p_value: of the best key, uncorrected.
        scored: how many distinct (context, token) pairs the text has.
        candidates: how many keys, each an account in an epoch, were tried.
        method: what was computed.
        reason: the verdict in a sentence.
        caveats: what no verdict of this kind can see.
        accused: all keys below the threshold, the best first; several accounts mean a text of several sources.

    """

    verdict: Literal["match", "no_match", "inconclusive"]
    account: str | None
    epoch: str | None
    p_value: float
    log10_p: float
    raw_p_value: float
    scored: int
    candidates: int
    method: str
    reason: str
    caveats: tuple[str, ...]
    accused: tuple[Accusation, ...]


def attribute(tokens: Tokens, keys: Sequence[MarkKey], *, alpha: float = ALPHA, common: I64 = _NO_RUNS) -> Verdict:
    """Return which account's mark the text carries, over all `keys` that could have made it.

    Match: exactly one account's corrected p is at most `alpha`. Inconclusive: several accounts' are (the text mixes
    sources, all are listed), or the best lies between `alpha` and 0.01, or fewer than 100 pairs could be scored and
    nothing was found. `common` (from `common_runs`) is left out.

    Raises:
        BadInput: there is no key, one is given twice, `alpha` is not in (0, 0.01], or `tokens` are no token ids.
        InputTooLarge: the text has more than 50,000,000 tokens.

    """
    if not 0 < alpha <= DOUBT:
        raise BadInput("alpha lies between 0 and 0.01", where="alpha")
    if not keys or len({(key.account, key.epoch) for key in keys}) < len(keys):
        raise BadInput("an attribution needs at least one key, and each account and epoch once", where="keys")
    sums, counts = score_all([tokens], keys, common=common)
    scored = int(counts[0])
    logs = log_gamma_tail(counts, sums[:, 0])
    accused = _holm(logs, keys, alpha)
    best = float(logs.min())
    corrected = min(0.0, best + math.log(len(keys)))
    accounts = list(dict.fromkeys(one.account for one in accused))
    verdict, reason = _judge(accounts, corrected, scored=scored, tried=len(keys))
    first = accused[0] if verdict == "match" else None
    return Verdict(
        verdict=verdict,
        account=first and first.account,
        epoch=first and first.epoch,
        p_value=_chance(corrected),
        log10_p=corrected / math.log(10),
        raw_p_value=_chance(best),
        scored=scored,
        candidates=len(keys),
        method=METHOD,
        reason=reason,
        caveats=CAVEATS,
        accused=accused,
    )


def _holm(logs: npt.NDArray[np.float64], keys: Sequence[MarkKey], alpha: float) -> tuple[Accusation, ...]:
    """Return the keys that Holm's step-down procedure rejects at `alpha`, the best first."""
    found: list[Accusation] = []
    corrected = -math.inf
    order: list[int] = np.argsort(logs, kind="stable").tolist()
    for rank, at in enumerate(order):
        # Holm's p-values never fall from one rank to the next
        corrected = max(corrected, min(0.0, float(logs[at]) + math.log(len(keys) - rank)))
        if corrected > math.log(alpha):
            break
        key = keys[at]
        found.append(
            Accusation(
                account=key.account, epoch=key.epoch, p_value=_chance(corrected), log10_p=corrected / math.log(10)
            )
        )
    return tuple(found)


def _judge(
    accounts: list[str], corrected: float, *, scored: int, tried: int
) -> tuple[Literal["match", "no_match", "inconclusive"], str]:
    """Return the verdict and the sentence that gives its reason."""
    over = f"over {tried:,} keys"
    if len(accounts) == 1:
        return "match", (
            f"{accounts[0]}'s mark is in the text: without it a score this high would come up in less than one search "
            f"{over} in 10^{math.floor(-corrected / math.log(10))}."
        )
    if accounts:
        return "inconclusive", (
            f"The marks of {len(accounts)} accounts are in the text ({', '.join(accounts[:5])}"
            f"{', …' if len(accounts) > 5 else ''}): it mixes several sources; judge its parts one by one."  # noqa: PLR2004
        )
    if corrected <= math.log(DOUBT):
        return "inconclusive", (
            f"One key fits better than chance would usually have it {over} (p = {_chance(corrected):.2g}), not well "
            "enough to accuse anybody: find more text of the same source."
        )
    if scored < FEW:
        return "inconclusive", (
            f"Only {scored} distinct pairs could be scored; below {FEW} a mark that is there is too often not found "
            "to say that there is none."
        )
    return "no_match", (
        f"No mark was found {over} in {scored:,} pairs; this does not show that the text comes from elsewhere: at "
        "temperature 0, after paraphrase or translation, or with another tokenizer a mark is not found."
    )


def _chance(log_p: float) -> float:
    """Return the probability of a natural logarithm, the smallest normal float at least."""
    return math.exp(max(log_p, math.log(float(np.finfo(np.float64).tiny))))
