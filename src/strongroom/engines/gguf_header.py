"""The header of a GGUF file from anywhere, read with every length checked against the file before it is believed.

The gguf package's own reader makes objects of whatever counts a file claims, and never ends on some of them: it is for
files that are known. Here arrays are passed over, but for where the tokens stand, and names and texts of 64 KiB each
and 16 MiB together are held
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.lineage.files import Opened, open_regular

try:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "reading GGUF needs the library gguf, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[demo]'",
    ) from missing

_MAGIC, _VERSIONS = b"GGUF", {2, 3}
_FIXED = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_NAME_LIMIT = 1 << 16  # bytes of a name or of a text that is kept
_HELD_LIMIT = 1 << 24  # bytes of all names and texts that are kept
_COUNT_LIMIT = 1 << 17  # metadata, and tensors
_TEXTS_LIMIT = 1 << 22  # texts in arrays, all together: the largest vocabularies have a quarter of a million
_DIMENSIONS = range(1, 5)
_ALIGNMENTS = {1 << power for power in range(3, 17)}
_TOKENS = "tokenizer.ggml.tokens"

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor: its type, its shape (rows first, as numpy has it) and where its bytes stand in the file."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Texts:
    """An array of texts: each is its length in eight bytes, and its bytes."""

    start: int
    size: int  # bytes, lengths and all
    count: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself: metadata that are no arrays, and tensors by llama.cpp's names."""

    metadata: dict[str, Scalar]
    tensors: dict[str, Entry]
    tokens: Texts | None = None  # where the vocabulary stands


def read_header(path: Path) -> GgufHeader:
    """Read the header of the GGUF file `path`, which must hold all of its tensors.

    Raises:
        BadInput: it is no such file, ends early, or claims what can't be.

    """
    opened = open_regular(path)
    try:
        header = header_of(opened)
    finally:
        os.close(opened.descriptor)
    if any(one.start + one.size > opened.size for one in header.tensors.values()):
        raise BadInput("it ends within a tensor", where=path.name)
    return header


def header_of(file: Opened) -> GgufHeader:
    """Read the header of an open GGUF file, which may end before its tensors do.

    Raises:
        BadInput: it is no such file, ends within its header, or claims what can't be.

    """
    try:
        with open(file.descriptor, "rb", closefd=False) as stream:
            return _Walk(stream, file.name).header()
    except OSError as error:
        raise BadInput(f"can't be read: {os.strerror(error.errno or 0)}", where=file.name) from None


class _Walk:
    """A header being read, from its first byte on."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream, self._where = stream, where
        self._total = os.fstat(stream.fileno()).st_size
        self._texts = 0
        self._held = 0
        self._tokens: Texts | None = None

    def header(self) -> GgufHeader:
        """Return all of it."""
        if self._take(4) != _MAGIC or self._number("<I") not in _VERSIONS:
            raise self._bad("not a GGUF file of version 2 or 3")
        tensors, pairs = self._count(), self._count()
        metadata: dict[str, Scalar] = {}
        for _ in range(pairs):
            key = self._text()
            value = self._value(key, self._number("<I"))
            if value is not None:
                metadata[key] = value
        claims = [(self._text(), self._claim()) for _ in range(tensors)]
        alignment = metadata.get("general.alignment", 32)
        if alignment not in _ALIGNMENTS:
            raise self._bad("an alignment that can't be")
        base = -(-self._stream.tell() // int(alignment)) * int(alignment)
        found = {name: Entry(one.kind, one.shape, base + one.start, one.size) for name, one in claims}
        if len(found) != len(claims):
            raise self._bad("two tensors of one name")
        self._check_overlaps(found)
        return GgufHeader(metadata, found, self._tokens)

    def _claim(self) -> Entry:
        """Return the next tensor, its start not yet counted from the file's."""
        dimensions = self._number("<I")
        if dimensions not in _DIMENSIONS:
            raise self._bad(f"a tensor of {dimensions} dimensions")
        shape = tuple(self._number("<Q") for _ in range(dimensions))[::-1]
        kind, start = self._number("<I"), self._number("<Q")
        try:
            found = GGMLQuantizationType(kind)
            block, size = GGML_QUANT_SIZES[found]
        except (KeyError, ValueError):
            raise self._bad(f"a tensor of the unknown type {kind}") from None
        if min(shape) < 1 or shape[-1] % block:
            raise self._bad("a tensor's shape does not fit its type")
        return Entry(found, shape, start, math.prod(shape) // block * size)

    def _check_overlaps(self, found: Mapping[str, Entry]) -> None:
        stop = 0
        for one in sorted(found.values(), key=lambda entry: entry.start):
            if one.start < stop:
                raise self._bad("tensors that lie over each other")
            stop = one.start + one.size

    def _value(self, key: str, kind: int) -> Scalar | None:
        """Return the next value; None for one that is passed over."""
        if kind in _FIXED:
            return self._scalar(_FIXED[kind])
        if kind == _STRING:
            return self._text(skip=True)
        if kind != _ARRAY:
            raise self._bad(f"metadata of the unknown type {kind}")
        self._pass_array(key)
        return None

    def _pass_array(self, key: str) -> None:
        """Pass over the next array."""
        kind, count = self._number("<I"), self._number("<Q")
        if kind in _FIXED:
            self._skip(count * struct.calcsize(_FIXED[kind]))
            return
        self._texts += count
        if kind != _STRING or self._texts > _TEXTS_LIMIT:
            raise self._bad("an array of arrays, or of too many texts")
        start = self._stream.tell()
        for _ in range(count):
            self._skip(self._number("<Q"))
        if key == _TOKENS:
            self._tokens = Texts(start, self._stream.tell() - start, count)

    def _text(self, *, skip: bool = False) -> str:
        """Return the next text; with `skip`, an empty one in place of a long one."""
        size = self._number("<Q")
        if size <= _NAME_LIMIT:
            self._held += size
            if self._held > _HELD_LIMIT:
                raise self._bad(f"names and texts of over {_HELD_LIMIT >> 20} MiB together")
            return self._take(size).decode("utf-8", errors="replace")
        if not skip:
            raise self._bad("a name that is too long")
        self._skip(size)
        return ""

    def _count(self) -> int:
        count = self._number("<Q")
        if count > _COUNT_LIMIT:
            raise self._bad(f"it claims {count} parts; the limit is {_COUNT_LIMIT}")
        return count

    def _number(self, form: str) -> int:
        return int(self._scalar(form))

    def _scalar(self, form: str) -> int | float:
        return cast("int | float", struct.unpack(form, self._take(struct.calcsize(form)))[0])

    def _take(self, size: int) -> bytes:
        taken = self._stream.read(size)
        if len(taken) != size:
            raise self._bad("it ends within its header")
        return taken

    def _skip(self, size: int) -> None:
        if size > self._total - self._stream.tell():
            raise self._bad("it ends within its header")
        self._stream.seek(size, os.SEEK_CUR)

    def _bad(self, message: str) -> BadInput:
        return BadInput(message, where=self._where)
