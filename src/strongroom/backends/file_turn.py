"""Turns and offers between the processes of one machine: two lock files and a spool of entries.

Two locks make a turnstile: whoever waits for ``lock`` holds ``queue`` meanwhile, so the one who just had the turn can't
take it again past somebody who waits. The kernel releases both when a process dies.

A waiter leaves its entries in the spool (temporary name, then rename; no fsync: the one who writes them to the log
fsyncs the log). The holder of the turn takes them along. A spool file carries the hash of its contents; one that does
not fit is set aside, never read again, never written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from strongroom.core.errors import BadInput, LedgerUnavailable, StrongroomError
from strongroom.core.ids import new_id
from strongroom.ledger.tiles import pack, unpack

_MAGIC = b"strongroom/spool@1\n"
_HASH_BYTES = 32
_MAX_FILES = 64  # offers taken along in one turn; the rest waits for the next
_SUFFIX, _TEMPORARY, _BAD = ".offer", ".tmp", ".bad"


def encode_offer(entries: Sequence[bytes]) -> bytes:
    """Return a spool file: the format's name, the SHA-256 of the rest, entries behind their uint16 lengths."""
    body = pack(entries)
    return _MAGIC + hashlib.sha256(body).digest() + body


def decode_offer(data: bytes) -> list[bytes]:
    """Return the entries of a spool file.

    Raises:
        BadInput: it is not one, or not whole.

    """
    start = len(_MAGIC) + _HASH_BYTES
    body = data[start:]
    if not data.startswith(_MAGIC) or hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
        raise BadInput("not a whole spool file", where="spool")
    return unpack(body, where="spool")


@dataclass(frozen=True, slots=True)
class _Offers:
    """What the spool held, and the files that it came from."""

    entries: list[bytes]
    files: list[Path]


class FileTurn:
    """The turn of one log directory. Use it from one thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Open the lock files in `directory`, making what is missing.

        Raises:
            LedgerUnavailable: the directory can't be written.

        """
        self._directory = directory
        self._spool = directory / "spool"
        try:
            self._spool.mkdir(mode=0o700, exist_ok=True)
            self._queue = os.open(directory / "queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerUnavailable(f"no lock files: {error.strerror}", where=str(directory)) from None

    @contextmanager
    def held(self, offer: Sequence[bytes]) -> Generator[None]:
        """Hold the turn; while waiting for it, leave `offer` in the spool.

        Raises:
            LedgerUnavailable: the locks do not work.

        """
        try:
            self._enter(offer)
            yield
        finally:
            self._release()

    def _enter(self, offer: Sequence[bytes]) -> None:
        """Take the turn, or queue for it and wait."""
        mine: Path | None = None
        try:
            if not self._at_once():
                mine = self._leave(offer)
                fcntl.flock(self._queue, fcntl.LOCK_EX)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            fcntl.flock(self._queue, fcntl.LOCK_UN)
        except OSError as error:
            raise LedgerUnavailable(f"no turn to write: {error.strerror}", where=str(self._directory)) from None
        finally:
            if mine is not None:
                with suppress(OSError):  # the former holder may have removed it
                    mine.unlink()

    def _at_once(self) -> bool:
        """Take the turn if nobody has it or waits for it."""
        try:
            fcntl.flock(self._queue, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._queue, fcntl.LOCK_UN)
            return False
        return True

    def _release(self) -> None:
        """Let the next one in."""
        for descriptor in (self._lock, self._queue):
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _leave(self, offer: Sequence[bytes]) -> Path | None:
        """Put `offer` into the spool. That is a courtesy to speed: without it, the entries are written a turn later."""
        final = self._spool / f"{new_id('offer')}{_SUFFIX}"
        temporary = final.with_suffix(_TEMPORARY)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_offer(offer))
            temporary.rename(final)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            return None
        return final

    def offers(self, check: Callable[[bytes], object]) -> _Offers:
        """Return what the spool holds; the turn must be held. A file that does not fit is set aside as ``.bad``."""
        found = _Offers([], [])
        with suppress(OSError):
            with os.scandir(self._spool) as listing:  # every turn looks here: Path.glob takes five times as long
                names = sorted(item.name for item in listing if item.name.endswith(_SUFFIX))
            for name in names[:_MAX_FILES]:
                self._take(self._spool / name, check, found)
        return found

    @staticmethod
    def _take(path: Path, check: Callable[[bytes], object], found: _Offers) -> None:
        """Add the entries of one spool file to `found`."""
        try:
            entries = decode_offer(path.read_bytes())
            for entry in entries:
                check(entry)
        except FileNotFoundError:
            return  # its owner gave up
        except (OSError, StrongroomError):
            with suppress(OSError):
                path.rename(path.with_suffix(_BAD))
            return
        found.entries.extend(entries)
        found.files.append(path)

    def done(self, offers: _Offers) -> None:
        """Remove the spool files whose entries are in the log now."""
        for path in offers.files:
            with suppress(OSError):  # its owner may have been faster
                path.unlink()

    def sweep(self) -> None:
        """Remove temporary files that killed processes left behind."""
        with suppress(OSError):
            if not self._at_once():
                return
            try:
                for path in self._spool.glob(f"*{_TEMPORARY}"):
                    path.unlink(missing_ok=True)  # a living owner notices, and goes without its offer
            finally:
                self._release()

    def close(self) -> None:
        """Close the lock files."""
        for descriptor in (self._queue, self._lock):
            with suppress(OSError):
                os.close(descriptor)
