"""The log's signing key: an Ed25519 key in a file that only its owner reads, without a passphrase.

Refusals must be logged too, and whoever is refused has given no passphrase. So whoever can read this file can append;
what they can't do is take back what a witness has seen.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from strongroom.core.errors import AlreadyExists, BadInput, LedgerUnavailable
from strongroom.core.secrets import Secret
from strongroom.ledger.notes import LOG_KEY, Signer, Verifier

_MAX_FILE = 4096
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class LogKey:
    """The key that signs log checkpoints; its name is the log's origin."""

    def __init__(self, signer: Signer) -> None:
        """Sign with `signer`.

        Raises:
            BadInput: it is a witness's key.

        """
        if signer.verifier.kind != LOG_KEY:
            raise BadInput("not a log's key", where=signer.verifier.name)
        self.signer = signer

    @property
    def verifier(self) -> Verifier:
        """The public half."""
        return self.signer.verifier

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.signer.verifier.name

    @property
    def vkey(self) -> str:
        """The public half in signed-note form, for strangers."""
        return self.signer.verifier.vkey


def new_signer(name: str, kind: int) -> Signer:
    """Draw a fresh key."""
    return Signer(name, kind, Secret(secrets.token_bytes(32)))


def create_log_key(path: Path, origin: str) -> LogKey:
    """Draw a key for the log `origin` and keep it at `path` (mode 0600).

    Raises:
        AlreadyExists: a file stands there.
        BadInput: the origin has a space or a plus.
        LedgerUnavailable: the file can't be written.

    """
    key = LogKey(new_signer(origin, LOG_KEY))
    save_signer(path, key.signer)
    return key


def load_log_key(path: Path) -> LogKey:
    """Read the log's key.

    Raises:
        LedgerUnavailable: the file can't be read, or others than its owner can read it.
        BadInput: it holds no log key.

    """
    return LogKey(load_signer(path))


def save_signer(path: Path, signer: Signer) -> None:
    """Write a signing key to a new file, durably."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise AlreadyExists("a key stands there", where=str(path)) from None
    except OSError as error:
        raise LedgerUnavailable(f"the key can't be written: {error.strerror}", where=str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.encode().reveal() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise LedgerUnavailable(f"the key can't be written: {error.strerror}", where=str(path)) from None


def load_signer(path: Path) -> Signer:
    """Read a signing key."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MAX_FILE)
    except OSError as error:
        raise LedgerUnavailable(f"the key can't be read: {error.strerror}", where=str(path)) from None
    if mode & _OTHERS:
        raise LedgerUnavailable("others can read or write the key: chmod 600", where=str(path))
    try:
        return Signer.parse(data.decode("utf-8").removesuffix("\n"))
    except UnicodeDecodeError:
        raise BadInput("not a signing key", where=str(path)) from None


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
