"""A suspect file: safetensors, alone or in a folder of shards, read piece by piece and never believed."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.safetensors_header import LENGTH_BYTES, Header, Tensor, header_length, parse_header
from strongroom.ports.marks import TensorInfo

_SUFFIX: Final = ".safetensors"
_GGUF: Final = ".gguf"
_FILES_LIMIT: Final = 10_000
_HEADERS_LIMIT: Final = 1 << 28  # bytes of all headers together: what a folder's shards name is held while it is read


@dataclass(frozen=True, slots=True)
class _Place:
    descriptor: int
    tensor: Tensor
    file: str


class SafetensorsFiles:
    """The tensors of one file, or of all shards in a folder (`ports.marks.Tensors`). Use it in a ``with``."""

    def __init__(self, path: Path) -> None:
        """Open what is at `path` and read every header.

        Raises:
            BadInput: no safetensors file, or one that breaks a rule of the format; a tensor that is there twice.
            InputTooLarge: a header beyond its limits, or over 256 MiB of headers.

        """
        self._descriptors: list[int] = []
        self._headers = 0  # bytes so far
        self._places: dict[str, _Place] = {}
        try:
            for file in _files(path):
                self._add(file)
        except BaseException:
            self.close()
            raise

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape."""
        return {name: TensorInfo(one.tensor.dtype, one.tensor.shape) for name, one in self._places.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on.

        Raises:
            BadInput: there is no such tensor, or the file became shorter.

        """
        place = self._places.get(name)
        if place is None:
            raise BadInput("no such tensor in the suspect", where=name[:200])
        tensor = place.tensor
        count = 1
        for length in tensor.shape:
            count *= length
        size = (tensor.stop - tensor.start) // max(count, 1)
        start = tensor.start + first * size
        if first < 0 or start + len(buffer) > tensor.stop:
            raise BadInput("elements beyond the tensor's end", where=name[:200])
        _fill(place.descriptor, buffer, start, where=place.file)

    def close(self) -> None:
        """Let go of the files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def _add(self, file: Path) -> None:
        descriptor, total = _open(file)
        self._descriptors.append(descriptor)
        header = self._header(descriptor, total, where=file.name)
        for name, tensor in header.tensors.items():
            if name in self._places:
                raise BadInput(f"tensor {name[:200]!r} is in another file as well", where=file.name)
            self._places[name] = _Place(descriptor, tensor, file.name)

    def _header(self, descriptor: int, total: int, *, where: str) -> Header:
        first = bytearray(min(LENGTH_BYTES + 1, total))
        _fill(descriptor, memoryview(first), 0, where=where)
        if bytes(first[LENGTH_BYTES:]) != b"{":  # before a text's first letters are taken for a length
            raise BadInput("neither GGUF nor safetensors", where=where)
        length = header_length(bytes(first), total=total, where=where)
        self._headers += length
        if self._headers > _HEADERS_LIMIT:
            raise InputTooLarge(f"headers of over {_HEADERS_LIMIT >> 20} MiB together", where=where)
        raw = bytearray(length)
        _fill(descriptor, memoryview(raw), LENGTH_BYTES, where=where)
        return parse_header(bytes(raw), total=total, where=where)


def _files(path: Path) -> list[Path]:
    """Return the safetensors files at `path`."""
    if not path.is_dir():
        return [path]
    names = list(path.iterdir())
    if (path / "copy.json").is_file():
        remedy = "Open it with `strongroom custody receive export` first."
        raise BadInput("an issued copy, still encrypted", where=str(path), remedy=remedy)
    found = sorted(one for one in names if one.name.endswith(_SUFFIX))
    if not found and any(one.name.endswith(_GGUF) for one in names):
        raise BadInput("a folder with GGUF files and no safetensors: name the .gguf file", where=str(path))
    if not found or len(found) > _FILES_LIMIT:
        raise BadInput(f"{len(found)} safetensors files in the folder", where=str(path))
    return found


def _open(file: Path) -> tuple[int, int]:
    """Open a regular file; return its descriptor and size."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadInput("no regular file", where=str(file))
    return descriptor, status.st_size


def _fill(descriptor: int, buffer: memoryview, offset: int, *, where: str) -> None:
    """Fill `buffer` from `offset` of the file."""
    done = 0
    while done < len(buffer):
        try:
            got = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise BadInput(f"can't be read ({error.strerror})", where=where) from None
        if not got:
            raise BadInput("the file became shorter while it was read", where=where)
        done += got
