"""A secret that does not print itself (rule 9)."""

from __future__ import annotations

import hmac


class Secret:
    """Bytes that show as ``Secret(***)`` in every message, log and traceback.

    The bytes are held in a buffer that `wipe` overwrites. CPython may have copied them elsewhere before; wiping narrows
    the window, it does not close it (see SECURITY.md).
    """

    __slots__ = ("_buffer",)

    def __init__(self, value: bytes | bytearray) -> None:
        """Take `value` into custody."""
        self._buffer = bytearray(value)

    def reveal(self) -> bytes:
        """Return the bytes. Call it in the line that uses them, and nowhere else."""
        return bytes(self._buffer)

    def wipe(self) -> None:
        """Overwrite the bytes with zeros and forget them."""
        self._buffer[:] = bytes(len(self._buffer))
        self._buffer.clear()

    def __repr__(self) -> str:
        """Return a text without the secret."""
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        return isinstance(other, Secret) and hmac.compare_digest(self._buffer, other._buffer)

    __hash__ = None  # type: ignore[assignment] - a secret is no dictionary key

    def __reduce__(self) -> str:
        """Refuse to be pickled or copied."""
        raise TypeError("a Secret is not serialised")
