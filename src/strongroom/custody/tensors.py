"""A sealed checkpoint that feels like ``safetensors.safe_open``, over all of its shards.

    with SealedCheckpoint(reader) as sealed:
        sealed.keys()                           # every tensor of every shard
        sealed.get_tensor("lm_head.weight")     # numpy, bfloat16 and float8 through ml_dtypes
        sealed.get_slice("lm_head.weight")[:8]  # decrypts the segments of eight rows
        sealed.read_file("config.json")

Tensors are decrypted when they are asked for, each into anonymous memory of its own, which then belongs to the caller.
An engine gives `make` to build its own kind of tensor over the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, TypeVar, cast

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike, NDArray

from strongroom.core.errors import BadInput
from strongroom.core.safetensors_header import LENGTH_BYTES, Header, Tensor, header_length, parse_header
from strongroom.custody.formats import Content
from strongroom.custody.memory import anonymous, workers
from strongroom.custody.read import Progress, Reader

T = TypeVar("T")
Array = NDArray[np.generic]
Make = Callable[[memoryview, str, tuple[int, ...]], T]
Index = int | slice | tuple[int | slice, ...]

_NUMPY: dict[str, DTypeLike] = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "U16": np.uint16, "F16": np.float16,
    "I32": np.int32, "U32": np.uint32, "F32": np.float32, "I64": np.int64, "U64": np.uint64, "F64": np.float64,
    "C64": np.complex64, "BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "F8_E4M3FNUZ": ml_dtypes.float8_e4m3fnuz, "F8_E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
}  # fmt: skip


def as_numpy(area: memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """Return `area` as an array, without a copy.

    Raises:
        BadInput: numpy has no such dtype (the packed four- and six-bit ones).

    """
    if dtype not in _NUMPY:
        raise BadInput("numpy has no such dtype", where=dtype)
    return np.frombuffer(area, dtype=_NUMPY[dtype]).reshape(shape)


def read_header(reader: Reader, entry: Content) -> Header:
    """Return the header of the safetensors file `entry`.

    Raises:
        TamperError: its segment was altered.
        BadInput: it breaks a rule of safetensors.

    """
    file, path, total = entry.file, entry.path, entry.size
    first = bytearray(min(LENGTH_BYTES, total))
    reader.read_into(file, 0, memoryview(first))
    raw = bytearray(header_length(bytes(first), total=total, where=path))
    reader.read_into(file, LENGTH_BYTES, memoryview(raw))
    return parse_header(bytes(raw), total=total, where=path)


class _Indexable(Protocol):
    def __getitem__(self, index: tuple[int | slice, ...], /) -> object: ...


class SealedSlice(Generic[T]):
    """A tensor that is not decrypted yet: indexing it decrypts the rows that are asked for."""

    def __init__(self, name: str, tensor: Tensor, rows: Callable[[int, int], T]) -> None:
        """Stand for `tensor`; ``rows(first, stop)`` decrypts a range of its leading dimension."""
        self._name = name
        self._tensor = tensor
        self._rows = rows

    def get_shape(self) -> list[int]:
        """Return the shape of the whole tensor."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Return the dtype in safetensors' words."""
        return self._tensor.dtype

    def __getitem__(self, index: Index) -> T:
        """Return the part of the tensor that `index` names.

        Raises:
            BadInput: the index does not fit the shape.

        """
        parts = index if isinstance(index, tuple) else (index,)
        shape = self._tensor.shape
        if len(parts) > len(shape):
            raise BadInput(f"{len(parts)} indexes, {len(shape)} dimensions", where=self._name)
        if not parts:
            return self._rows(0, -1)
        first, stop, rest = _leading(parts[0], shape[0], where=self._name)
        rows = self._rows(first, stop)
        inner = (rest, *parts[1:])
        if inner == (slice(None),):
            return rows
        try:
            return cast("T", cast("_Indexable", rows)[inner])
        except (IndexError, TypeError):
            raise BadInput("an index that does not fit the shape", where=self._name) from None


def _leading(part: int | slice, length: int, *, where: str) -> tuple[int, int, int | slice]:
    """Return the rows to decrypt, and the index to apply to them."""
    if isinstance(part, int):
        if not -length <= part < length:
            raise BadInput(f"row {part} of {length}", where=where)
        row = part % length
        return row, row + 1, 0
    first, stop, step = part.indices(length)
    if step == 1:
        return first, max(first, stop), slice(None)
    return 0, length, part


