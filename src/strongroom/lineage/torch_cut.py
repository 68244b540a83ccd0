"""A PyTorch zip file whose end is missing, and with it its directory: a part of a shard, read from its beginning.

PyTorch writes the pickle first, then the storages, and each entry's size after it. But the pickle says how long every
storage is: so one entry leads to the next, as far as the file goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage.files import Opened
from strongroom.lineage.opcodes import PICKLE_LIMIT, Pickled, read_pickle
from strongroom.lineage.state_dict import ITEMS
from strongroom.lineage.torch_zip import ENTRIES_LIMIT, MAGIC, Extent, check_order, local_entry

_GAP: Final = 64  # bytes from an entry's end to the next header: sizes, and the few letters of an entry like "version"


def cut_entries(file: Opened) -> tuple[Pickled, Mapping[str, Extent]]:
    """Return the pickle, and where each storage stands, by its key; one that is missing stands beyond the file's end.

    Raises:
        BadInput: it does not begin as PyTorch's files do, not even the pickle is whole, or the byte order is another.
        InputTooLarge: over 131,072 entries.

    """
    name, start = local_entry(file, 0) or ("", 0)
    if not name.endswith("/data.pkl"):
        raise BadInput("a zip file that is cut off, and does not begin with PyTorch's data.pkl", where=file.name)
    root = name.removesuffix("data.pkl")
    read = read_pickle(file.read(start, min(file.size - start, PICKLE_LIMIT)), where=file.name)
    sizes = {key: one.length * ITEMS[one.dtype] for key, one in read.storages.items()}
    found = {key: Extent(file.size, size) for key, size in sizes.items()}
    stop = start + read.stop
    for _ in range(ENTRIES_LIMIT):
        entry = _next(file, stop)
        if entry is None:
            return read, found
        name, start = entry
        if name == f"{root}byteorder":
            check_order(file, start, _GAP)
        key = name.removeprefix(f"{root}data/")
        stop = start + (sizes.get(key, 0) if key != name else 0)
        if key in found and key != name:
            found[key] = Extent(start, sizes[key])
    raise InputTooLarge(f"over {ENTRIES_LIMIT} entries", where=file.name)


def _next(file: Opened, stop: int) -> tuple[str, int] | None:
    """Return name and start of the first entry after `stop`."""
    near = file.read(stop, min(_GAP + len(MAGIC), max(file.size - stop, 0)))
    at = near.find(MAGIC)
    return None if at < 0 else local_entry(file, stop + at)
