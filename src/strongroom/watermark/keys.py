"""Mark keys: one per account and epoch, derived from a master secret, committed to before their first use.

A request names an account, never a key; keys are derived when they are needed and never stored. The commitment goes
into the ledger before a key's first use (rule 1), so that a later accusation can be checked by somebody who is shown
the key: nobody can have chosen it to fit the text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.core.canonical import encode
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret

KEY_BYTES: Final = 16
MASTER_BYTES: Final = 32
FORMAT: Final = "strongroom/mark@1"
SCHEME: Final = "gumbel4"
_COMMITMENT: Final = b"strongroom/mark-commitment@1\n"
_LONGEST: Final = 256


@dataclass(frozen=True, slots=True)
class MarkKey:
    """The key that marks the answers sold to `account` during `epoch`; its 16 bytes never print."""

    account: str
    epoch: str
    raw: Secret = field(repr=False)

    def __post_init__(self) -> None:
        """Check the parts.

        Raises:
            BadInput: the key is not 16 bytes, or account or epoch is empty or longer than 256 characters.

        """
        if len(self.raw.reveal()) != KEY_BYTES:
            raise BadInput(f"a mark key is {KEY_BYTES} bytes", where="mark key")
        _check(self.account, self.epoch)

    def words(self) -> tuple[int, int]:
        """Return the key as SipHash takes it: two little-endian 64-bit words. As secret as the key."""
        raw = self.raw.reveal()
        return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


def derive(master: Secret, account: str, epoch: str) -> MarkKey:
    """Return the key of `account` in `epoch`: HKDF-SHA-256 (RFC 5869) of `master`.

    The salt is the epoch in UTF-8, the info the canonical JSON (RFC 8785) of [format, account, scheme]: no two accounts
    share a spelling.

    Raises:
        BadInput: the master secret has less than 32 bytes, or account or epoch is empty, too long or not text.

    """
    _check(account, epoch)
    if len(master.reveal()) < MASTER_BYTES:
        raise BadInput(f"the master secret of mark keys has at least {MASTER_BYTES} bytes", where="mark master")
    info = encode([FORMAT, account, SCHEME])
    raw = HKDF(SHA256(), KEY_BYTES, salt=epoch.encode(), info=info).derive(master.reveal())
    return MarkKey(account, epoch, Secret(raw))


def commitment(key: MarkKey) -> str:
    """Return the hexadecimal SHA-256 that binds `key` to its account and epoch without showing it.

    Hashed are a line that names the format, the canonical JSON of [account, epoch], a newline and the 16 bytes.
    """
    return hashlib.sha256(_COMMITMENT + encode([key.account, key.epoch]) + b"\n" + key.raw.reveal()).hexdigest()


def epoch_of(now: datetime) -> str:
    """Return the epoch of a moment: its calendar month in UTC, such as ``2026-11``.

    Raises:
        BadInput: `now` has no time zone.

    """
    if now.tzinfo is None:
        raise BadInput("a moment without a time zone has no epoch", where="epoch")
    return now.astimezone(UTC).strftime("%Y-%m")


def _check(account: str, epoch: str) -> None:
    """Refuse an account or epoch that can't be written into a derivation."""
    for what, text in (("account", account), ("epoch", epoch)):
        if not 0 < len(text) <= _LONGEST:
            raise BadInput(f"a mark key's {what} has 1 to {_LONGEST} characters", where=what)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadInput(f"a mark key's {what} is not text", where=what) from None
