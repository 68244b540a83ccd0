"""Vectors on their way out: turned into a narrower space by a secret, with noise that no repeating averages away.

A model's hidden states span its hidden width, and many of them show it. What is served lies in a space of at most half
that width, a power of two, so that it tells the width to a factor of two at most and never more than 1,024 of it.
Imported late: only a gateway that serves vectors pays for numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST: Final = 256  # numbers of a vector that is served
NOISE: Final = 0.05  # of a vector's length
_Floats = NDArray[np.float64]


def served_width(width: int) -> int:
    """Return how many numbers a vector has that is served of one of `width`: a power of two, at most half and 256."""
    return min(MOST, 1 << max(0, (width // 2).bit_length() - 1))


class VectorVeil:
    """The projection of one house, and its noise: functions of `key`, the same in every gateway."""

    def __init__(self, key: bytes) -> None:
        """Draw everything from `key`, the house's veil."""
        self._key = key
        self._rows: dict[int, _Floats] = {}  # by a model's width

    def soften(self, vectors: bytes, texts: Sequence[str], *, width: int, dimensions: int | None) -> list[bytes]:
        """Return what is served of `vectors` (texts, width): each little-endian float32 (dimensions,), of length 1.

        `dimensions` None, or over what is served: all that is served.
        """
        raw = np.frombuffer(vectors, "<f4").astype(np.float64).reshape(len(texts), width)
        turned = _unit(raw) @ self._projection(width).T
        noise = np.stack(
            [self._normals(b"noise" + text.encode("utf-8", "surrogatepass"), turned.shape[1]) for text in texts]
        )
        noisy = _unit(turned) + NOISE / np.sqrt(turned.shape[1]) * noise
        return [one.astype("<f4").tobytes() for one in _unit(noisy[:, :dimensions])]

    def _projection(self, width: int) -> _Floats:
        """Return orthonormal rows (served, width), a uniform draw."""
        if width not in self._rows:
            served = served_width(width)
            drawn = self._normals(b"projection %d" % width, width * served).reshape(width, served)
            basis, upper = np.linalg.qr(drawn)
            self._rows[width] = (basis * np.sign(np.diag(upper))).T
        return self._rows[width]

    def _normals(self, about: bytes, many: int) -> _Floats:
        """Return draws of the standard normal distribution: Philox's raw stream, then Box and Muller.

        numpy may change how its generators make normal draws, but not a bit generator's raw stream.
        """
        seed = int.from_bytes(hashlib.blake2b(about, key=self._key[:64], digest_size=16, person=b"vectors").digest())
        raw = np.random.Philox(key=seed).random_raw(2 * many).reshape(2, many)
        first, second = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53
        return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)


def _unit(rows: _Floats) -> _Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
