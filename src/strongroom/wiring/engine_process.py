"""An engine in a process of its own: asks control for weights and marks, answers gateways, writes nothing.

    python -m strongroom.wiring.engine_process

Its parent writes one line of JSON (`EngineSetup`) to its standard input and keeps that open: the engine ends when it
is closed, or at SIGTERM. It holds no home, no ledger and nobody's key, only what control has released to it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.canonical import decode
from strongroom.core.errors import BadInput, StrongroomError
from strongroom.core.log import configure, log
from strongroom.core.secrets import Secret
from strongroom.core.settings import LogSettings
from strongroom.custody.lease import Lease
from strongroom.custody.memory import harden_process
from strongroom.custody.read import SealedReader
from strongroom.ports.blobs import Blobs
from strongroom.ports.brokerage import WeightsReleased
from strongroom.ports.engine import Engine
from strongroom.ports.links import Accept, Listen, Listening
from strongroom.wiring.control_link import ControlLink
from strongroom.wiring.engine import load_engine
from strongroom.wiring.home import SETTINGS, read_settings
from strongroom.wiring.table import load, split

_GRACE: Final = 5.0  # seconds that open answers get at the end
_LONGEST_LINE: Final = 65_536


class EngineSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the parent tells an engine. `secret` is the link secret in hexadecimal; `threads` 0 leaves torch its way."""

    engine: str  # path of the socket where gateways are answered
    control: str  # path of the socket where control listens
    secret: str
    home: str  # the home's folder: only its settings and its sealed payloads are read
    threads: int = 1
    level: str = "warning"
    max_batch: int = 8
    max_waiting: int = 32


class EngineProcess:
    """One run of an engine, from weights to the last answer."""

    def __init__(self, setup: EngineSetup) -> None:
        """Be what `setup` says."""
        self._setup = setup
        self._secret = Secret(_unhex(setup.secret))
        self._stop = asyncio.Event()
        self._control = ControlLink(Path(setup.control), self._secret, load("kept-link", "unix"))

    async def run(self) -> None:
        """Ask for weights, serve until told to stop.

        Raises:
            StrongroomError: the weights are withheld, or are not what was sealed.

        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        threading.Thread(target=_watch_parent, args=(loop, self._stop), name="parent", daemon=True).start()
        await self._control.start()
        try:
            if (released := await self._released()) is not None:
                await self._serve(released)
        finally:
            self._control.close()

    async def _released(self) -> WeightsReleased | None:
        """Return the weights, or None if the end comes before them."""
        wanted, stopped = self._control.weights(), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({wanted, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        return wanted.result() if wanted.done() else None

    async def _serve(self, released: WeightsReleased) -> None:
        setup, model = self._setup, released.model
        engine = await asyncio.to_thread(_loaded, released, Path(setup.home))
        del released  # the key was for loading only
        service = load("service", "transformers")(
            engine, self._control, max_batch=setup.max_batch, max_waiting=setup.max_waiting
        )
        listen: Listen = load("listen", "unix")
        accept: Accept = load("gateways", "link")(service, service.introduce(model))
        listening: Listening = await listen(Path(setup.engine), self._secret, accept)
        log.info("engine ready", object=f"checkpoint:{model}")
        await self._stop.wait()
        await service.drain(_GRACE)
        listening.close()


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


def _watch_parent(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Wait until standard input is closed: the parent has ended, or wants the engine to."""
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(stop.set)


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadInput("the link secret is not hexadecimal", where="secret") from None


def read_setup(line: bytes) -> EngineSetup:
    """Return the setup in one line of JSON.

    Raises:
        BadInput: it is none; the message quotes nothing of it.

    """
    return decode(line, EngineSetup, where="standard input", canonical=False)


def main() -> int:
    """Run an engine; return its exit status."""
    configure(LogSettings().level)
    harden_process()
    try:
        setup = read_setup(_first_line())
        configure(setup.level)
        if setup.threads:
            os.environ["OMP_NUM_THREADS"] = str(setup.threads)  # read by torch when it is imported, later
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(EngineProcess(setup).run())
    except StrongroomError as error:
        log.error("the engine did not start", code=error.code, where=error.where)
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - the outermost frame: a traceback could hold what nobody may see
        log.error("internal error", code=type(error).__name__)
        return 1
    return 0


def _first_line() -> bytes:
    """Return the first line of standard input, read byte by byte: what follows is the watcher's."""
    line = bytearray()
    while len(line) < _LONGEST_LINE and (byte := os.read(0, 1)) not in {b"", b"\n"}:
        line += byte
    return bytes(line)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's maker of event loops where it is installed."""
    try:
        import uvloop
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
