"""The one pseudo-random stream behind chips, dither, dealing and codes: AES-256 in counter mode (NIST SP 800-38A).

A key serves one use (`lineage.keys` derives it), so the counter starts at zero; any range can be had by itself. A
pseudo-random function, not a seeded generator: whoever learns a part of a stream knows nothing of the rest.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from strongroom.core.secrets import Secret

U8 = npt.NDArray[np.uint8]

_BLOCK: Final = 16


class Keystream:
    """The stream of one 32-byte key. Threads may share it."""

    __slots__ = ("_key",)

    def __init__(self, key: Secret) -> None:
        """Take the key."""
        self._key = key

    def read(self, first: int, count: int) -> U8:
        """Return `count` bytes of the stream from byte `first` on."""
        block, skip = divmod(first, _BLOCK)
        encryptor = Cipher(AES(self._key.reveal()), CTR(block.to_bytes(_BLOCK, "big"))).encryptor()
        made = bytearray(skip + count + _BLOCK)
        encryptor.update_into(bytes(skip + count), made)
        return np.frombuffer(made, np.uint8, count, skip)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the first `count` little-endian 64-bit words of the stream, (count,)."""
        return self.read(0, 8 * count).view("<u8").astype(np.uint64)
