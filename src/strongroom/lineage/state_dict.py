"""What a pickled state dict is made of: tensors by name, each a view of a storage that is elsewhere in the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from strongroom.core.errors import BadInput

SIZE_LIMIT: Final = 1 << 62  # elements
_DEPTH: Final = 4  # of dicts around a state dict
_WRAPPERS: Final = ("state_dict", "model", "model_state_dict", "module")
_CALLABLE: Final = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.Size",
    "torch.device",
}
DTYPES: Final[Mapping[str, str]] = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int64": "I64", "long": "I64",
    "int32": "I32", "int": "I32", "int16": "I16", "short": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
    "complex64": "C64",
}  # fmt: skip
"""Safetensors' words for dtypes, by the names that PyTorch has for them."""
STORAGES: Final[Mapping[str, str]] = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64", "UntypedStorage": "U8",
}  # fmt: skip
"""The same by PyTorch's names of storages; one without a type is of bytes."""
ITEMS: Final[Mapping[str, int]] = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip
"""The bytes of an element, by safetensors' words for the dtypes that PyTorch's storages have."""


@dataclass(frozen=True, slots=True)
class StorageId:
    """A storage as a pickle refers to it: it is elsewhere in the file, under a key."""

    key: str
    dtype: str  # safetensors' word
    length: int  # elements


@dataclass(frozen=True, slots=True)
class Strided:
    """A tensor: some elements of a storage."""

    storage: StorageId
    dtype: str
    offset: int  # elements of its dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def state_dict(value: object, *, where: str) -> Mapping[str, Strided]:
    """Return the tensors of a pickled state dict, in its order, out of what is around it in a training checkpoint.

    Of several dicts with tensors, one in the other, it is the largest.

    Raises:
        BadInput: there are none.

    """
    best: dict[str, Strided] = {}
    for _ in range(_DEPTH):
        if not isinstance(value, dict):
            break
        members = cast("dict[object, object]", value)
        found = {key: one for key, one in members.items() if isinstance(key, str) and isinstance(one, Strided)}
        best = max(best, found, key=len)
        value = next((members[key] for key in _WRAPPERS if isinstance(members.get(key), dict)), None)
    if not best:
        raise BadInput("no state dict: a pickle without tensors by name", where=where)
    return best


def is_known(name: str) -> bool:
    """Say whether a state dict may name this."""
    module, _, word = name.rpartition(".")
    if module in {"torch", "torch.storage"} and word in STORAGES:
        return True
    return name in _CALLABLE or (module == "torch" and word in DTYPES)


def shown(name: str) -> str:
    """Return a name from a stranger, fit to be printed."""
    return ascii(name[:100])[1:-1]
