"""Documents by the batch, as bytes: what goes through a corpus fast reads it so.

A batch holds some megabytes. Of JSON lines each record's own bytes are kept, so that what isn't changed is written as
it stood, to the byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, Protocol, cast

import msgspec

from strongroom.core.errors import InputTooLarge
from strongroom.core.privacy_errors import CorpusUnreadable
from strongroom.privacy.corpus.documents import LONGEST_LINE, TEXT

_BATCH: Final = 2 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in a row: their texts (UTF-8), their members ``id`` as JSON (or nothing), the records as they stood."""

    texts: list[bytes]
    ids: list[bytes]
    records: list[bytes]


class _Record(Protocol):
    text: str
    id: msgspec.Raw


class LineReader:
    """Reads JSON lines whose text is in one member."""

    def __init__(self, member: str = TEXT) -> None:
        """Take the member's name."""
        self._member = member
        shape = msgspec.defstruct(
            "Line",
            [
                ("text", str, msgspec.field(name=member)),
                ("id", msgspec.Raw, msgspec.field(default=msgspec.Raw(b""), name="id" if member != "id" else "")),
            ],
        )
        self._one = msgspec.json.Decoder(shape)
        self._twice = b'"%s"' % member.encode()
        # a member whose name has escapes in it may be that member, too
        self._hidden = re.compile(rb'\\u[^"]{0,%d}"\s*:' % (6 * len(member)))
        self._whole = msgspec.json.Decoder(dict[str, msgspec.Raw])

    def batches(self, stream: IO[bytes], name: str, *, low: int = 0, high: int | None = None) -> Iterator[Batch]:
        """Yield the records of the lines that begin in the bytes from `low` to `high` (None: the end).

        Raises:
            CorpusUnreadable: a line is no JSON object with such a text; `where` has its number among these.
            InputTooLarge: a line is longer than `LONGEST_LINE`.

        """
        number = 0
        for block in _blocks(stream, name, low=low, high=high):
            lines = [one for one in block.split(b"\n") if one and not one.isspace()]
            yield self._batch(lines, name, number)
            number += len(lines)

    def _batch(self, lines: list[bytes], name: str, number: int) -> Batch:
        batch = Batch([], [], [])
        decode, twice = self._one.decode, self._twice
        for place, line in enumerate(lines):
            try:
                record = cast("_Record", decode(line))
                batch.texts.append(record.text.encode())
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                message = f"this line is no JSON object with a text in its member {self._member[:40]!r}"
                raise CorpusUnreadable(message, where=f"{name}#{number + place}") from None
            batch.ids.append(bytes(record.id))
            # a member that is there twice is written once: nobody may read the one that wasn't looked at
            once = line.count(twice) == 1 and not (b"\\u" in line and self._hidden.search(line))
            batch.records.append(line if once else self.changed(line, batch.texts[-1]))
        return batch

    def changed(self, record: bytes, text: bytes) -> bytes:
        """Return the record with another text; its other members stay as they are."""
        members = self._whole.decode(record)
        members[self._member] = msgspec.Raw(msgspec.json.encode(text.decode()))
        return msgspec.json.encode(members)


def _blocks(stream: IO[bytes], name: str, *, low: int, high: int | None) -> Iterator[bytes]:
    """Yield whole lines, some megabytes of them at a time."""
    at = low
    if low:
        stream.seek(low - 1)
        at += len(_rest(stream, name)) - 1  # a line that began before is somebody else's
    while high is None or at < high:
        block = stream.read(_BATCH if high is None else min(_BATCH, high - at))
        if not block:
            return
        if not block.endswith(b"\n"):
            block += _rest(stream, name)
        at += len(block)
        yield block


def _rest(stream: IO[bytes], name: str) -> bytes:
    rest = stream.readline(LONGEST_LINE + 1)
    if len(rest) > LONGEST_LINE:
        raise InputTooLarge(f"a line of over {LONGEST_LINE} bytes", where=name)
    return rest
