"""``python -m strongroom.wiring.worker_process``: what needs no haste. Started by `strongroom up`.

Today that is bringing the usage spool into the ledger; detectors and fleet jobs come to live here.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from contextlib import closing, suppress
from pathlib import Path

from strongroom.core.clock import Clock
from strongroom.ports.processes import WorkerReady, WorkerSetup
from strongroom.serving.books import day_of
from strongroom.serving.spool import Summaries
from strongroom.wiring.home import open_home
from strongroom.wiring.process import run, say, until_told
from strongroom.wiring.serving import SPOOL

WHO = "process:worker"
KEPT = dt.timedelta(days=1)  # usage lines stay until the day after is over: a restarted control counts today's


def main(setup: WorkerSetup) -> None:
    """Work until told to end."""
    with closing(open_home(Path(setup.home))) as home:
        summaries = Summaries(home.path / SPOOL, home.journal, who=WHO)
        asyncio.run(_work(summaries, every=home.settings.serving.usage_seconds, clock=home.clock))


async def _work(summaries: Summaries, *, every: int, clock: Clock) -> None:
    over = until_told()
    say(WorkerReady(summaries=summaries.bring_in()))
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), every)
        summaries.bring_in()
        summaries.clear(day_of(clock.now() - KEPT))


if __name__ == "__main__":
    sys.exit(run(WorkerSetup, main))
