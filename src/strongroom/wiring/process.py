"""What every process of `strongroom up` does alike: read its setup, say that it is ready, end when told or orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import msgspec

from strongroom.core.errors import BadInput, StrongroomError
from strongroom.core.log import configure, log
from strongroom.custody.memory import harden_process
from strongroom.ports.processes import Ended

S = TypeVar("S", bound=msgspec.Struct)


def run(kind: type[S], work: Callable[[S], None]) -> int:
    """Do `work` with the setup on standard input, one line of JSON, which then stays open; return the exit status.

    Whatever goes wrong is told in one line: the parent reads it, and nothing of a setup is in it.
    """
    harden_process()
    configure("warning")
    try:
        work(_setup(kind))
    except StrongroomError as error:
        say(Ended(error=error.document()))
        log.error("a process ends", role=kind.__name__, code=error.code, where=error.where)
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - the outermost frame: a traceback could hold what nobody may see
        log.error("internal error", role=kind.__name__, code=type(error).__name__)
        return 1
    return 0


def _setup(kind: type[S]) -> S:
    """Return the setup.

    Raises:
        BadInput: the line is no such setup. Nothing of it is quoted: there are keys in it.

    """
    try:
        return msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadInput(f"standard input holds no {kind.__name__}", where="standard input") from None


def say(message: msgspec.Struct) -> None:
    """Print one line of JSON: the one who started this process waits for it."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.flush()


def until_told() -> asyncio.Event:
    """Return what is set when this process is to end: SIGTERM, or standard input at its end (the parent is gone)."""
    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    loop.add_signal_handler(signal.SIGINT, over.set)
    stdin = sys.stdin.fileno()
    os.set_blocking(stdin, False)

    def heard() -> None:
        try:
            heard = os.read(stdin, 4096)
        except BlockingIOError:
            return
        if not heard:
            loop.remove_reader(stdin)
            over.set()

    loop.add_reader(stdin, heard)
    return over
