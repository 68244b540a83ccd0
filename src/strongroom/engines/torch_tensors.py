"""Torch tensors over memory that somebody else decrypted, without a copy of the weights."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from strongroom.core.errors import BadInput, MissingExtra

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

# The names are those of the safetensors format. Its types under one byte (F4, F6_*) have no plain torch counterpart.
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "U16": torch.uint16,
    "I16": torch.int16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
}
# numpy spells out what torch abbreviates differently; bfloat16 and the float8s are ml_dtypes' names
_FROM_NUMPY = {"bool": "BOOL", "complex64": "C64"} | {
    str(dtype).removeprefix("torch."): name for name, dtype in DTYPES.items() if name not in {"BOOL", "C64"}
}


def make_tensor(memory: memoryview, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Return a tensor of safetensors type `dtype` over `memory`, which it shares and keeps alive.

    Memory that is read-only or badly aligned for its type is copied: torch has no read-only tensors.

    Raises:
        BadInput: the type is unknown, or the memory is not as long as type and shape ask.

    """
    kind = DTYPES.get(dtype)
    if kind is None:
        raise BadInput(f"tensors of type {dtype[:20]} can't be run", where="tensor")
    if memory.nbytes != math.prod(shape) * kind.itemsize:
        raise BadInput(f"{memory.nbytes} bytes are not a tensor of type {dtype} and shape {shape}", where="tensor")
    if memory.nbytes == 0:
        return torch.empty(shape, dtype=kind)
    writable = bytearray(memory) if memory.readonly else memory
    address = np.frombuffer(writable, dtype=np.uint8).ctypes.data
    aligned = writable if address % kind.itemsize == 0 else bytearray(writable)
    return torch.frombuffer(aligned, dtype=kind).reshape(shape)


def as_tensor(value: object, *, where: str) -> torch.Tensor:
    """Return what a weight source gave as a torch tensor: one already, or a numpy array whose memory is shared.

    Raises:
        BadInput: it is neither, or of a type that torch lacks.

    """
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, np.ndarray):
        raise BadInput(f"a tensor came as {type(value).__name__}", where=where)
    given = cast("np.ndarray[tuple[int, ...], np.dtype[np.generic]]", value)
    array = np.ascontiguousarray(given)  # turns a scalar into one row
    name = _FROM_NUMPY.get(str(array.dtype), str(array.dtype))
    return make_tensor(array.reshape(-1).view(np.uint8).data, name, given.shape)
