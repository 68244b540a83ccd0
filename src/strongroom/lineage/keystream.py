"""The one pseudo-random stream behind chips, dither, dealing and codes: AES-256 in counter mode (NIST SP 800-38A).

A key serves one use (`lineage.keys` derives it), so the counter starts at zero; any range can be had by itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from strongroom.core.secrets import Secret

_BLOCK: Final = 16


def keystream(key: Secret, start: int, size: int) -> bytes:
    """Return `size` bytes of the stream of the 32-byte `key`, from byte `start` on."""
    first, skip = divmod(start, _BLOCK)
    encryptor = Cipher(AES(key.reveal()), CTR(first.to_bytes(_BLOCK, "big"))).encryptor()
    return encryptor.update(bytes(skip + size))[skip:]


def words(key: Secret, count: int) -> npt.NDArray[np.uint64]:
    """Return the first `count` little-endian 64-bit words of the stream, (count,)."""
    return np.frombuffer(keystream(key, 0, 8 * count), "<u8").astype(np.uint64)
