"""The same requests to a real gateway and to the policy code alone: both must decide and show the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from time import perf_counter
from typing import Final

import numpy as np

from strongroom.attacks.project_doors import Live, Wired
from strongroom.attacks.project_house import KEY, guarded
from strongroom.attacks.project_lab import Lab
from strongroom.attacks.project_plans import Lifted
from strongroom.attacks.project_policy import Policed
from strongroom.attacks.project_wire import Answer, Query
from strongroom.attacks.rows import AgreementRow
from strongroom.attacks.stock_server import Setup, serving
from strongroom.serving.disclosure.tiers import TIERS

REQUESTS: Final = 1000
_CLOSE: Final = 1e-6
_DRAW: Final = 23
_SIDE: Final = 100


def agreement(lab: Lab, tier: str, *, requests: int = REQUESTS) -> AgreementRow:
    """Send requests of every kind that the attack makes to both, one after the other, for sets of biases are counted.

    Raises:
        StoreUnavailable: a server or gateway does not come up.

    """
    began = perf_counter()
    refused = decided = valued = 0
    with ExitStack() as stack:
        port, _ = stack.enter_context(serving(Setup(str(lab.folder))))
        gate, _ = stack.enter_context(guarded(port, tier))
        wired = Wired(gate, KEY)
        stack.callback(wired.close)
        live, policy = Live(wired, lab.codec), Policed(lab.places, TIERS[tier], lab.codec)
        for query in islice(_queries(lab), requests):
            (there,), (here,) = live.ask([query]), policy.ask([query])
            refused += not there.is_given
            decided += (there.status, there.code) != (here.status, here.code)
            valued += not _alike(there, here)
    seconds = round(perf_counter() - began, 1)
    return AgreementRow(tier, requests, requests - refused, refused, decided, valued, seconds)


def _queries(lab: Lab) -> Iterator[Query]:
    """Give requests of all kinds in turn, without end."""
    draw, aim = np.random.default_rng(_DRAW), lab.aim(_SIDE)
    lifted = [Lifted(top).queries(aim) for top in (5, 20)]
    for at in range(1 << 30):
        row, token = int(draw.integers(aim.prompts)), int(draw.integers(len(lab.places.names)))
        yield from (next(each) for each in lifted)
        yield Query("chat", row, top=5)
        yield Query("chat", row, top=20, length=3)
        yield Query("chat", row, tuple((one, 2.0) for one in aim.tokens[: 1 + at % 30]), 5)
        yield Query("chat", row, ((token, 80.0), (aim.tokens[0], 79.5)))
        yield Query("text", row, tokens=aim.tokens[:20])
        yield Query("echo", row, tokens=(token,))
        yield Query("whole", row)
        yield Query("embed", row)


def _alike(one: Answer, other: Answer) -> bool:
    """Whether two answers show the same tokens and values."""
    if one.written and other.written and one.written != other.written[: len(one.written)]:
        return False
    if len(one.vector) != len(other.vector) or not np.allclose(one.vector, other.vector, atol=_CLOSE):
        return False
    first = [pair for place in one.places for pair in sorted(place)]
    second = [pair for place in other.places for pair in sorted(place)]
    return [token for token, _ in first] == [token for token, _ in second] and all(
        abs(a - b) <= _CLOSE for (_, a), (_, b) in zip(first, second, strict=True)
    )
