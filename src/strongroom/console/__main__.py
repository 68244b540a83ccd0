"""``python -m strongroom.console``: the control process. Started by `strongroom up`."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import uvicorn

from strongroom.access.policy import Question
from strongroom.console.api import Api
from strongroom.console.broker import Broker, CommandDesk, EngineDesk, GatewayDesk
from strongroom.console.openapi import document
from strongroom.core.errors import StoreUnavailable
from strongroom.core.ids import CheckpointName
from strongroom.core.log import log
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act
from strongroom.ports.brokerage import FromEngine
from strongroom.ports.links import Accept, Listen, Listening, Receiver
from strongroom.ports.processes import ControlReady, ControlSetup
from strongroom.serving.leasing import Leasing
from strongroom.serving.roster import Refresh, ToControl
from strongroom.serving.shares import Shares
from strongroom.wiring.home import Home, open_home
from strongroom.wiring.process import run, say, until_told
from strongroom.wiring.recall import Tells
from strongroom.wiring.recognise import keep_tokenizer
from strongroom.wiring.serving import RUN, SHARES, serving_of, veil_of
from strongroom.wiring.table import load

_TICK = 1.0  # seconds


def main(setup: ControlSetup) -> None:
    """Serve until told to end."""
    with closing(open_home(Path(setup.home))) as home:
        asyncio.run(_serve(_broker(home, setup), setup))


def _broker(home: Home, setup: ControlSetup) -> Broker:
    """Resume as the operator, who must be allowed to serve; the ledger then says that serving begins."""
    operator = home.desk.resume(setup.operator, Secret(bytes.fromhex(setup.seed)))
    serving = serving_of(home)
    model = CheckpointName.parse(setup.model) if setup.model else None
    question = Question("serving.run", purpose=f"serve {model or 'a foreign engine'}")
    master = serving.master(operator, question)
    serving.spool.mkdir(mode=0o700, exist_ok=True)
    if model is not None:
        keep_tokenizer(home, operator, model, master=master)
    leasing = Leasing(serving.books, Shares(home.path / RUN / SHARES, monotonic))
    register, veil, tells = serving.register(master), veil_of(master), Tells(serving, operator).now
    return Broker(serving, operator, model, setup.names, register, veil, leasing, tells)


async def _serve(broker: Broker, setup: ControlSetup) -> None:
    over = until_told()
    folder = Path(setup.sockets)
    doors = [
        await _door(folder / "gateway", setup.gateway_secret, lambda: (ToControl, GatewayDesk(broker))),
        await _door(folder / "engine-control", setup.engine_secret, lambda: (FromEngine, EngineDesk(broker))),
        await _door(folder / "command", setup.command_secret, lambda: (Refresh, CommandDesk(broker))),
    ]
    with _bound(setup.api_port) as listening:
        server = _Server(
            uvicorn.Config(
                Api(broker, setup.api_token).app(document()),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
                limit_concurrency=1024,
            )
        )
        running = asyncio.create_task(server.serve(sockets=[listening]))
        say(ControlReady(api_port=listening.getsockname()[1]))
        await _tick_until(over, broker)
        server.should_exit = True
        await running
    for door in doors:
        door.close()
    act = Act(broker.operator.label, "serving.ended", "serving")
    broker.serving.home.journal.record(act, "done")


async def _tick_until(over: asyncio.Event, broker: Broker) -> None:
    """Let the broker look around every second until the end."""
    broker.looked = broker.serving.home.ledger.checkpoint().size
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), _TICK)
        try:
            broker.tick()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next second is another chance
            log.error("control could not look around", code=getattr(error, "code", type(error).__name__))


class _Server(uvicorn.Server):
    """uvicorn, but that signals are ours: they end more than HTTP."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals alone."""
        yield


async def _door(path: Path, secret: str, made: Callable[[], tuple[Any, Receiver]]) -> Listening:
    """Listen at `path` for whoever knows that role's secret."""
    listen: Listen = load("listen", "unix")
    accept: Accept = lambda _role: made()  # noqa: E731 - the secret says the role; the word that is sent does not count
    return await listen(path, Secret(bytes.fromhex(secret)), accept)


def _bound(port: int) -> socket.socket:
    """Return a listening socket on this machine only.

    Raises:
        StoreUnavailable: the port is taken.

    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        listening.close()
        raise StoreUnavailable(f"the port can't be had ({error.strerror})", where=f"127.0.0.1:{port}") from None
    return listening


if __name__ == "__main__":
    sys.exit(run(ControlSetup, main))
