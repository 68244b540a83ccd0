"""Rows of parquet files. Apart, for pyarrow is optional and slow to import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]

from strongroom.core.privacy_errors import CorpusUnreadable

_ARROW: Final = cast("Any", pa)  # it ships no types
_PARQUET: Final = cast("Any", pq)
_BATCH: Final = 1024  # rows in memory at once


def rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the file at `path`, which the corpus calls `name`.

    Raises:
        CorpusUnreadable: it is no parquet file, or not whole.

    """
    try:
        with _PARQUET.ParquetFile(path) as opened:
            for batch in opened.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except _ARROW.ArrowException:
        raise CorpusUnreadable("this is no whole parquet file", where=name) from None
