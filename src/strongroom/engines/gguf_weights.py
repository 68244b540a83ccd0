"""The tensors of a suspect GGUF file of the llama architecture, decoded, for whoever compares weights.

Names are transformers'. A tensor that Llama doesn't have (a table of rotations, say) is left out; nothing of the
tokenizer is looked at. What is asked for is read, row by row: no tensor is held.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.gguf_header import Entry, read_header
from strongroom.engines.gguf_llama import rows_back, transformers_name
from strongroom.ports.marks import TensorInfo

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
_HEADS = {"self_attn.q_proj": "head_count", "self_attn.k_proj": "head_count_kv"}
CODECS = {
    "Q8_0": GGMLQuantizationType.Q8_0,
    "Q4_0": GGMLQuantizationType.Q4_0,
    "Q4_1": GGMLQuantizationType.Q4_1,
}


class GgufTensors:
    """`ports.marks.Tensors` over a GGUF file: all are float32, as they would be computed with."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            BadInput: it is no GGUF file, ends early, claims what can't be, or is of another architecture.

        """
        header = read_header(path)
        self._path, self._metadata = path, header.metadata
        if header.metadata.get("general.architecture") != "llama":
            raise BadInput("not of the llama architecture", where=path.name)
        self._entries: dict[str, Entry] = {}
        for name, entry in header.tensors.items():
            try:
                self._entries[transformers_name(name, where=path.name)] = entry
            except BadInput:
                continue
        if not self._entries:
            raise BadInput("it holds no tensor of Llama", where=path.name)

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype, which is ``F32``, and shape, in the file's order."""
        return {name: TensorInfo("F32", entry.shape) for name, entry in self._entries.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the little-endian float32 elements of `name` from element `first` on (row-major).

        Raises:
            BadInput: there is no such tensor, it has no such elements, or it is of a type that can't be decoded.

        """
        entry, count = self._entries.get(name), buffer.nbytes // _ITEM
        if entry is None or first < 0 or buffer.nbytes % _ITEM or first + count > math.prod(entry.shape):
            raise BadInput("no such tensor, or no such elements", where=f"{self._path.name}: {name[:80]}")
        if not count:
            return
        columns, group = entry.shape[-1], self._group(name, entry)
        start = first // columns // group * group
        stop = -(-(first + count) // columns // group) * group  # whole rows, and whole heads where rows are in disorder
        rows = self._rows(entry, start, stop)
        if group > 1:
            rows = rows_back(rows, (stop - start) // group)
        wanted = rows.reshape(-1)[first - start * columns :][:count]
        buffer.cast("B")[:] = wanted.astype("<f4", copy=False).tobytes()

    def close(self) -> None:
        """Let go of the file, which is opened for each reading."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def _group(self, name: str, entry: Entry) -> int:
        """Return how many rows belong together: those of a head, in queries and keys."""
        part = next((count for proj, count in _HEADS.items() if f".{proj}." in name), None)
        if part is None:
            return 1
        heads = self._metadata.get(f"llama.attention.{part}")
        if type(heads) is not int or heads < 1 or len(entry.shape) != 2 or entry.shape[0] % (2 * heads):  # noqa: PLR2004 - rows and columns
            raise BadInput(f"its {part} does not fit its weights", where=self._path.name)
        return entry.shape[0] // heads

    def _rows(self, entry: Entry, start: int, stop: int) -> Array:
        """Return the rows from `start` to before `stop`, (rows, columns)."""
        block, size = GGML_QUANT_SIZES[entry.kind]
        row = entry.shape[-1] // block * size
        raw = self._read(entry.start + start * row, (stop - start) * row)
        return decode(raw.reshape(stop - start, row), entry.kind, where=self._path.name)

    def _read(self, offset: int, size: int) -> npt.NDArray[np.uint8]:
        """Return bytes of the file, which may have become shorter since its header was read."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(offset)
                raw = stream.read(size)
        except OSError as error:
            raise BadInput(f"can't be read: {os.strerror(error.errno or 0)}", where=self._path.name) from None
        if len(raw) != size:
            raise BadInput("it ends within a tensor", where=self._path.name)
        return np.frombuffer(raw, dtype=np.uint8)


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
