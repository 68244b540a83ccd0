"""A witness remembers, outside the home, what the log looked like: rolling back the whole home does not move it.

It is a directory, best on another machine or a stick: its Ed25519 key, and per log the newest log checkpoint that it
has cosigned (https://c2sp.org/tlog-cosignature, type 0x04). It cosigns only what extends what it saw before.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strongroom.core.clock import Clock
from strongroom.core.errors import (
    BadInput,
    LedgerAltered,
    LedgerForked,
    LedgerRolledBack,
    LedgerUnavailable,
    ProofInvalid,
    SignatureInvalid,
    TamperError,
)
from strongroom.ledger import checkpoints
from strongroom.ledger.checkpoints import SignedCheckpoint
from strongroom.ledger.keys import load_signer, new_signer, save_signer, sync_directory
from strongroom.ledger.merkle import check_consistency
from strongroom.ledger.notes import WITNESS_KEY, Note, Signer, Verifier

_KEY = "key"


@dataclass(frozen=True, slots=True)
class WitnessedCheckpoint(SignedCheckpoint):
    """A log checkpoint that a witness has cosigned; both signatures are verified and in `text`."""


class Witnessable(Protocol):
    """A log as a witness sees it."""

    @property
    def vkey(self) -> str:
        """The log's verifier key."""
        ...

    def checkpoint(self) -> SignedCheckpoint:
        """Return the newest log checkpoint."""
        ...

    def consistency(self, old_size: int, size: int | None = None) -> list[bytes]:
        """Return the proof from `old_size` to `size`."""
        ...


class Witness:
    """A cosigner with a memory. Processes that share its directory take turns."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Open the witness that `create` made in `directory`.

        Raises:
            LedgerUnavailable: its key can't be read.
            BadInput: its key is none.

        """
        self._directory = directory
        self._clock = clock
        self._signer: Signer = load_signer(directory / _KEY)
        if self._signer.verifier.kind != WITNESS_KEY:
            raise BadInput("not a witness's key", where=str(directory / _KEY))

    @classmethod
    def create(cls, directory: Path, name: str, clock: Clock) -> Witness:
        """Make a witness called `name` (like ``witness.example/w1``) in a new or empty directory.

        Raises:
            AlreadyExists: there is one.
            BadInput: the name is no key name.
            LedgerUnavailable: the directory can't be written.

        """
        signer = new_signer(name, WITNESS_KEY)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerUnavailable(f"no witness there: {error.strerror}", where=str(directory)) from None
        save_signer(directory / _KEY, signer)
        return cls(directory, clock)

    @property
    def vkey(self) -> str:
        """The witness's verifier key (type 0x04)."""
        return self._signer.verifier.vkey

    def last(self, vkey: str) -> WitnessedCheckpoint | None:
        """Return what this witness saw last of the log with verifier key `vkey`, or None.

        Raises:
            LedgerAltered: the witness's own file was changed.
            LedgerForked: the witness knows the log's origin under another key.

        """
        log = Verifier.parse(vkey)
        where = self._file(log.name)
        try:
            data = where.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise LedgerUnavailable(f"the witness can't be read: {error.strerror}", where=str(where)) from None
        return self._recall(data, log, where=str(where))

    def _recall(self, data: bytes, log: Verifier, *, where: str) -> WitnessedCheckpoint:
        """Read what `cosign` wrote: believed because this witness signed it, and of this log because the log did."""
        try:
            note = Note.parse(data, where=where)
            self._signer.verifier.check(note, where=where)
        except (BadInput, SignatureInvalid) as error:
            raise LedgerAltered(error.message, where=where) from None
        try:
            seen = checkpoints.parse(data, log, where=where)
        except (BadInput, SignatureInvalid):
            raise LedgerForked("the witness knows this origin under another key", where=log.name) from None
        return WitnessedCheckpoint(seen.origin, seen.size, seen.root, seen.text)

    def cosign(self, log: Witnessable) -> WitnessedCheckpoint:
        """Look at `log`, check that it extends what was seen before, and remember and return what is there now.

        Raises:
            LedgerRolledBack: the log is older than what was seen.
            LedgerForked: it contradicts what was seen.
            LedgerAltered: its signature does not verify, or the witness's own file was changed.
            LedgerUnavailable: the witness's directory can't be written.

        """
        verifier = Verifier.parse(log.vkey)
        with self._turn():
            seen = self.last(log.vkey)
            now = _verified(log.checkpoint(), verifier)
            if seen is not None:
                _check(seen, now, log)
            note = Note.parse(now.text, where=verifier.name)
            time = int(self._clock.now().timestamp())
            kept = tuple(one for one in note.signatures if one.name == verifier.name)
            text = Note(note.text, (*kept, self._signer.cosign(note.text, time))).encode()
            self._remember(verifier.name, text)
        return WitnessedCheckpoint(now.origin, now.size, now.root, text)

    def forget(self, vkey: str) -> int:
        """Forget the log with verifier key `vkey`; return the size that was known (0: none)."""
        with self._turn():
            seen = self.last(vkey)
            if seen is not None:
                self._file(seen.origin).unlink(missing_ok=True)
        return 0 if seen is None else seen.size

    @contextmanager
    def _turn(self) -> Generator[None]:
        """Keep other processes from looking at the log and remembering something older meanwhile."""
        try:
            descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            message = f"the witness can't be locked: {error.strerror}"
            raise LedgerUnavailable(message, where=str(self._directory)) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _file(self, origin: str) -> Path:
        """Return where the log checkpoint of a log is kept."""
        return self._directory / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"

    def _remember(self, origin: str, text: bytes) -> None:
        """Replace the file, durably."""
        final = self._file(origin)
        temporary = final.with_suffix(".tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
            sync_directory(self._directory)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise LedgerUnavailable(f"the witness can't write: {error.strerror}", where=str(final)) from None


def _verified(found: SignedCheckpoint, verifier: Verifier) -> SignedCheckpoint:
    """Return the log checkpoint as its bytes say; a witness believes no fields that a log hands it beside them."""
    try:
        return checkpoints.parse(found.text, verifier, where=verifier.name)
    except (BadInput, SignatureInvalid) as error:
        raise LedgerAltered(error.message, where=verifier.name) from None


def _check(seen: SignedCheckpoint, now: SignedCheckpoint, log: Witnessable) -> None:
    """Return if `now` extends `seen`."""
    if now.size < seen.size:
        raise LedgerRolledBack(f"the witness saw {seen.size} entries, now there are {now.size}", where=seen.origin)
    try:
        proof = log.consistency(seen.size, now.size)
        check_consistency((seen.size, seen.root), (now.size, now.root), proof)
    except ProofInvalid:
        raise LedgerForked(f"the witness saw another tree of {seen.size} entries", where=seen.origin) from None
    except TamperError as error:
        raise LedgerAltered(error.message, where=error.where) from None
