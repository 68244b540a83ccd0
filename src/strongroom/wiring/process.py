"""What every process of `strongroom up` does alike: read its setup, say that it is ready, end when told or orphaned."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TypeVar

import msgspec

from strongroom.core.errors import BadInput
from strongroom.core.log import configure
from strongroom.custody.memory import harden_process

S = TypeVar("S", bound=msgspec.Struct)


def begin(kind: type[S]) -> S:
    """Harden this process and read its setup: one line of JSON on standard input, which then stays open.

    Raises:
        BadInput: the line is no such setup. Nothing of it is quoted: there are keys in it.

    """
    harden_process()
    configure("warning")
    try:
        return msgspec.json.decode(sys.stdin.buffer.readline(), type=kind)
    except msgspec.MsgspecError:
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
