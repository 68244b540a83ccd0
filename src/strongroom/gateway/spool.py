"""The usage spool: lines appended to files of this process's own (docs/formats/usage-1.md).

The lines of one turn of the event loop are written together when it ends. A line that is written survives this process;
once a second, what was written is made to survive a power cut, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.clock import Clock, stamp
from strongroom.core.log import log
from strongroom.serving.usage import Admitted, Line, Refused, Settled

_BYTES: Final = 64 << 20
_SECONDS: Final = 3600.0
_MOST_LATE: Final = 65_536  # lines
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_Like = tuple[str, str, str, int, str, str]
Then = Callable[[bool], None]  # is told whether the line is there


class Spool:
    """Writes usage lines. A line that can't be written is reported, for then nothing may be served."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Write into `folder`, which control made and reads."""
        self._folder = folder
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode_lines
        self._turn: list[tuple[Line, Then | None]] = []  # what is written when this turn of the loop ends
        self._file = -1
        self._size = 0
        self._opened = 0.0
        self._told = False
        self._count = 0
        self._wet = False  # lines were written that a power cut could take
        self._new = False  # … and so could the file's name
        self._drying = 0  # threads at work on that
        self._refused: dict[_Like, Refused] = {}
        self._late: deque[Settled] = deque(maxlen=_MOST_LATE)  # what ended while nothing could be written

    def admit(self, line: Admitted, then: Then) -> None:
        """Append a line when this turn of the loop ends, and tell `then` whether it is there."""
        self._put(line, then)

    def settle(self, line: Settled) -> None:
        """Append the line of a request that is over when this turn of the loop ends; later, if it can't be done."""
        self._put(line, None)

    def write(self, line: Line) -> bool:
        """Append a line now; say whether it is there, whole."""
        return self._write([line]) == 1

    def refuse(self, line: Refused) -> None:
        """Note a refusal: the first of its kind in a second at once, those like it together when the second is over."""
        like = (line.account, line.key, line.route, line.status, line.code, line.rule)
        before = self._refused.get(like)
        if before is None and line.account:
            self.write(line)
            self._refused[like] = msgspec.structs.replace(line, count=0)
        else:
            count = 1 if before is None else before.count + 1
            self._refused[like] = msgspec.structs.replace(line, count=count)

    def tick(self) -> None:
        """A second is over."""
        self._end_turn()
        while self._late and self.write(self._late[0]):
            self._late.popleft()
        waiting, self._refused = self._refused, {}
        for line in waiting.values():
            if line.count:
                self.write(line)
        if self._file >= 0 and self._now() - self._opened > _SECONDS:
            self.close()
        elif self._wet and not self._drying:
            with contextlib.suppress(OSError):  # no descriptor is left: the next second may have one
                self._dry(os.dup(self._file))  # a duplicate, for the file may be closed meanwhile

    def close(self) -> None:
        """Let go of the file; the next line opens another."""
        self._end_turn()
        self._let_go()

    def _put(self, line: Line, then: Then | None) -> None:
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._end_turn)
        self._turn.append((line, then))

    def _end_turn(self) -> None:
        if not self._turn:
            return
        turn, self._turn = self._turn, []
        whole = self._write([line for line, _ in turn])
        for place, (line, then) in enumerate(turn):
            if then is not None:
                then(place < whole)
            elif place >= whole and isinstance(line, Settled):
                self._late.append(line)

    def _write(self, lines: Sequence[Line]) -> int:
        """Append lines; return how many of them are there, whole."""
        raw = self._encode(lines)
        try:
            # a file that was deleted takes lines still, and nobody would ever read them
            if self._file < 0 or self._size + len(raw) > _BYTES or not os.fstat(self._file).st_nlink:
                self._open()
            written = os.write(self._file, raw)
        except OSError as error:
            self._failed(error.strerror or "")
            return 0
        self._size += written
        self._wet = True
        if written != len(raw):
            self._failed("a line was cut")
            return raw.count(b"\n", 0, written)
        self._told = False
        return len(lines)

    def _let_go(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1
            self._dry(file)

    def _open(self) -> None:
        self._let_go()
        self._opened = self._now()
        self._count += 1  # never the same file again: the line before may be torn
        moment = stamp(self._clock.now()).replace(":", "").replace("-", "")
        self._file = os.open(self._folder / f"usage-{moment}-{os.getpid()}-{self._count}.jsonl", _FLAGS, 0o600)
        self._size = 0
        self._new = True

    def _dry(self, file: int) -> None:
        """Have the disk take what was written, then close `file`: in a thread, for all requests would wait for it."""
        folder = self._folder if self._new else None
        self._wet = self._new = False
        self._drying += 1
        asyncio.get_running_loop().run_in_executor(None, _dry, file, folder).add_done_callback(self._dried)

    def _dried(self, done: asyncio.Future[None]) -> None:
        self._drying -= 1
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._failed(error.strerror or "" if isinstance(error, OSError) else type(error).__name__)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _failed(self, why: str) -> None:
        # a torn line must not swallow the next one: that goes into a new file
        self._let_go()
        if not self._told:
            log.error("usage is not recorded", reason=why)
        self._told = True


def _dry(file: int, folder: Path | None) -> None:
    try:
        os.fdatasync(file)
    finally:
        os.close(file)
    if folder is not None:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(place)
        finally:
            os.close(place)
