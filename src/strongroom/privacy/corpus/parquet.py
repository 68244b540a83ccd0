"""Rows of parquet files. Apart, for pyarrow is optional and slow to import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]

from strongroom.core.privacy_errors import CorpusUnreadable

_ARROW: Final = cast("Any", pa)  # it ships no types
_PARQUET: Final = cast("Any", pq)
_BATCH: Final = 1024  # rows in memory at once
Rewrite = Callable[[int, list[str]], tuple[list[bool], list[str]]]
"""Takes the number of a first row and the texts from there on; returns which rows stay, and all texts as they'll be."""


def rows(path: Path, name: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of the file at `path`, which the corpus calls `name`.

    Raises:
        CorpusUnreadable: it is no parquet file, or not whole.

    """
    for batch in _batches(path, name):
        yield from batch.to_pylist()


def texts_of(path: Path, name: str, member: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Yield the texts in the column `member` (UTF-8), and the ids as JSON, some at a time; `rewrite` writes them.

    Raises:
        CorpusUnreadable: it is no parquet file, not whole, or has no such column of texts.

    """
    number = 0
    for batch in _batches(path, name):
        texts = _texts(batch, member, f"{name}#{number}")
        yield [one.encode() for one in texts], _ids(batch, len(texts))
        number += len(texts)


def rewrite(path: Path, name: str, target: Path, *, member: str, change: Rewrite) -> None:
    """Write the file anew at `target`, with the same columns, as `change` says of its rows.

    Raises:
        CorpusUnreadable: as `texts_of`.
        OSError: the disk said no.

    """
    with _PARQUET.ParquetFile(path) as source, _PARQUET.ParquetWriter(target, source.schema_arrow) as out:
        number = 0
        for batch in source.iter_batches(batch_size=_BATCH):
            texts = _texts(batch, member, name)
            stay, changed = change(number, texts)
            place = batch.schema.get_field_index(member)
            column = _ARROW.array(changed, type=batch.schema.field(place).type)
            made = batch.set_column(place, batch.schema.field(place), column)
            out.write_batch(made.filter(_ARROW.array(stay, type=_ARROW.bool_())))
            number += len(texts)


def _ids(batch: Any, count: int) -> list[bytes]:  # noqa: ANN401 - pyarrow ships no types
    found = cast("list[object]", batch.column("id").to_pylist()) if "id" in batch.schema.names else [None] * count
    return [b"" if one is None else msgspec.json.encode(str(one)) for one in found]


def _texts(batch: Any, member: str, where: str) -> list[str]:  # noqa: ANN401 - pyarrow ships no types
    try:
        found = batch.column(member).to_pylist() if member in batch.schema.names else [None]
    except UnicodeDecodeError:
        found = [None]
    if not all(isinstance(one, str) for one in found):
        raise CorpusUnreadable(f"a record has no text in its member {member[:40]!r}", where=where)
    return cast("list[str]", found)


def _batches(path: Path, name: str) -> Iterator[Any]:
    try:
        with _PARQUET.ParquetFile(path) as opened:
            yield from opened.iter_batches(batch_size=_BATCH)
    except _ARROW.ArrowException:
        raise CorpusUnreadable("this is no whole parquet file", where=name) from None
