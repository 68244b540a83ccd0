"""A suspect that PyTorch saved (``.bin``, ``.pt``, ``.pth``): its tensors, read in place; its pickle is never run.

Two formats: a zip file of stored entries, and, before PyTorch 1.6, one stream of pickles with the storages after them
(https://github.com/pytorch/pytorch/blob/main/torch/serialization.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage.files import FILES_LIMIT, Opened, Place, WeightFiles, entries, read_index
from strongroom.lineage.opcodes import PICKLE_LIMIT, Pickled, read_pickle
from strongroom.lineage.state_dict import ITEMS, StorageId, Strided, shown, state_dict
from strongroom.lineage.torch_cut import cut_entries
from strongroom.lineage.torch_zip import MAGIC, Extent, check_order, has_directory, zip_entries
from strongroom.ports.marks import TensorInfo

_SUFFIXES: Final = (".bin", ".pt", ".pth")
_INDEX: Final = "pytorch_model.bin.index.json"
_NAMED: Final = ("pytorch_model", "adapter_model", "consolidated")  # what weights are called, if anything is
TRAINERS: Final = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")
"""How the names of pickles begin that lie beside weights and are none."""
_STREAM_MAGIC: Final = 0x1950A86A20F9469CFC6C
_STREAM_PROTOCOL: Final = 1001
_COUNT_BYTES: Final = 8


class TorchFiles(WeightFiles):
    """The tensors of one file, or of all in a folder (`ports.suspects.Suspect`). Use it in a ``with``."""

    def __init__(self, path: Path, *, partial: bool = False) -> None:
        """Open what is at `path` and read every pickle, without running it.

        With `partial`, a file may end before its tensors do.

        Raises:
            BadInput: no file of PyTorch's, or one that breaks a rule of the format or would run something, which is
                named; a tensor that is there twice, or not row by row.
            InputTooLarge: a pickle or a directory beyond its limits.

        """
        super().__init__(path, "torch")
        self._partial = partial
        promised = read_index(self._folder, _INDEX)
        try:
            for file in torch_files(path) if path.is_dir() else [path]:
                self._add(self._open(file))
        except BaseException:
            self.close()
            raise
        if path.is_dir() or path.name in promised.values():
            self._expect(promised)

    def _add(self, file: Opened) -> None:
        zipped = file.read(0, min(len(MAGIC), file.size)) == MAGIC
        if not zipped:
            tensors, storages = _of_stream(file, partial=self._partial)
        elif self._partial and not has_directory(file):
            read, storages = cut_entries(file)
            tensors = state_dict(read.value, where=file.name)
        else:
            tensors, storages = _of_zip(file)
        for name, tensor in tensors.items():
            self._put(name, _place(file, name, tensor, extent=storages.get(tensor.storage.key)))


def torch_files(folder: Path) -> list[Path]:
    """Return the files with weights in a folder: an index's, else those of the usual names, else all but a trainer's.

    Raises:
        BadInput: there are none, or over 10,000; the folder can't be listed.

    """
    found = [one for one in entries(folder) if one.name.endswith(_SUFFIXES)]
    promised = set(read_index(folder, _INDEX).values())
    chosen = [one for one in found if one.name in promised or (promised and one.name.startswith(_NAMED[1]))]
    if not chosen:
        chosen = [one for one in found if one.name.startswith(_NAMED)]
    if not chosen:
        chosen = [one for one in found if not one.name.startswith(TRAINERS)]
    if not chosen or len(chosen) > FILES_LIMIT:
        raise BadInput(f"{len(chosen)} files of PyTorch's in the folder", where=str(folder))
    return chosen


def _of_zip(file: Opened) -> tuple[Mapping[str, Strided], Mapping[str, Extent]]:
    """Return a zip file's tensors, and where each storage stands."""
    found = zip_entries(file)
    roots = [name.removesuffix("data.pkl") for name in found if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise BadInput("a zip file without a data.pkl of PyTorch's", where=file.name)
    root = roots[0]
    order = found.get(f"{root}byteorder")
    if order is not None:
        check_order(file, order.start, order.size)
    pickled = found[f"{root}data.pkl"]
    if pickled.size > PICKLE_LIMIT:
        raise InputTooLarge(f"a pickle of {pickled.size} bytes; the limit is {PICKLE_LIMIT}", where=file.name)
    read = read_pickle(file.read(pickled.start, pickled.size), where=file.name)
    tensors = state_dict(read.value, where=file.name)
    storages: dict[str, Extent] = {}
    for tensor in tensors.values():
        key = tensor.storage.key
        extent = found.get(f"{root}data/{key}")
        if extent is None or tensor.storage.length * ITEMS[tensor.storage.dtype] > extent.size:
            raise BadInput(f"the storage {shown(key)} is missing or too short", where=file.name)
        storages[key] = extent
    return tensors, storages


def _of_stream(file: Opened, *, partial: bool) -> tuple[Mapping[str, Strided], Mapping[str, Extent]]:
    """Return the tensors of a file of the older format, and where each storage stands."""
    raw = file.read(0, min(file.size, PICKLE_LIMIT))
    magic = read_pickle(raw, where=file.name)
    if magic.value != _STREAM_MAGIC:
        raise BadInput("a pickle, but not one that PyTorch saved weights in", where=file.name)
    protocol = read_pickle(raw, magic.stop, where=file.name)
    system = read_pickle(raw, protocol.stop, where=file.name)
    if protocol.value != _STREAM_PROTOCOL or not _is_little(system.value):
        raise BadInput("of another protocol, or saved on a machine of the other byte order", where=file.name)
    saved = read_pickle(raw, system.stop, where=file.name)
    keys = read_pickle(raw, saved.stop, where=file.name)
    return state_dict(saved.value, where=file.name), _in_turn(file, saved, keys, partial=partial)


def _in_turn(file: Opened, saved: Pickled, keys: Pickled, *, partial: bool) -> Mapping[str, Extent]:
    """Return where the storages stand, which follow each other as `keys` has them."""
    extents: dict[str, Extent] = {}
    at = keys.stop
    value = keys.value
    for key in cast("list[object]", value) if isinstance(value, list) else ():
        storage = saved.storages.get(key) if isinstance(key, str) else None
        if storage is None or storage.key in extents:
            raise BadInput("a storage that no tensor has, or that is there twice", where=file.name)
        extents[storage.key] = _counted(file, storage, at, partial=partial)
        at = extents[storage.key].start + extents[storage.key].size
    return extents


def _is_little(system: object) -> bool:
    return isinstance(system, dict) and cast("dict[object, object]", system).get("little_endian") is True


def _counted(file: Opened, storage: StorageId, at: int, *, partial: bool) -> Extent:
    """Return where a storage stands that begins at `at` with its number of elements."""
    extent = Extent(at + _COUNT_BYTES, storage.length * ITEMS[storage.dtype])
    if extent.start > file.size or extent.start + extent.size > file.size:
        if partial:
            return extent
        raise BadInput("it ends within a storage", where=file.name)
    if int.from_bytes(file.read(at, _COUNT_BYTES), "little") != storage.length:
        raise BadInput(f"the storage {shown(storage.key)} is of another length than its tensors say", where=file.name)
    return extent


def _place(file: Opened, name: str, tensor: Strided, *, extent: Extent | None) -> Place:
    """Return where a tensor stands, whose elements must stand row by row."""
    where = f"{file.name}, tensor {shown(name)}"
    step = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if length > 1 and stride != step and 0 not in tensor.shape:
            raise BadInput("a view whose elements do not stand row by row (transposed?)", where=where)
        step *= max(length, 1)
    item, count = ITEMS[tensor.dtype], math.prod(tensor.shape)
    length = tensor.storage.length * ITEMS[tensor.storage.dtype]
    if extent is None or (tensor.offset + count) * item > length:
        raise BadInput("a tensor beyond its storage's end", where=where)
    start = extent.start + tensor.offset * item
    return Place(file, TensorInfo(tensor.dtype, tensor.shape), start, start + count * item)
