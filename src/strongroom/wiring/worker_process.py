"""``python -m strongroom.wiring.worker_process``: what needs no haste. Started by `strongroom up`.

Today that is bringing the usage spool into the ledger; detectors and fleet jobs come to live here.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic

from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.ports.processes import WorkerReady, WorkerSetup
from strongroom.serving.books import day_of
from strongroom.serving.spool import Summaries
from strongroom.wiring.exposure import look_back, raise_alarms
from strongroom.wiring.home import open_home
from strongroom.wiring.process import run, say, until_told
from strongroom.wiring.serving import SPOOL, Serving, serving_of

WHO = "process:worker"
_ALARMS = 600.0  # seconds between two looks for alarms: each reads all summaries
KEPT = dt.timedelta(days=1)  # usage lines stay until the day after is over: a restarted control counts today's


def main(setup: WorkerSetup) -> None:
    """Work until told to end."""
    with closing(open_home(Path(setup.home))) as home:
        summaries = Summaries(home.path / SPOOL, home.journal, who=WHO)
        asyncio.run(_work(serving_of(home), summaries, every=home.settings.serving.usage_seconds))


async def _work(rooms: Serving, summaries: Summaries, *, every: int) -> None:
    over, looked = until_told(), 0.0
    say(WorkerReady(summaries=summaries.bring_in()))
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), every)
        summaries.bring_in()
        summaries.clear(day_of(rooms.home.clock.now() - KEPT))
        if monotonic() - looked > _ALARMS:
            looked = monotonic()
            _look_for_alarms(rooms)


def _look_for_alarms(rooms: Serving) -> None:
    """Reckon how far the weights are exposed; where that fails, the next look may have more luck."""
    try:
        raise_alarms(rooms, look_back(rooms), who=WHO)
    except (StrongroomError, OSError) as error:
        log.error("exposure not reckoned", code=getattr(error, "code", type(error).__name__))


if __name__ == "__main__":
    sys.exit(run(WorkerSetup, main))
