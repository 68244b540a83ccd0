"""Five-token runs: cutting a text into them, telling repeats, and leaving out those that many texts share.

A p-value is uniform over keys for whatever text. For one fixed key over many texts it is so only as far as the texts
share no runs: a licence header that a key happens to like lifts every text that holds it. Leaving out the runs that are
known to be shared, whoever the key belongs to, takes that away and costs only runs that carry little mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.watermark.arrays import Array
from strongroom.watermark.gumbel import CONTEXT
from strongroom.watermark.prf import I64, words

Tokens = Sequence[int] | npt.NDArray[np.integer]

RUN: Final = CONTEXT + 1
_TOP: Final = 1 << 32


def as_tokens(tokens: Tokens) -> I64:
    """Return token ids as an int64 array (n,).

    Raises:
        BadInput: they are not one row of whole numbers from 0 to 2^32 - 1.

    """
    try:
        array = np.asarray(tokens)
        fits = array.size == 0 or (array.dtype.kind in "iu" and int(array.min()) >= 0 and int(array.max()) < _TOP)
    except (TypeError, ValueError, OverflowError):
        raise BadInput("token ids are one row of whole numbers", where="tokens") from None
    if array.ndim != 1 or not fits:
        raise BadInput("token ids are one row of whole numbers from 0 to 4,294,967,295", where="tokens")
    return array.astype(np.int64)


def runs(tokens: I64) -> I64:
    """Return every run of five tokens, (n - 4, 5), as a view: a context of four and the token that follows."""
    if tokens.size < RUN:
        return np.empty((0, RUN), np.int64)
    return np.lib.stride_tricks.sliding_window_view(tokens, RUN)


def fingerprints(five: I64) -> I64:
    """Return a 64-bit fingerprint (n,) of each run (n, 5): equal runs have equal ones.

    Unkeyed, so that one list of common runs serves all keys. Two unequal runs share one with a chance of 2^-64; the one
    that is then left out costs a little power, never validity.
    """
    state = cast("Array", np.zeros(len(five), np.int64))
    for place in range(RUN):
        state = words(state, cast("Array", five[:, place]))
    return cast("I64", state)


def firsts(marks: I64) -> npt.NDArray[np.intp]:
    """Return the places of one of each distinct fingerprint, in no particular order."""
    if not marks.size:
        return np.empty(0, np.intp)
    order = np.argsort(marks)
    ordered = marks[order]
    return order[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


def common_runs(texts: Iterable[Tokens], *, at_least: int = 2) -> I64:
    """Return the sorted fingerprints of the runs that `at_least` of the `texts` share.

    Give harmless texts of the kind that will be judged, whole documents each; never texts under suspicion: what they
    share could be the mark.

    Raises:
        BadInput: a text is not token ids.

    """
    each = [np.unique(fingerprints(runs(as_tokens(one)))) for one in texts]
    if not each:
        return np.empty(0, np.int64)
    values, counts = np.unique(np.concatenate(each), return_counts=True)
    return values[counts >= at_least]


def is_common(marks: I64, common: I64) -> npt.NDArray[np.bool_]:
    """Say which fingerprints are in `common`, sorted and not empty."""
    return common[np.minimum(np.searchsorted(common, marks), common.size - 1)] == marks
