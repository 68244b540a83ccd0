"""What there is to do: a corpus cut into shards of about the same size, always the same way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from strongroom.core.privacy_errors import CorpusUnreadable
from strongroom.privacy.corpus.documents import CorpusFile
from strongroom.privacy.filter.shard import Job, Piece, Shard

SIZE: Final = 32 << 20  # bytes of a shard, as stored
_MOST_PIECES: Final = 4096


def shards(files: Sequence[CorpusFile], folder: Path, job: Job, *, key: bytes | None) -> tuple[Shard, ...]:
    """Return the shards of a corpus, in its order; their results go into `folder`."""
    made, waiting, size = list[Shard](), list[Piece](), 0
    for piece in _pieces(files):
        length = (piece.size if piece.high is None else piece.high) - piece.low
        if waiting and (size + length > SIZE or len(waiting) == _MOST_PIECES):
            made.append(Shard(tuple(waiting), folder, job, key))
            waiting, size = [], 0
        waiting.append(piece)
        size += length
    return (*made, Shard(tuple(waiting), folder, job, key))


def _pieces(files: Sequence[CorpusFile]) -> Iterator[Piece]:
    """Yield the files' pieces, in order: large files of JSON lines in several, any other file whole."""
    for file in files:
        try:
            file.name.encode()
        except UnicodeEncodeError:
            raise CorpusUnreadable("the file's name is no UTF-8", where=ascii(file.name)) from None
        stat = file.path.stat()
        whole = Piece(path=str(file.path), name=file.name, kind=file.kind, size=stat.st_size, changed=stat.st_mtime_ns)
        count = -(-stat.st_size // SIZE) if file.kind == "jsonl" and not file.packed else 1
        cuts = [stat.st_size * one // count for one in range(count + 1)] if count > 1 else []
        yield from (msgspec.structs.replace(whole, low=low, high=high) for low, high in pairwise(cuts))
        if not cuts:
            yield whole
