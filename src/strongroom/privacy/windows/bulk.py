"""Many texts at once against a window index: the compiled twin of `strongroom.privacy.windows.reader`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from strongroom.core.secrets import Secret
from strongroom.core.words import fold
from strongroom.kernels.blake2b import keyed
from strongroom.kernels.tables import probe
from strongroom.kernels.windows import fingerprints
from strongroom.privacy.windows.layout import PERSON_WINDOW
from strongroom.privacy.windows.reader import WindowIndex


class Bulk:
    """An open index, asked for whole texts."""

    def __init__(self, index: WindowIndex, key: Secret) -> None:
        """Ask `index`, with its own key."""
        self._window = index.window
        self._state = keyed(key.reveal(), PERSON_WINDOW)
        table = index.windows
        self._table = np.asarray(table.starts), np.asarray(table.rest), table.bits
        self._owners = np.asarray(table.owners)

    def owners(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """Return for each text, and each of its windows in order (stride 1), the first document with it; -1: none."""
        raw = [fold(one) for one in texts]
        ends = np.cumsum([len(one) for one in raw], dtype=np.int64)
        data = np.frombuffer(b"".join(raw), dtype=np.uint8)
        prints, whose = fingerprints(data, ends, window=self._window, stride=1, state=self._state)
        places = probe(prints, self._table)
        found = np.full(len(places), -1, dtype=np.int64)
        there = places >= 0
        found[there] = self._owners[places[there]]
        return np.split(found, np.searchsorted(whose, np.arange(1, len(texts))))
