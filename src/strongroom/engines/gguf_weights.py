"""The tensors of a suspect GGUF file, decoded, for whoever compares weights.

Names are transformers', and so are the values: rows in order, norms as they are stored there. A tensor that has no name
there (a table of rotations, experts) is left out. What is asked for is read, row by row: no tensor is held.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.gguf_header import Entry, GgufHeader, Scalar, Texts, header_of
from strongroom.engines.gguf_llama import rows_back
from strongroom.engines.gguf_names import interleaves, name_of, raised
from strongroom.lineage.adapters import adapter_pairs
from strongroom.lineage.files import FILES_LIMIT, Opened, entries, fill, open_regular
from strongroom.lineage.vocabulary import TOKENS_LIMIT, byte_level
from strongroom.ports.marks import TensorInfo
from strongroom.ports.suspects import Storage

try:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize, quantize
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "reading GGUF needs the library gguf, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[demo]'",
    ) from missing

Array = npt.NDArray[np.float32]

_ITEM = 4  # bytes of a float32
_MATRIX = 2
_HEAD_LIMIT: Final = 1 << 26  # weights of one attention head: where its rows are in disorder, it is decoded as a whole
_TOKENS_BYTES: Final = 1 << 26
_PART: Final = re.compile(r"^(.+)-(\d{5})-of-(\d{5})\.gguf$")
CODECS = {
    "Q8_0": GGMLQuantizationType.Q8_0,
    "Q4_0": GGMLQuantizationType.Q4_0,
    "Q4_1": GGMLQuantizationType.Q4_1,
}


@dataclass(frozen=True, slots=True)
class _Place:
    file: Opened
    entry: Entry
    heads: str | None  # the metadata that says of how many heads its rows are, if llama.cpp interleaved them
    raised: bool  # by one


class GgufTensors:
    """`ports.suspects.Suspect` over a GGUF file or its parts: all are float32, as they would be computed with."""

    def __init__(self, path: Path, *, partial: bool = False) -> None:
        """Open `path`, or the GGUF file in a folder, or its parts; with `partial`, it may end before its tensors do.

        Raises:
            BadInput: it is no GGUF file, ends early, claims what can't be, or has no tensor that is known.

        """
        self._where = path.name
        self._files: list[Opened] = []
        self._places: dict[str, _Place] = {}
        self._metadata: dict[str, Scalar] = {}
        self._missing: list[str] = []
        self._tokens: tuple[Opened, Texts] | None = None
        try:
            self._read_headers(gguf_files(path) if path.is_dir() else [path], partial=partial)
        except BaseException:
            self.close()
            raise
        self._infos = {name: TensorInfo("F32", place.entry.shape) for name, place in self._places.items()}

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype, which is ``F32``, and shape, in the file's order."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the little-endian float32 elements of `name` from element `first` on (row-major).

        Raises:
            BadInput: there is no such tensor, it has no such elements, or it is of a type that can't be decoded.

        """
        place, count = self._places.get(name), buffer.nbytes // _ITEM
        if place is None or first < 0 or buffer.nbytes % _ITEM or first + count > math.prod(place.entry.shape):
            raise BadInput("no such tensor, or no such elements", where=f"{self._where}: {name[:80]}")
        if not count:
            return
        group = self._group(place)
        unit = group * place.entry.shape[-1] if group > 1 else GGML_QUANT_SIZES[place.entry.kind][0]
        start = first // unit * unit
        stop = -(-(first + count) // unit) * unit  # whole blocks, and whole heads where rows are in disorder
        values = _elements(place, start, stop)
        if group > 1:
            values = rows_back(values.reshape(-1, place.entry.shape[-1]), (stop - start) // unit).reshape(-1)
        wanted = values[first - start :][:count]
        np.frombuffer(buffer, "<f4")[:] = wanted - np.float32(1) if place.raised else wanted

    def tokens(self) -> Sequence[str] | None:
        """Return its vocabulary."""
        if self._tokens is None:
            return None
        file, texts = self._tokens
        if texts.size > _TOKENS_BYTES or texts.count > TOKENS_LIMIT:
            return None
        return byte_level(_split(file.read(texts.start, texts.size), texts.count))

    def storage(self) -> Storage:
        """Return the types of its blocks (``Q4_K``), the tensors that are cut off, and an adapter's scaling."""
        kinds = {name: place.entry.kind.name for name, place in self._places.items()}
        ranks = [self._infos[down].shape[0] for down, _ in adapter_pairs(self._infos).values()]
        alpha = self._metadata.get("adapter.lora.alpha")
        scaling = alpha / ranks[0] if ranks and isinstance(alpha, float) and math.isfinite(alpha) else 1.0
        return Storage("gguf", kinds, tuple(self._missing), scaling)

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop().descriptor)
        self._places, self._tokens = {}, None  # another file may have the descriptor's number next

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def _read_headers(self, paths: Sequence[Path], *, partial: bool) -> None:
        headers: list[tuple[Opened, GgufHeader]] = []
        for path in paths:
            opened = open_regular(path)
            self._files.append(opened)
            header = header_of(opened)
            headers.append((opened, header))
            self._metadata = header.metadata | self._metadata
            if header.tokens is not None and self._tokens is None:
                self._tokens = opened, header.tokens
        for opened, header in headers:
            self._put(opened, header, partial=partial)
        if not self._places:
            raise BadInput("it holds no tensor whose name is known", where=self._where)

    def _put(self, file: Opened, header: GgufHeader, *, partial: bool) -> None:
        architecture = str(self._metadata.get("general.architecture"))
        for theirs, entry in header.tensors.items():
            name = name_of(theirs, architecture)
            whole = entry.start + entry.size <= file.size
            if not whole and not partial:
                raise BadInput("it ends within a tensor", where=file.name)
            if name is None:
                continue
            if name in self._places:
                raise BadInput(f"tensor {name!r} is in another part as well", where=file.name)
            if whole:
                heads = interleaves(theirs, architecture)
                self._places[name] = _Place(file, entry, heads, raised(theirs, architecture))
            else:
                self._missing.append(name)

    def _group(self, place: _Place) -> int:
        """Return how many rows belong together: those of a head, in queries and keys."""
        if place.heads is None:
            return 1
        prefix, shape = f"{self._metadata.get('general.architecture')}.attention", place.entry.shape
        heads = self._metadata.get(f"{prefix}.{place.heads}", self._metadata.get(f"{prefix}.head_count"))
        if type(heads) is not int or heads < 1 or len(shape) != _MATRIX or shape[0] % (2 * heads):
            raise BadInput(f"its {place.heads} does not fit its weights", where=self._where)
        if math.prod(shape) // heads > _HEAD_LIMIT:
            raise BadInput(f"heads of {math.prod(shape) // heads} weights each", where=self._where)
        return shape[0] // heads


def gguf_files(folder: Path) -> list[Path]:
    """Return the GGUF file in a folder, or the parts of one.

    Raises:
        BadInput: there is none, or there are several that are no parts of one; the folder can't be listed.

    """
    found = [one for one in entries(folder) if one.name.endswith(".gguf")]
    parts = [match.group(1, 3) if (match := _PART.match(one.name)) else (one.name, "") for one in found]
    if len(set(parts)) != 1 or len(found) > FILES_LIMIT:
        raise BadInput(f"{len(set(parts))} GGUF models in the folder: name the file", where=str(folder))
    return found


def _elements(place: _Place, start: int, stop: int) -> Array:
    """Return the elements from `start` to before `stop`, which are whole blocks."""
    entry = place.entry
    block, size = GGML_QUANT_SIZES[entry.kind]
    raw = np.empty((stop - start) // block * size, np.uint8)
    fill(place.file.descriptor, raw.data, entry.start + start // block * size, where=place.file.name)
    columns = entry.shape[-1]
    rows = (stop - start) // columns if start % columns == stop % columns == 0 else 1
    return decode(raw.reshape(rows, -1), entry.kind, where=place.file.name).reshape(-1)


def _split(raw: bytes, count: int) -> list[str]:
    """Return the texts of an array whose lengths were checked when it was passed over."""
    texts: list[str] = []
    at = 0
    for _ in range(count):
        stop = at + 8 + int.from_bytes(raw[at : at + 8], "little")
        texts.append(raw[at + 8 : stop].decode("utf-8", errors="replace"))
        at = stop
    return texts


def decode(raw: npt.NDArray[np.uint8], kind: GGMLQuantizationType, *, where: str) -> Array:
    """Return the values, (rows, columns), of rows of blocks of type `kind`, (rows, bytes).

    Raises:
        BadInput: the gguf package can't decode the type.

    """
    given = raw.view({GGMLQuantizationType.F32: "<f4", GGMLQuantizationType.F16: "<f2"}.get(kind, np.uint8))
    try:
        with np.errstate(all="ignore"):  # a hostile scale overflows: to infinity, which is what it says
            return cast("Array", dequantize(given, kind)).astype(np.float32, copy=False)
    except (NotImplementedError, ValueError) as error:
        raise BadInput(f"weights of type {kind.name} can't be decoded", where=where) from error


def round_trip(values: Array, quantisation: str) -> Array:
    """Return `values`, (rows, columns), as they come back from `quantisation`: Q8_0, Q4_0 or Q4_1.

    Raises:
        BadInput: the quantisation is another, or the rows are no whole blocks of 32.

    """
    return decode(encode(values, quantisation), CODECS[quantisation], where=quantisation)


def encode(values: Array, quantisation: str) -> npt.NDArray[np.uint8]:
    """Return `values`, (rows, columns), as rows of blocks of `quantisation`, (rows, bytes).

    Raises:
        BadInput: the quantisation is unknown, or the rows are no whole blocks of 32.

    """
    if quantisation not in CODECS or values.shape[-1] % 32:
        raise BadInput(f"rows of {values.shape[-1]} can't be quantised so", where=quantisation[:40])
    return cast("npt.NDArray[np.uint8]", quantize(values, CODECS[quantisation]))
