"""Where requests come from, as usage lines know it: a keyed hash of the client's address (rule 14)."""

from __future__ import annotations

import hashlib
from typing import Final

_MOST: Final = 65_536  # addresses whose hashes are kept at hand


class Origins:
    """Hashes of addresses, under the key that control draws for a day and keeps nowhere."""

    def __init__(self) -> None:
        """Begin without a key."""
        self._salt = b""
        self._known: dict[str, str] = {}

    def of(self, address: str, salt: bytes) -> str:
        """Return the hash of an address; nothing without a key."""
        if salt != self._salt:
            self._salt, self._known = salt, {}
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            hashed = hashlib.blake2b(address.encode(), key=salt, digest_size=8).hexdigest() if salt else ""
            found = self._known[address] = hashed
        return found


class Pending:
    """A request that waits for a lease to be let in by."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        """Begin with the client there."""
        self.left = False

    def gone(self) -> None:
        """The client has left."""
        self.left = True