class SealedTensors(Generic[T]):
    """The tensors and files of an opened sealed checkpoint, made into `T` by the engine's own hand."""

    def __init__(self, reader: Reader, make: Make[T]) -> None:
        """Take over `reader` and read the header of every shard.

        Raises:
            TamperError: a header's segment was altered.
            BadInput: a header breaks a rule of safetensors, or two shards hold the same tensor.

        """
        self._reader = reader
        self._make = make
        self._paths = {entry.path: entry for entry in reader.contents.files}
        self._headers: dict[int, Header] = {}
        self._where: dict[str, tuple[int, Tensor]] = {}
        for entry in reader.contents.files:
            if entry.kind == "safetensors":
                self._add(entry, read_header(reader, entry))
        reader.describe = self._describe

    def keys(self) -> list[str]:
        """Return the names of all tensors, shard by shard."""
        return list(self._where)

    def metadata(self) -> dict[str, str] | None:
        """Return the shards' metadata; where two shards differ, the first one's word stands."""
        merged: dict[str, str] = {}
        for header in reversed(self._headers.values()):
            merged |= header.metadata or {}
        return merged or None

    def get_tensor(self, name: str) -> T:
        """Decrypt the tensor `name` into memory of its own.

        Raises:
            BadInput: there is no such tensor.
            SegmentAltered: a segment of it was altered; nothing is returned.
            SegmentForged: a segment of it does not decrypt at its place; nothing is returned.

        """
        file, tensor = self._find(name)
        return self._read(file, tensor, shape=tensor.shape, start=tensor.start, stop=tensor.stop)

    def get_slice(self, name: str) -> SealedSlice[T]:
        """Return the tensor `name` for indexing; only rows that are asked for are decrypted.

        Raises:
            BadInput: there is no such tensor.

        """
        file, tensor = self._find(name)

        def rows(first: int, stop: int) -> T:
            if stop < 0:  # no leading dimension
                return self.get_tensor(name)
            size = (tensor.stop - tensor.start) // max(tensor.shape[0], 1)
            start = tensor.start + first * size
            return self._read(
                file, tensor, shape=(stop - first, *tensor.shape[1:]), start=start, stop=tensor.start + stop * size
            )

        return SealedSlice(name, tensor, rows)

    def load_all(self, progress: Progress | None = None) -> dict[str, T]:
        """Decrypt every tensor, each shard into one piece of anonymous memory, on all processors.

        Raises:
            SegmentAltered: a segment was altered; nothing is returned.
            SegmentForged: a segment does not decrypt at its place; nothing is returned.

        """
        tensors: dict[str, T] = {}
        with ThreadPoolExecutor(workers()) as pool:
            for file, header in self._headers.items():
                area = anonymous(self._reader.size(file))
                self._reader.load_into(file, area, pool=pool, progress=progress)
                for name, tensor in header.tensors.items():
                    tensors[name] = self._make(area[tensor.start : tensor.stop], tensor.dtype, tensor.shape)
        return tensors

    def files(self) -> list[str]:
        """Return the paths of all files, configuration and tokenizer among them."""
        return list(self._paths)

    def read_file(self, path: str) -> bytes:
        """Return the contents of one file.

        Raises:
            BadInput: there is no such file.

        """
        entry = self._paths.get(path)
        if entry is None:
            raise BadInput("no such file in the checkpoint", where=path[:200])
        buffer = bytearray(entry.size)
        self._reader.read_into(entry.file, 0, memoryview(buffer))
        return bytes(buffer)

    def close(self) -> None:
        """Wipe the keys and the cache. Tensors that were handed out stay their owner's."""
        self._reader.close()

    def __enter__(self) -> SealedTensors[T]:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _add(self, entry: Content, header: Header) -> None:
        if twice := self._where.keys() & header.tensors.keys():
            raise BadInput(f"tensor {min(twice)[:200]!r} is in another file as well", where=entry.path)
        self._headers[entry.file] = header
        self._where.update({name: (entry.file, tensor) for name, tensor in header.tensors.items()})

    def _find(self, name: str) -> tuple[int, Tensor]:
        try:
            return self._where[name]
        except KeyError:
            raise BadInput("no such tensor in the checkpoint", where=name[:200]) from None

    def _read(self, file: int, tensor: Tensor, *, shape: Sequence[int], start: int, stop: int) -> T:
        area = anonymous(stop - start)
        self._reader.read_into(file, start, area)
        return self._make(area, tensor.dtype, tuple(shape))

    def _describe(self, file: int, index: int) -> str:
        """Return, for an error, the path and the tensors that a segment holds a part of."""
        path = "the table of contents" if file == 0 else f"part of {self._reader.contents.files[file - 1].path}"
        start, stop = self._reader.layout.span(index, self._reader.size(file))
        header = self._headers.get(file)
        hit = [n for n, t in header.tensors.items() if t.start < stop and start < t.stop] if header else []
        more = f" and {len(hit) - 1} more" if len(hit) > 1 else ""
        return f"{path}, tensor {hit[0][:200]!r}{more}" if hit else path


class SealedCheckpoint(SealedTensors[Array]):
    """The tensors of an opened sealed checkpoint as numpy arrays."""

    def __init__(self, reader: Reader) -> None:
        """Take over `reader` and read the header of every shard."""
        super().__init__(reader, as_numpy)
