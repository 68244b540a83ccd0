"""Keystreams: the sign of every weight's change, and the dither of its rounding (format strongroom/weight-mark@1).

AES-256 in counter mode (NIST SP 800-38A) under a key of its own for each tensor: HKDF-SHA-256 (RFC 5869) of the
checkpoint's secret, salt the scheme's name, info the canonical JSON (RFC 8785) of ["tensor", name]. The counter starts
at zero, so that any part of a stream can be made alone. A pseudo-random function, not a seeded generator: chips that
are known, say from a mark that was subtracted, say nothing about the others.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.secrets import Secret
from strongroom.lineage.keys import derive
from strongroom.lineage.keystream import Keystream

U16 = npt.NDArray[np.uint16]
F32 = npt.NDArray[np.float32]

_SIGNS: Final[F32] = (
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(np.float32) * 2 - 1
)


class TensorStreams:
    """One keystream for each tensor, all from one secret. Threads may share it."""

    __slots__ = ("_secret", "_streams")

    def __init__(self, secret: Secret) -> None:
        """Make the streams of a checkpoint's `secret` for chips, or of that for dither."""
        self._secret = secret
        self._streams: dict[str, Keystream] = {}

    def stream(self, name: str) -> Keystream:
        """Return the stream of the tensor `name`."""
        kept = self._streams.get(name)
        if kept is None:  # two threads may both derive it: the same key
            kept = self._streams[name] = Keystream(derive(self._secret, "tensor", name))
        return kept


class Chips(TensorStreams):
    """The keyed sign of every weight: bit i mod 8 (lowest first) of byte i div 8 is element i's, 1 for +1, 0 for -1."""

    __slots__ = ()

    def signs(self, name: str, first: int, count: int) -> F32:
        """Return the chips (count,), each +1.0 or -1.0, of the tensor's row-major elements from `first` on."""
        start, skip = divmod(first, 8)
        some = self.stream(name).read(start, (skip + count + 7) // 8)
        return _SIGNS.take(some, axis=0).reshape(-1)[skip : skip + count]


class Dither(TensorStreams):
    """The keyed dither of every weight: little-endian 16-bit word i of the stream is element i's."""

    __slots__ = ()

    def words(self, name: str, first: int, count: int) -> U16:
        """Return the words (count,) of the tensor's row-major elements from `first` on."""
        return self.stream(name).read(2 * first, 2 * count).view("<u2")
