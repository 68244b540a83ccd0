"""The header of a safetensors file, read as strictly as the Rust library reads it (sealed-1.md, section 7)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import msgspec

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput, InputTooLarge

LENGTH_BYTES = 8
HEADER_LIMIT = 100_000_000
TENSORS_LIMIT = 500_000
_SIZE_LIMIT = 1 << 63
_DIMENSIONS_LIMIT = 64
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
_Size = Annotated[int, msgspec.Meta(ge=0, le=_SIZE_LIMIT - 1)]


class _Entry(Record, frozen=True, kw_only=True):
    dtype: str
    shape: Annotated[list[_Size], msgspec.Meta(max_length=_DIMENSIONS_LIMIT)]
    data_offsets: tuple[_Size, _Size]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's type and where its bytes stand in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors of a file, in the header's order, and its metadata."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str] | None


def header_length(first: bytes, *, total: int, where: str) -> int:
    """Return the header's length from the first eight bytes of a file of `total` bytes.

    Raises:
        BadInput: the file is too short for it.
        InputTooLarge: it is over 100 MB.

    """
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if len(first) < LENGTH_BYTES:
        raise BadInput("not a safetensors file: it has no header", where=where)
    if length > HEADER_LIMIT:
        raise InputTooLarge(f"a header of {length} bytes; the limit is {HEADER_LIMIT}", where=where)
    if LENGTH_BYTES + length > total:
        raise BadInput("not a safetensors file: it ends within its header", where=where)
    return length


def parse_header(header: bytes, *, total: int, where: str, partial: bool = False) -> Header:
    """Read the JSON `header` of a file of `total` bytes; one that is `partial` may end before its tensors do.

    Raises:
        BadInput: it breaks a rule of the format; the message names the tensor.
        InputTooLarge: it holds more than 500,000 tensors.

    """
    if header.count(b"{") + header.count(b"[") > 3 * TENSORS_LIMIT + 2:  # before a bomb becomes objects
        raise InputTooLarge(f"a header of more than {TENSORS_LIMIT} tensors", where=where)
    document = _strict_json(header, where=where)
    raw_metadata = document.pop("__metadata__", None)
    try:
        metadata = None if raw_metadata is None else msgspec.convert(raw_metadata, dict[str, str])
        entries = msgspec.convert(document, dict[str, _Entry])
    except msgspec.ValidationError:
        raise BadInput("a header that does not fit safetensors", where=where) from None
    base = LENGTH_BYTES + len(header)
    stop = _check_offsets(entries, where=where)
    if stop != total - base and not (partial and stop > total - base):
        raise BadInput(f"{total - base} bytes of data, but the tensors end at {stop}", where=where)
    tensors = {
        name: Tensor(e.dtype, tuple(e.shape), base + e.data_offsets[0], base + e.data_offsets[1])
        for name, e in entries.items()
    }
    return Header(tensors, metadata)


def _strict_json(header: bytes, *, where: str) -> dict[str, object]:
    """Read a JSON object in UTF-8 whose members are each there once."""
    try:
        text = header.decode("utf-8")
        document: object = json.loads(text, object_pairs_hook=_unique)
        text.encode("utf-8")
    except (ValueError, RecursionError):
        raise BadInput("a header that is not JSON in UTF-8 with distinct members", where=where) from None
    if not text.startswith("{") or not isinstance(document, dict):
        raise BadInput("a header that is no JSON object", where=where)
    return msgspec.convert(document, dict[str, object])


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    for name in members:
        name.encode("utf-8")  # a lone surrogate is no text
    return members


def _check_offsets(entries: dict[str, _Entry], *, where: str) -> int:
    """Insist that the tensors cover the data without gap or overlap, each of its dtype's size; return their end."""
    expect = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        start, stop = entry.data_offsets
        place = f"{where}, tensor {name[:200]!r}"
        if entry.dtype not in _BITS:
            raise BadInput(f"unknown dtype {entry.dtype[:20]!r}", where=place)
        bits = _bits(entry)
        if bits is None or bits % 8 or stop - start != bits // 8:
            raise BadInput("the size does not fit shape and dtype", where=place)
        if start != expect:
            raise BadInput("a gap or an overlap before the tensor's data", where=place)
        expect = stop
    return expect


def _bits(entry: _Entry) -> int | None:
    """Return the tensor's size, or None at the first product over the limit, even if a later dimension is zero."""
    bits = _BITS[entry.dtype]
    for length in entry.shape:
        bits *= length
        if bits >= _SIZE_LIMIT:
            return None
    return bits
