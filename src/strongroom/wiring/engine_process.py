"""An engine in a process of its own: asks control for weights and marks, answers gateways, writes nothing.

    python -m strongroom.wiring.engine_process

It holds no home, no ledger and nobody's key, only what control has released to it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.core.canonical import decode
from strongroom.core.log import configure
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import EngineFailed
from strongroom.custody.lease import Lease
from strongroom.custody.read import SealedReader
from strongroom.ports.blobs import Blobs
from strongroom.ports.brokerage import WeightsReleased
from strongroom.ports.engine import Engine
from strongroom.ports.links import Accept, Listen, Listening
from strongroom.ports.processes import EngineReady, EngineSetup
from strongroom.wiring.control_link import ControlLink
from strongroom.wiring.engine import load_engine
from strongroom.wiring.home import SETTINGS, read_settings
from strongroom.wiring.process import run, say, until_told
from strongroom.wiring.table import load, split

_GRACE: Final = 5.0  # seconds that open answers get at the end


class EngineProcess:
    """One run of an engine, from weights to the last answer."""

    def __init__(self, setup: EngineSetup) -> None:
        """Be what `setup` says."""
        self._setup = setup
        control = Secret(bytes.fromhex(setup.control_secret))
        self._control = ControlLink(Path(setup.control), control, load("kept-link", "unix"))

    async def run(self) -> None:
        """Ask for weights, serve until told to stop.

        Raises:
            StrongroomError: the weights are withheld, or are not what was sealed.

        """
        over = until_told()
        await self._control.start()
        try:
            if (released := await self._released(over)) is not None:
                await self._serve(released, over)
        finally:
            self._control.close()

    async def _released(self, over: asyncio.Event) -> WeightsReleased | None:
        """Return the weights, or None if the end comes before them."""
        wanted, stopped = self._control.weights(), asyncio.ensure_future(over.wait())
        await asyncio.wait({wanted, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return wanted.result() if wanted.done() else None

    async def _serve(self, released: WeightsReleased, over: asyncio.Event) -> None:
        setup, model = self._setup, released.model
        engine = await asyncio.to_thread(_loaded, released, Path(setup.home))
        del released  # the key was for loading only
        service = load("service", "transformers")(
            engine, self._control, max_batch=setup.max_batch, max_waiting=setup.max_waiting
        )
        listen: Listen = load("listen", "unix")
        accept: Accept = load("gateways", "link")(service, service.introduce(model))
        listening: Listening = await listen(Path(setup.engine), Secret(bytes.fromhex(setup.engine_secret)), accept)
        say(EngineReady(model=model))
        await _first(over, service.died)
        if service.died.is_set():
            raise EngineFailed("nothing is written any more", where="engine")
        await service.drain(_GRACE)
        listening.close()


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of the events is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _loaded(released: WeightsReleased, home: Path) -> Engine:
    """Open the sealed folder with the released key, into memory, and load the model."""
    settings = read_settings(home / SETTINGS)
    scheme, place = split("blobs", settings.custody.store)
    open_blobs: Callable[[Path], Blobs] = load("blobs", scheme)
    lease = decode(released.lease, Lease, where="lease")
    key = Secret(released.key)
    try:
        reader = SealedReader(open_blobs(home / place), lease.checkpoint, expected=lease.expected(), data_key=key)
    finally:
        key.wipe()
    try:
        return load_engine(reader)
    finally:
        reader.close()


def main(setup: EngineSetup) -> None:
    """Run an engine until told to end."""
    configure(read_settings(Path(setup.home) / SETTINGS).log.level)
    if setup.threads:
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)  # read by torch when it is imported, later
    asyncio.run(EngineProcess(setup).run())


if __name__ == "__main__":
    sys.exit(run(EngineSetup, main))
