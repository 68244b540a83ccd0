"""``strongroom up``: control, engine, worker and gateway as one process tree on this machine.

Each process is told only what it needs: control the home and its operator, the engine a secret for control's door, the
gateway secrets for control's and the engine's. Nothing of that is in an environment or a process list; on disk are only
the token of the control API and the secret of the commands' door, for the home's owner alone.
"""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import os
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from strongroom.access.identity import Identity
from strongroom.core.clock import stamp
from strongroom.core.errors import StoreUnavailable, StrongroomError
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import AlreadyUp, ServiceFailed
from strongroom.ports.processes import (
    ControlReady,
    ControlSetup,
    EngineSetup,
    GatewayReady,
    GatewaySetup,
    WorkerSetup,
)
from strongroom.wiring.children import Child
from strongroom.wiring.home import Home
from strongroom.wiring.serving import RUN, SPOOL

_PATIENCE: Final = 300.0  # seconds that a large model may take to load
_POLL: Final = 0.1
_TRIES: Final = 10
_ADDRESS: Final = "Name another port with --port, or another serving.host in strongroom.toml."
_LEFT: Final = ("up.json", "api-token", "command-secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be served, and where."""

    model: str  # NAME:TAG; empty with a foreign engine
    names: tuple[str, ...]
    engine: str  # URL of a foreign engine; empty: the embedded one
    engine_key: Secret | None = None
    host: str
    port: int
    gateways: int = 1  # processes behind one port


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What ``run/up.json`` in the home says of a running `up`."""

    state: Literal["starting", "ready"]
    pid: int
    url: str
    api: str
    sockets: str
    models: tuple[str, ...]
    marked: bool
    since: str
    pids: dict[str, int]  # 0: it died, and is about to be started again


def _secret() -> str:
    return secrets.token_hex(32)


@dataclass(slots=True)
class Up:
    """One run."""

    home: Home
    operator: Identity
    plan: Plan
    sockets: Path
    gateway_secret: str = field(default_factory=_secret)
    engine_secret: str = field(default_factory=_secret)
    asking_secret: str = field(default_factory=_secret)  # the gateway's, at the engine's door
    command_secret: str = field(default_factory=_secret)
    api_token: str = field(default_factory=_secret)
    ports: dict[str, int] = field(default_factory=lambda: {"api": 0, "gateway": 0})
    state: Literal["starting", "ready"] = "starting"
    since: str = ""
    children: list[Child] = field(default_factory=list[Child])

    def __post_init__(self) -> None:
        """Note when it began."""
        self.since = stamp(self.home.clock.now())

    async def run(self, on_ready: Callable[[Running], None], on_stop: Callable[[], None]) -> None:
        """Start everything, tell `on_ready`, keep it running until SIGTERM or SIGINT, and tell `on_stop`.

        Raises:
            ServiceFailed: a process can't start, or dies again and again. Nothing is left running.

        """
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, over.set)
        children = self.children = self._children()
        work = asyncio.create_task(self._keep(children, on_ready))
        told = asyncio.create_task(over.wait())
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            on_stop()
        finally:
            told.cancel()
            work.cancel()
            with suppress(asyncio.CancelledError, StrongroomError):
                await work
            for child in reversed(children):  # the gateway first: it takes no more, and finishes what is open
                await child.stop()

    def _children(self) -> list[Child]:
        control = Child("control", "strongroom.console", self._control, changed=self.announce)
        engine = Child("engine", "strongroom.wiring.engine_process", self._engine, changed=self.announce)
        worker = Child("worker", "strongroom.wiring.worker_process", self._worker, changed=self.announce)
        names = ["gateway", *(f"gateway-{number}" for number in range(2, self.plan.gateways + 1))]
        gateways = [Child(name, "strongroom.gateway", self._gateway, changed=self.announce) for name in names]
        return [control, worker, *gateways] if self.plan.engine else [control, engine, worker, *gateways]

    async def _keep(self, children: list[Child], on_ready: Callable[[Running], None]) -> None:
        """Start the children in order, then watch them all."""
        watches = list[asyncio.Task[None]]()
        try:
            for child in children:
                line = await asyncio.wait_for(child.start(), _PATIENCE)
                self._learn(child.name, line)
                watches.append(asyncio.create_task(child.watch()))
            await self._answering()
            self.state = "ready"
            on_ready(self.announce())
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                one.result()
        except TimeoutError:
            raise ServiceFailed(f"not ready within {_PATIENCE:.0f} seconds", where="up") from None
        finally:
            for watch in watches:
                watch.cancel()

    def _learn(self, name: str, line: bytes) -> None:
        """Remember the ports, so that whoever takes a process's place takes its port."""
        if name == "control":
            self.ports["api"] = msgspec.json.decode(line, type=ControlReady).api_port
        if name.startswith("gateway"):
            self.ports["gateway"] = msgspec.json.decode(line, type=GatewayReady).port

    async def _answering(self) -> None:
        """Wait until the gateways say that a model is behind them; the system chooses which of them is asked."""
        left = wanted = 1 if self.plan.gateways == 1 else 4 * self.plan.gateways
        async with asyncio.timeout(_PATIENCE):
            while left:
                healthy = await asyncio.to_thread(_healthy, self.plan.host, self.ports["gateway"])
                left = left - 1 if healthy else wanted
                if not healthy:
                    await asyncio.sleep(_POLL)

    def announce(self) -> Running:
        """Leave word in the home of what runs, and return it."""
        running = self._running()
        with suppress(OSError):  # who serves goes on; `serving status` then tells what was
            _write(self.home.path / RUN / "up.json", msgspec.json.encode(running).decode())
        return running

    def _running(self) -> Running:
        host = f"[{self.plan.host}]" if ":" in self.plan.host else self.plan.host
        return Running(
            state=self.state,
            pid=os.getpid(),
            url=f"http://{host}:{self.ports['gateway']}/v1",
            api=f"http://127.0.0.1:{self.ports['api']}/api",
            sockets=str(self.sockets),
            models=self.plan.names,
            marked=not self.plan.engine,
            since=self.since,
            pids={child.name: child.pid for child in self.children},
        )

    # ── what each is told ────────────────────────────────────────────────────────────────────────────────────────────
    def _control(self) -> ControlSetup:
        return ControlSetup(
            home=str(self.home.path),
            operator=self.operator.name,
            seed=self.operator.keyring.seed.reveal().hex(),
            model=self.plan.model,
            names=self.plan.names,
            sockets=str(self.sockets),
            gateway_secret=self.gateway_secret,
            engine_secret=self.engine_secret,
            command_secret=self.command_secret,
            api_token=self.api_token,
            api_port=self.ports["api"],
        )

    def _engine(self) -> EngineSetup:
        return EngineSetup(
            home=str(self.home.path),
            engine=str(self.sockets / "engine"),
            engine_secret=self.asking_secret,
            control=str(self.sockets / "engine-control"),
            control_secret=self.engine_secret,
            # one for the other processes: torch's threads that wait for a core cost several times what they bring
            threads=max(1, (os.cpu_count() or 1) - 1),
        )

    def _worker(self) -> WorkerSetup:
        return WorkerSetup(home=str(self.home.path))

    def _gateway(self) -> GatewaySetup:
        key = self.plan.engine_key
        return GatewaySetup(
            host=self.plan.host,
            port=self.ports["gateway"] or self.plan.port,
            gateways=self.plan.gateways,
            control=str(self.sockets / "gateway"),
            secret=self.gateway_secret,
            engine=self.plan.engine or f"unix:{self.sockets / 'engine'}",
            engine_secret=self.asking_secret,
            engine_key="" if key is None else key.reveal().decode(),
            spool=str(self.home.path / SPOOL),
            log=self.home.settings.log.level,
        )


@contextmanager
def preparing(home: Home, operator: Identity, plan: Plan) -> Generator[Up]:
    """Yield an `Up` that alone serves `home`; afterwards nothing of it is left in the home's run folder.

    Raises:
        AlreadyUp: another `up` serves it.

    """
    folder = home.path / RUN
    with _alone(folder), tempfile.TemporaryDirectory(prefix="strongroom-") as sockets:
        _check_port(plan)
        # 0700, and short: a socket's path has 107 bytes at most
        up = Up(home=home, operator=operator, plan=plan, sockets=Path(sockets))
        try:
            _prepare(home, up)
            yield up
        finally:
            for name in _LEFT:
                (folder / name).unlink(missing_ok=True)


def _check_port(plan: Plan) -> None:
    """Return if the gateway's address can be had: to notice now what would be noticed once a large model is loaded.

    Raises:
        StoreUnavailable: it can't.

    """
    family = socket.AF_INET6 if ":" in plan.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((plan.host, plan.port))
        except OSError as error:
            where, reason = f"{plan.host}:{plan.port}", error.strerror or type(error).__name__
            raise StoreUnavailable(f"the gateway can't listen ({reason})", where=where, remedy=_ADDRESS) from None


def _prepare(home: Home, up: Up) -> None:
    """Make the folder of usage lines, and leave what commands and the control API's clients need.

    Raises:
        StoreUnavailable: it can't be written.

    """
    folder = home.path / RUN
    try:
        (home.path / SPOOL).mkdir(mode=0o700, exist_ok=True)
        _write(folder / "api-token", up.api_token)
        _write(folder / "command-secret", up.command_secret)
        up.announce()
    except OSError as error:
        raise StoreUnavailable(f"the run folder can't be used ({error.strerror})", where=str(folder)) from None


def answers(running: Running) -> bool:
    """Whether a gateway says at this moment that a model is behind it."""
    parts = urlsplit(running.url)
    return bool(parts.port) and _healthy(parts.hostname or "", parts.port or 0)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Hold the run folder's lock; the system lets go of it however this process ends."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the run folder can't be used ({error.strerror})", where=str(folder)) from None
    try:
        for attempt in range(_TRIES):  # somebody who only looks may hold it for a moment
            if _locked(lock, fcntl.LOCK_EX):
                break
            if attempt == _TRIES - 1:
                raise AlreadyUp("this home is being served already", where=str(folder))
            time.sleep(_POLL)
        yield
    finally:
        os.close(lock)


def _locked(lock: int, kind: int) -> bool:
    """Take the lock, if it can be had; return whether it was taken."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_served(home: Path) -> bool:
    """Whether an `up` holds the home's lock, whatever files say that one which was killed has left."""
    try:
        lock = os.open(home / RUN / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _locked(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)


def _write(file: Path, text: str) -> None:
    """Write a small file for the owner's eyes, whole or not at all."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(file)


def _healthy(host: str, port: int) -> bool:
    """Ask the gateway whether a model is behind it."""
    line = http.client.HTTPConnection(host, port, timeout=2)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()
