"""The gateway with one limit planted that reads as configured and does not bite. STRONGROOM_TEST_INERT says which."""

import os
import sys
from typing import Any

import msgspec

from strongroom.gateway import budgets, embedding, exchange, front
from strongroom.gateway.__main__ import main
from strongroom.ports.processes import GatewaySetup
from strongroom.serving import admit
from strongroom.serving.quotas import Prices
from strongroom.wiring.process import run

inert = os.environ["STRONGROOM_TEST_INERT"]
if "/" in inert:  # a kind at a scope, left out when a key's budgets are gathered
    kind, scope = inert.split("/")
    real = admit.budgets_of

    def without(of: Any, name: str, limits: Any) -> Any:
        return [one for one in real(of, name, limits) if (one.kind, of) != (kind, scope)]

    admit.budgets_of = without
elif inert == "cut":  # a stream is let in, and never cut
    exchange.Exchange._affordable = lambda *_: 1 << 40  # type: ignore[method-assign]
elif inert == "settle":  # what was used is never counted
    budgets.Hold.settle = lambda self, _: [till.purse.settle(held, 0) for till, held in self._parts] and None  # type: ignore[method-assign,assignment,func-returns-value]
elif inert == "prices":  # everything costs one billionth a token, whatever control says
    cheap = front.Front.on_roster
    front.Front.on_roster = lambda self, roster: cheap(  # type: ignore[method-assign]
        self, msgspec.structs.replace(roster, prices=Prices(prompt=1, answer=1))
    )
elif inert == "embeddings":  # nothing is held for vectors
    embedding.Embedding.begin = lambda self: self._held(budgets.Hold([]))  # type: ignore[method-assign]
elif inert == "route":  # a key is asked for by one route less
    judge = front.Front._judge_caller
    front.Front._judge_caller = lambda self, request, path: (  # type: ignore[method-assign]
        None if path == b"/v1/models" else judge(self, request, path)
    )
sys.exit(run(GatewaySetup, main))
