"""The codes that copies carry: one bit of ±1 per segment of the weights.

The first 256 segments carry the checkpoint's own code, the same in every copy: colluders cannot see it, since their
copies do not differ there. The others carry the copy's code. It is drawn as Tardos drew his (2003, "Optimal
probabilistic fingerprint codes"; symmetric as in Škorić, Katzenbeisser and Celik, 2008): each segment has a secret bias
p from the arcsine law, and a copy's bit there is +1 with probability p. So colluders agree in many segments, however
many they are, and there they can't change the mark without knowing it.

Biases are whole multiples of 2^-16, so that a bit's probability is exact in integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage.keystream import Keystream

I8 = npt.NDArray[np.int8]
U16 = npt.NDArray[np.uint16]

COMMON: Final = 256  # segments of the checkpoint's own code
_CUTOFF: Final = 0.02  # biases stay this far from 0 and 1: one segment's evidence is at most a factor of 50
_LENGTH: Final = 4.93  # π²/2: the asymptotic constant of the symmetric code's length
_ONE: Final = 1 << 16
_MOST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Design:
    """For how many recipients, against how many colluders, at which chance of naming an innocent the code is made."""

    recipients: int = 1000
    colluders: int = 5
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            BadInput: they are out of range.

        """
        if not (2 <= self.recipients <= _MOST and 1 <= self.colluders <= 16 and 0 < self.epsilon <= 0.01):  # noqa: PLR2004
            raise BadInput("a code is for 2 to 1,048,576 recipients, 1 to 16 colluders and at most 1 %", where="design")

    @property
    def own(self) -> int:
        """Return how many segments carry the copy's own code: π²/2 · c² · ln(N/ε)."""
        return math.ceil(_LENGTH * self.colluders**2 * math.log(self.recipients / self.epsilon))

    @property
    def segments(self) -> int:
        """Return the number of segments, the checkpoint's own among them."""
        return COMMON + self.own


def biases(secret: Secret, segments: int) -> U16:
    """Return each segment's bias in units of 2^-16, (segments,): arcsine law, cut off at 2 % on both sides."""
    uniform = (Keystream(secret).words(segments) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    edge = math.asin(math.sqrt(_CUTOFF))
    return np.rint(np.sin(edge + uniform * (math.pi / 2 - 2 * edge)) ** 2 * _ONE).astype(np.uint16)


def own_code(secret: Secret, bias: U16) -> I8:
    """Return a copy's code, (segments,) of ±1: +1 with probability ``bias / 2^16``."""
    drawn = Keystream(secret).words(len(bias)) >> np.uint64(48)
    return np.where(drawn < bias, 1, -1).astype(np.int8)


def common_code(secret: Secret) -> I8:
    """Return the checkpoint's code, (256,) of ±1, each with probability 1/2."""
    return np.where(Keystream(secret).words(COMMON) >> np.uint64(63), 1, -1).astype(np.int8)
