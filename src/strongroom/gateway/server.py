"""Puts the gateway together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Final

from strongroom.core.clock import SystemClock
from strongroom.core.errors import BadSettings, StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.gateway.connection import Connection
from strongroom.gateway.control import Control
from strongroom.gateway.front import Front
from strongroom.gateway.spool import Spool
from strongroom.ports.completions import Completions
from strongroom.ports.processes import GatewayReady, GatewaySetup
from strongroom.wiring.process import say, until_told
from strongroom.wiring.table import load

_PORT: Final = "Name another port with --port, or end what listens there."
_TICK: Final = 1.0
_BACKLOG: Final = 1024
_GARBAGE: Final = 100_000  # objects, until cycles are looked for: requests leave none behind
_SEND_BUFFER: Final = 256 << 10


async def serve(setup: GatewaySetup) -> None:
    """Serve until SIGTERM, SIGINT, or the end of standard input: whoever started this process is then gone."""
    over = until_told()
    secret = Secret(bytes.fromhex(setup.secret))
    engine = await open_engine(setup, Secret(bytes.fromhex(setup.engine_secret)))
    control = Control(Path(setup.control), secret, keep=load("kept-link", "unix"))
    clock = SystemClock()
    front = Front(setup, engine=engine, control=control, spool=Spool(Path(setup.spool), clock), clock=clock)
    keeping = asyncio.create_task(control.keep(front))
    ticking = asyncio.create_task(_tick(front))
    server = await _listening(front, setup)
    for listening in server.sockets:
        # inherited by every connection: otherwise the kernel takes in megabytes for each client that does not read
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    port: int = server.sockets[0].getsockname()[1]
    gc.freeze()  # what is there now stays: the collector need not look at it again and again
    gc.set_threshold(_GARBAGE)
    say(GatewayReady(port=port))
    await over.wait()
    server.close()
    await front.stop()
    for task in (keeping, ticking):
        task.cancel()
    engine.close()
    await asyncio.gather(keeping, ticking, return_exceptions=True)
    await asyncio.sleep(0)


async def _listening(front: Front, setup: GatewaySetup) -> asyncio.Server:
    """Return the listening server.

    Raises:
        StoreUnavailable: the address can't be had.

    """
    try:
        loop = asyncio.get_running_loop()
        # None leaves the system's way alone
        return await loop.create_server(
            lambda: Connection(front), setup.host, setup.port, backlog=_BACKLOG, reuse_port=setup.gateways > 1 or None
        )
    except OSError as error:
        where = f"{setup.host}:{setup.port}"
        raise StoreUnavailable(f"the gateway can not listen ({error.strerror})", where=where, remedy=_PORT) from None


async def open_engine(setup: GatewaySetup, secret: Secret) -> Completions:
    """Return the client of the engine that the setup names.

    Raises:
        BadSettings: the URL's scheme is none that the gateway speaks.

    """
    scheme, _, rest = setup.engine.partition(":")
    if scheme == "unix":
        engine = load("completions", "unix")(Path(rest), secret)
    elif scheme in {"http", "https"}:
        key = Secret(setup.engine_key.encode()) if setup.engine_key else None
        engine = load("completions", scheme)(setup.engine, key)
    else:
        raise BadSettings("the engine's URL begins with none of unix: http: https:", where="engine")
    await engine.start()
    return engine


async def _tick(front: Front) -> None:
    while True:
        await asyncio.sleep(_TICK)
        front.tick()
