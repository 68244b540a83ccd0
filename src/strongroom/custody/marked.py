"""A checkpoint that is being marked as it is read: any range of any file, with the recipient's mark in it.

The mark belongs to tensors, segments cut files where they like: so a range is widened to whole elements at its edges,
and every byte comes out the same in whatever pieces it is asked for. Nothing marked is kept.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from strongroom.core.errors import BadInput
from strongroom.core.safetensors_header import Tensor
from strongroom.custody.floe import Layout
from strongroom.custody.formats import Content, Contents
from strongroom.custody.read import Progress, Reader
from strongroom.custody.tensors import read_header
from strongroom.ports.marks import Mark, TensorInfo

_PIECE = 8  # segments that a thread takes at a time


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the elements of a tensor stand: file, bytes from `start` to `stop`, bytes an element."""

    name: str
    file: int
    start: int
    stop: int
    item: int


def _places(reader: Reader) -> dict[str, tuple[_Place, Tensor]]:
    """Return where every tensor of whole bytes stands, shard by shard in the headers' order."""
    found: dict[str, tuple[_Place, Tensor]] = {}
    for entry in reader.contents.files:
        if entry.kind != "safetensors":
            continue
        for name, tensor in read_header(reader, entry).tensors.items():
            size, count = tensor.stop - tensor.start, math.prod(tensor.shape)
            item = size // count if count and not size % count else 0
            found[name] = _Place(name, entry.file, tensor.start, tensor.stop, item), tensor
    return found


class ReaderTensors:
    """The tensors of an opened checkpoint, read in pieces: what whoever marks copies is given."""

    def __init__(self, reader: Reader) -> None:
        """Read the header of every shard of `reader`, which stays its owner's.

        Raises:
            TamperError: a header's segment was altered.
            BadInput: a header breaks a rule of safetensors.

        """
        self._reader = reader
        self._places = _places(reader)
        self._infos = {name: TensorInfo(dtype=one.dtype, shape=one.shape) for name, (_, one) in self._places.items()}

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape, shard by shard."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the little-endian elements of `name` from element `first` on (row-major).

        Raises:
            BadInput: there is no such tensor, or no such elements in it.
            TamperError: a segment of it was altered.

        """
        place, _ = self._places.get(name, (None, None))
        if place is None:
            raise BadInput("no such tensor in the checkpoint", where=name[:200])
        start = place.start + first * place.item
        fits = place.item and first >= 0 and not len(buffer) % place.item and start + len(buffer) <= place.stop
        if len(buffer) and not fits:
            raise BadInput("not whole elements of the tensor", where=name[:200])
        self._reader.read_into(place.file, start, buffer)


class MarkedReader:
    """A reader whose tensors carry a mark. It has a reader's surface, and may stand wherever one does."""

    def __init__(self, source: Reader, mark: Mark) -> None:
        """Mark what is read from `source`, which it takes over.

        Raises:
            BadInput: the mark names a tensor that is not there, or whose elements are no whole bytes.
            TamperError: a header's segment was altered.

        """
        self._source = source
        self._mark = mark
        places = _places(source)
        self._marked: dict[int, list[_Place]] = {}
        for name in mark.names():
            place, _ = places.get(name, (None, None))
            if place is None or not (place.item or place.start == place.stop):
                raise BadInput("the mark names a tensor that can't carry it", where=name[:200])
            self._marked.setdefault(place.file, []).append(place)
        for marked in self._marked.values():
            marked.sort(key=lambda one: one.start)

    @property
    def contents(self) -> Contents:
        """Return the table of contents: the source's, since a mark changes no size."""
        return self._source.contents

    @property
    def layout(self) -> Layout:
        """Return how the source's files are cut into segments."""
        return self._source.layout

    @property
    def describe(self) -> Callable[[int, int], str]:
        """Return what says, for errors, what a segment holds."""
        return self._source.describe

    @describe.setter
    def describe(self, describe: Callable[[int, int], str]) -> None:
        """Set the source's."""
        self._source.describe = describe

    def size(self, file: int) -> int:
        """Return the plaintext size of `file`."""
        return self._source.size(file)

    def read_into(self, file: int, offset: int, target: memoryview) -> None:
        """Fill `target` with the marked plaintext of `file` from `offset`.

        Raises:
            TamperError: a segment of the source was altered.
            BadInput: the range is not within the file.

        """
        self._source.read_into(file, offset, target)
        marked, end = self._marked.get(file, []), offset + len(target)
        at = bisect_right(marked, offset, key=lambda one: one.stop)
        while at < len(marked) and marked[at].start < end:
            place = marked[at]
            low, high = max(place.start, offset), min(place.stop, end)
            if low < high:
                self._apply(place, low - place.start, target[low - offset : high - offset])
            at += 1

    def load_into(
        self, file: int, target: memoryview, *, pool: ThreadPoolExecutor, progress: Progress | None = None
    ) -> None:
        """Fill `target` with the whole of `file`, marked, on the threads of `pool`.

        Raises:
            TamperError: a segment of the source was altered.

        """
        size, step = self.size(file), _PIECE * self.layout.payload

        def fill(start: int) -> int:
            stop = min(start + step, size)
            self.read_into(file, start, target[start:stop])
            return stop

        for done in pool.map(fill, range(0, size, step)):
            if progress:
                progress(done, size)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _apply(self, place: _Place, start: int, area: memoryview) -> None:
        """Mark `area`, the bytes of a tensor from `start` on: whole elements in place, cut ones by themselves."""
        item = place.item
        lead = min(-start % item, len(area))
        whole = (len(area) - lead) // item * item
        if lead:
            self._apply_cut(place, start, area[:lead])
        if whole:
            self._mark.apply(place.name, (start + lead) // item, area[lead : lead + whole])
        if lead + whole < len(area):
            self._apply_cut(place, start + lead + whole, area[lead + whole :])

    def _apply_cut(self, place: _Place, start: int, area: memoryview) -> None:
        """Mark `area`, a part of the one element that holds byte `start` of the tensor."""
        element, skip = divmod(start, place.item)
        one = memoryview(bytearray(place.item))
        self._source.read_into(place.file, place.start + element * place.item, one)
        self._mark.apply(place.name, element, one)
        area[:] = one[skip : skip + len(area)]


class _ReaderFile:
    """One file of an opened checkpoint, as the pipeline reads what it seals."""

    def __init__(self, reader: Reader, entry: Content) -> None:
        self._reader = reader
        self._file = entry.file
        self.size = entry.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._reader.read_into(self._file, offset, buffer)

    def check_unchanged(self) -> None:
        """Every segment was checked against the signed manifest as it was read."""

    def close(self) -> None:
        """The reader is its owner's."""


@dataclass(frozen=True, slots=True)
class ReaderPlan:
    """An opened checkpoint as something to be sealed again."""

    reader: Reader

    @property
    def contents(self) -> Contents:
        """Return the table of contents."""
        return self.reader.contents

    def open(self, entry: Content) -> _ReaderFile:
        """Open one file."""
        return _ReaderFile(self.reader, entry)
