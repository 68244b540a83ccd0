"""Weights in files from anywhere: opened as what they are, read at their places, and closed together."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import msgspec

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput
from strongroom.lineage.adapters import scaling_of
from strongroom.lineage.vocabulary import tokens_of
from strongroom.ports.marks import TensorInfo
from strongroom.ports.suspects import Format, Storage

FILES_LIMIT: Final = 10_000
_INDEX_LIMIT: Final = 1 << 26  # bytes
_TOKENIZER_LIMIT: Final = 1 << 26
_CONFIG_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """An open regular file."""

    descriptor: int
    size: int  # bytes, when it was opened
    name: str

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of it.

        Raises:
            BadInput: it can't be read, or not so far.

        """
        raw = bytearray(size)
        fill(self.descriptor, memoryview(raw), offset, where=self.name)
        return bytes(raw)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's bytes stand."""

    file: Opened
    info: TensorInfo
    start: int
    stop: int


class _Index(Record, frozen=True, forbid_unknown_fields=False):
    weight_map: dict[str, str]


class WeightFiles:
    """The tensors of one file, or of several in a folder (`ports.suspects.Suspect`). Use it in a ``with``.

    Whoever knows a format opens the files and puts their tensors in: the rest is the same for all.
    """

    def __init__(self, path: Path, form: Format) -> None:
        """Begin with no tensors; tokenizer and adapter's config are looked for in or beside `path`."""
        self._form: Format = form
        self._folder = path if path.is_dir() else path.parent
        self._files: list[Opened] = []
        self._places: dict[str, Place] = {}
        self._infos: dict[str, TensorInfo] = {}
        self._missing: dict[str, None] = {}

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on.

        Raises:
            BadInput: there is no such tensor, or the file became shorter.

        """
        place = self._places.get(name)
        if place is None:
            raise BadInput("no such tensor in the suspect", where=name[:200])
        size = (place.stop - place.start) // max(math.prod(place.info.shape), 1)
        start = place.start + first * size
        if first < 0 or start + len(buffer) > place.stop:
            raise BadInput("elements beyond the tensor's end", where=name[:200])
        fill(place.file.descriptor, buffer, start, where=place.file.name)

    def tokens(self) -> Sequence[str] | None:
        """Return its vocabulary, from a ``tokenizer.json`` that lies with it."""
        raw = read_small(self._folder / "tokenizer.json", limit=_TOKENIZER_LIMIT)
        return None if raw is None else tokens_of(raw)

    def storage(self) -> Storage:
        """Return the dtypes, the tensors that should be there, and an adapter's scaling."""
        kinds = {name: info.dtype for name, info in self._infos.items()}
        config = read_small(self._folder / "adapter_config.json", limit=_CONFIG_LIMIT)
        missing = tuple(name for name in self._missing if name not in self._places)
        return Storage(self._form, kinds, missing, scaling_of(self._infos, config))

    def close(self) -> None:
        """Let go of the files."""
        while self._files:
            os.close(self._files.pop().descriptor)
        self._places = {}  # another file may have the descriptor's number next

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def _open(self, file: Path) -> Opened:
        opened = open_regular(file)
        self._files.append(opened)
        return opened

    def _put(self, name: str, place: Place) -> None:
        """Add a tensor; one that its file, cut off, does not hold is missing."""
        if name in self._places or name in self._missing:
            raise BadInput(f"tensor {name[:200]!r} is in another file as well", where=place.file.name)
        if place.stop > place.file.size:
            self._missing[name] = None
            return
        self._places[name] = place
        self._infos[name] = place.info

    def _expect(self, names: Iterable[str]) -> None:
        """Note the tensors that an index promises."""
        self._missing.update(dict.fromkeys(names))


def read_index(folder: Path, name: str) -> Mapping[str, str]:
    """Return which tensor is in which file, by the index `name`; nothing where there is none that can be read.

    An index only promises: what can't be understood of it is no reason not to look at the weights.
    """
    raw = read_small(folder / name, limit=_INDEX_LIMIT)
    if raw is None or raw.count(b":") > 1 << 20:
        return {}
    try:
        return msgspec.json.decode(raw, type=_Index, strict=True).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def read_small(file: Path, *, limit: int) -> bytes | None:
    """Return a file that lies with the weights, or None: there is none, or it is no such file or over `limit` bytes."""
    try:
        opened = open_regular(file)
    except BadInput:
        return None
    try:
        return opened.read(0, opened.size) if opened.size <= limit else None
    except BadInput:
        return None
    finally:
        os.close(opened.descriptor)


def open_regular(file: Path) -> Opened:
    """Open a regular file. A pipe is not waited for.

    Raises:
        BadInput: it is none, or can't be read.

    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a name with a zero byte is no OSError
        reason = error.strerror if isinstance(error, OSError) else "no file's name"
        raise BadInput(f"can't be read ({reason})", where=str(file)) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise BadInput("no regular file", where=str(file))
    return Opened(descriptor, status.st_size, file.name)


def fill(descriptor: int, buffer: memoryview, offset: int, *, where: str) -> None:
    """Fill `buffer` from `offset` of the file: one read, unless it is of over two gigabytes.

    Raises:
        BadInput: it can't be read, or ended.

    """
    done = 0
    while done < len(buffer):
        try:
            got = os.preadv(descriptor, [buffer[done:]], offset + done)
        except OSError as error:
            raise BadInput(f"can't be read ({error.strerror})", where=where) from None
        if not got:
            raise BadInput("the file became shorter while it was read", where=where)
        done += got


def entries(folder: Path) -> list[Path]:
    """Return what lies in a folder, in order of names.

    Raises:
        BadInput: it can't be listed, or is an issued copy, still encrypted.

    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(folder)) from None
    if (folder / "copy.json").is_file():
        remedy = "Open it with `strongroom custody receive export` first."
        raise BadInput("an issued copy, still encrypted", where=str(folder), remedy=remedy)
    return found
