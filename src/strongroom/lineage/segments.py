"""Which hidden unit is in which segment: a keyed deal, so that segments are even and nobody else knows them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage.keys import derive
from strongroom.lineage.keystream import Keystream

Dealt = npt.NDArray[np.int32]


def deal(secret: Secret, units: int, segments: int) -> Dealt:
    """Return the segment (units,) of each hidden unit: sizes differ by at most one.

    Unit i has word i (64 bits, little-endian) of the keystream ["units", "deal"] of `secret`. The units are sorted by
    word, equal words by number; the unit at rank r is dealt to segment r mod `segments`.

    Raises:
        BadInput: there are no segments, or fewer units than segments.

    """
    if not 1 <= segments <= units:
        raise BadInput(f"{units} hidden units can't be dealt to {segments} segments", where="segments")
    words = Keystream(derive(secret, "units", "deal")).words(units)
    dealt = np.empty(units, np.int32)
    dealt[np.argsort(words, kind="stable")] = np.arange(units, dtype=np.int64) % segments
    return dealt
