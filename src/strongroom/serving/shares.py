"""What gateways hold of limits that are not of a day: parts of the requests a minute, and places for requests.

Kept by control in a small file that is appended to before anything is given, so that a control that is killed forgets
nothing: the kernel has the bytes by then. A power cut may take the last of them; it ends every gateway as well.

A gateway's part is free again when it gives it back, or once its process is gone: places at once, requests a minute
after 60 s, for those it let in before still count.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.errors import StoreUnavailable
from strongroom.core.log import log
from strongroom.serving.quotas import kind_of

_MINUTE: Final = 60.0
_LINES: Final = 4096  # until the file is written anew
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class _Holder(msgspec.Struct):
    """A gateway, as long as anything of it counts. Each line of the file is one, whole, and the last one is right."""

    gateway: str
    pid: int
    born: int  # when its process began, as the kernel counts
    held: dict[str, int] = {}
    gone: float | None = None  # since when its process is gone, by the clock that never goes back


_LINE: Final = msgspec.json.Decoder(_Holder)


class Shares:
    """Who holds how much of what."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        """Remember in `file`; `clock` counts seconds since the machine started, for all processes alike."""
        self._file = file
        self._clock = clock
        self._out = -1
        self._lines = 0
        self._torn = False  # the file ends with a part of a line, which must not swallow the next one
        self._holders: dict[str, _Holder] = {}
        self._read()
        self._compact()

    def join(self, gateway: str, pid: int, held: dict[str, int]) -> None:
        """Take note of a gateway and of what it says that it holds: it knows best, but for less than nothing."""
        old = self._holders.get(gateway)
        self._put(_Holder(gateway, pid, born(pid) or (old.born if old else 0), _kept(held)))

    def used(self, budget: str) -> int:
        """Return how much of a budget is held."""
        return sum(one.held.get(budget, 0) for one in self._holders.values())

    def lease(self, gateway: str, budget: str, amount: int) -> None:
        """Give a gateway more.

        Raises:
            StoreUnavailable: that can't be written down, so nothing is given.

        """
        holder = self._holders[gateway]
        held = holder.held | {budget: holder.held.get(budget, 0) + amount}
        self._put(msgspec.structs.replace(holder, held=held))

    def give_back(self, gateway: str, budget: str, amount: int) -> None:
        """Take back what a gateway does not use."""
        holder = self._holders.get(gateway)
        if holder is not None:
            left = {budget: max(0, holder.held.get(budget, 0) - amount)}
            self._put(msgspec.structs.replace(holder, held=_kept(holder.held | left)))

    def alive(self) -> set[str]:
        """Return the gateways whose processes run."""
        return {name for name, one in self._holders.items() if one.gone is None and born(one.pid) == one.born}

    def sweep(self) -> None:
        """Free what those held whose processes are gone, as soon as it counts no more."""
        now, running = self._clock(), self.alive()
        for name, holder in list(self._holders.items()):
            if name in running:
                continue
            if holder.gone is None or holder.gone > now:  # noticed now; or the machine was started since
                held = {one: amount for one, amount in holder.held.items() if kind_of(one) == "requests"}
                self._put(msgspec.structs.replace(holder, gone=now, held=held))
            elif now - holder.gone > _MINUTE or not holder.held:
                del self._holders[name]
        if self._lines > _LINES:
            self._compact()

    # ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _put(self, holder: _Holder) -> None:
        """Write first, then believe."""
        raw = b"\n" * self._torn + msgspec.json.encode(holder) + b"\n"
        try:
            if self._out < 0:
                self._out = os.open(self._file, _FLAGS, 0o600)
            if os.write(self._out, raw) != len(raw):
                raise OSError(0, "a line was cut")  # noqa: TRY301 - caught two lines below
        except OSError as error:
            self._close()
            self._torn = True
            raise StoreUnavailable(f"can't be written ({error.strerror})", where=str(self._file)) from None
        self._torn = False
        self._lines += 1
        self._holders[holder.gateway] = holder

    def _read(self) -> None:
        try:
            lines = self._file.read_bytes().splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(f"can't be read ({error.strerror})", where=str(self._file)) from None
        for line in filter(None, lines):
            try:
                holder = _LINE.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                log.error("a line of what gateways hold can't be read", where=self._file.name)
                continue
            self._holders[holder.gateway] = holder

    def _compact(self) -> None:
        """Write the file anew, with what counts alone."""
        draft = self._file.with_suffix(".new")
        try:
            _write(draft, self._holders.values())
            draft.replace(self._file)
        except OSError as error:
            raise StoreUnavailable(f"can't be written ({error.strerror})", where=str(self._file)) from None
        self._close()
        self._lines = 0

    def _close(self) -> None:
        if self._out >= 0:
            os.close(self._out)
            self._out = -1


def _write(file: Path, holders: Iterable[_Holder]) -> None:
    with contextlib.suppress(FileNotFoundError):
        file.unlink()
    with os.fdopen(os.open(file, _FLAGS | os.O_EXCL, 0o600), "wb") as stream:
        stream.writelines(msgspec.json.encode(one) + b"\n" for one in holders)


def _kept(held: dict[str, int]) -> dict[str, int]:
    return {budget: amount for budget, amount in held.items() if amount > 0}


def born(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks; None: there is none, or it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in {"Z", "X"} else int(fields[18])
