"""Documents that mostly consist of windows of words that stand in earlier documents: what a window index says.

The index of the corpus itself tells which windows an earlier document has; that of another corpus (one that a model
was trained on, or is tested with) tells which windows that corpus has. Whether it is the corpus' own is read off the
digest of all texts. A document is measured by how many of its words lie in such windows. Windows that many documents
have in common are in no index, so a licence at the top of a file makes it no repeat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strongroom.core.secrets import Secret
from strongroom.privacy.filter.pool import run
from strongroom.privacy.filter.shard import Shard, lots
from strongroom.privacy.windows.bulk import Bulk
from strongroom.privacy.windows.reader import open_windows

Shares = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Task:
    """A shard whose first document is number `first` of the corpus, and the index to compare it with."""

    shard: Shard
    first: int
    folder: Path
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """Of each document of a shard (n): its text's SHA-256, the shares of its words that the index has."""

    digests: bytes  # 32 bytes a document
    anywhere: Shares
    earlier: Shares  # in documents with a smaller number


def seen(task: Task) -> Seen:
    """Compare a shard's documents with an index. Pure, and run by any pool, like `filter_shard`."""
    key = Secret(task.key)
    index = open_windows(task.folder, key)
    bulk, number = Bulk(index, key), task.first
    digests, anywhere, earlier = list[bytes](), list[float](), list[float]()
    for lot in lots(task.shard):
        texts = [one.decode() for one in lot.batch.texts]
        for raw, owners in zip(lot.batch.texts, bulk.owners(texts), strict=True):
            digests.append(hashlib.sha256(raw).digest())
            anywhere.append(_covered(owners >= 0, index.window))
            earlier.append(_covered((owners >= 0) & (owners < number), index.window))
            number += 1
    return Seen(b"".join(digests), np.array(anywhere, dtype=np.float32), np.array(earlier, dtype=np.float32))


def _covered(hits: npt.NDArray[np.bool_], window: int) -> float:
    """Return the share of words that lie in the windows that hit; `hits` has one for each window of a text."""
    if not hits.any():
        return 0.0
    steps = np.zeros(len(hits) + window, dtype=np.int64)  # one word more than there are
    places = np.flatnonzero(hits)
    np.add.at(steps, places, 1)
    np.add.at(steps, places + window, -1)
    return float((np.cumsum(steps)[:-1] > 0).mean())


class Overlap:
    """A window index that documents are compared with; what `privacy.filter` asks for as `Against`."""

    def __init__(self, folder: Path, key: Secret, share: float = 0.5) -> None:
        """Open the index; a document repeats it from this share of its words on.

        Raises:
            NoSuchIndex, WrongKey, IndexAltered: see `windows.reader`.

        """
        self._folder, self._key = folder, key
        self._header = open_windows(folder, key).header
        self.share = share

    @property
    def id(self) -> str:
        """The index's id."""
        return self._header.id

    def repeats(self, parts: Sequence[tuple[Shard, int]], jobs: int) -> npt.NDArray[np.bool_]:
        """Return which documents repeat (n, all shards'); a shard comes with the number of its first document."""
        tasks = [Task(shard, first, self._folder, self._key.reveal()) for shard, first in parts]
        found = list(run(min(jobs, len(tasks)), seen, tasks))
        own = hashlib.sha256(b"".join(one.digests for one in found)).hexdigest() == self._header.corpus
        shares = np.concatenate([one.earlier if own else one.anywhere for one in found])
        return shares >= self.share
