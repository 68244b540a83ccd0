"""A process of `strongroom up`: started with its setup on standard input, watched, started again when it dies.

A child's standard input stays open as long as its parent lives: that is how it notices a parent that was killed. It
runs in a session of its own, so that an interrupt at the terminal reaches the parent alone, which then ends all in
order.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from strongroom.core.log import log
from strongroom.core.serving_errors import ServiceFailed

_MOST_DEATHS: Final = 5  # within `_WINDOW` seconds: then it is no accident
_WINDOW: Final = 60.0
_PATIENCE: Final = 15.0  # seconds from SIGTERM to SIGKILL
_LONGEST: Final = 5.0  # seconds between two starts, at most
_LINE: Final = 1 << 16


class _Problem(msgspec.Struct, frozen=True):
    """An error as a child tells it (`core.errors.StrongroomError.document`)."""

    code: str
    where: str
    message: str
    remedy: str


class _Told(msgspec.Struct, frozen=True):
    """A child's first line, if it is an error."""

    error: _Problem | None = None


class Child:
    """One process, and whoever takes its place."""

    def __init__(
        self, name: str, module: str, setup: Callable[[], msgspec.Struct], *, changed: Callable[[], object]
    ) -> None:
        """Run ``python -m module`` with what `setup` returns at each start; `changed` hears of every start and end."""
        self.name = name
        self.deaths: deque[float] = deque(maxlen=_MOST_DEATHS)
        self._module = module
        self._setup = setup
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int:
        """Its process id; 0 while there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> bytes:
        """Start it; return the line that it prints when it is ready.

        Raises:
            ServiceFailed: it ended before.

        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # whatever lies in the current folder is no module of ours
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=environment,
            limit=_LINE,
        )
        if process.stdin is None or process.stdout is None:
            raise ServiceFailed("it has no standard input or output", where=self.name)
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(msgspec.json.encode(self._setup()) + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        await self._check(line)
        self._changed()
        return line

    async def _check(self, line: bytes) -> None:
        """Return if `line` says that the child is ready."""
        told = _Told()
        with suppress(msgspec.MsgspecError):
            told = msgspec.json.decode(line, type=_Told)
        if told.error is not None:
            one = told.error
            message, where = f"{self.name} did not start: {one.code}: {one.message}", one.where
            raise ServiceFailed(message, where=where, remedy=one.remedy)
        if not line:
            status = await self._ended()
            raise ServiceFailed(f"{self.name} ended with status {status} before it was ready", where=self.name)

    async def watch(self) -> None:
        """Start it again whenever it dies, until it is stopped.

        Raises:
            ServiceFailed: it dies again and again.

        """
        while True:
            status = await self._ended()
            if self._stopping:
                return
            log.warning("a process died and is started again", role=self.name, status=status)
            self._changed()
            self.deaths.append(time.monotonic())
            if len(self.deaths) == _MOST_DEATHS and self.deaths[-1] - self.deaths[0] < _WINDOW:
                raise ServiceFailed(f"{self.name} died {_MOST_DEATHS} times within a minute", where=self.name)
            await asyncio.sleep(min(_LONGEST, 0.1 * 2 ** len(self.deaths)))
            if self._stopping:
                return
            with suppress(ServiceFailed):  # it died again: the next round sees that
                await self.start()

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL for one that does not listen."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _PATIENCE)
            except TimeoutError:
                log.warning("a process did not end in time and was killed", role=self.name)
                self._process.kill()
                await self._process.wait()

    async def _ended(self) -> int:
        return await self._process.wait() if self._process else 0
