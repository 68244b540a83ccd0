"""Files as PyTorch writes them, made by hand: opcodes, a zip of stored entries, the older stream."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
MAGIC = bytes([0x8A, 10]) + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """LONG1, of any size."""
    raw = value.to_bytes(16, "little", signed=True)
    return bytes([0x8A, len(raw)]) + raw


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str = "0", length: int = 4, kind: bytes = FLOATS, view: bytes = b"") -> bytes:
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(length) + view + b"tQ"


def tensor(
    shape: tuple[int, ...] = (2, 2),
    strides: tuple[int, ...] = (2, 1),
    offset: int = 0,
    *,
    store: bytes | None = None,
) -> bytes:
    kept = storage() if store is None else store
    return REBUILD + b"(" + kept + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + b"}tR"


def members(values: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def program(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def zipped(entries: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    made = BytesIO()
    with zipfile.ZipFile(made, "w", method) as out:
        for name, blob in entries.items():
            out.writestr(f"archive/{name}", blob)
    return made.getvalue()


def checkpoint(value: bytes | None = None, storages: Mapping[str, bytes] | None = None, **others: bytes) -> bytes:
    """Return a zip file whose pickle is `value`: by default a state dict of one tensor."""
    data = {"0": np.arange(4, dtype="<f4").tobytes()} if storages is None else storages
    pickled = program(members({"a": tensor()}) if value is None else value)
    entries = {"data.pkl": pickled, "byteorder": b"little"}
    return zipped(entries | {f"data/{key}": blob for key, blob in data.items()} | others)


def stream(value: bytes | None = None, *, keys: tuple[str, ...] = ("0",), counts: tuple[int, ...] = (4,)) -> bytes:
    """Return a file of the older format, with as many float32 as `counts` say."""
    pickles = [MAGIC, number(1001), members({"little_endian": b"\x88"})]
    pickles += [members({"a": tensor()}) if value is None else value, b"](" + b"".join(map(text, keys)) + b"e"]
    blobs = [struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes() for count in counts]
    return b"".join(map(program, pickles)) + b"".join(blobs)


def written(path: Path, blob: bytes) -> Path:
    path.write_bytes(blob)
    return path
