"""What a pickled state dict says, read without running it: a small machine that knows tensors and nothing else.

A pickle is a program that can call anything. The standard library's ``pickletools`` only spells its opcodes out; what
few of them a state dict needs are followed here, and what they would call is looked up in a short table. Every other
name (``os.system``) is reported. Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage.state_dict import DTYPES, ITEMS, SIZE_LIMIT, STORAGES, StorageId, Strided, is_known, shown

PICKLE_LIMIT: Final = 1 << 25  # bytes
_OPCODES_LIMIT: Final = 2_000_000  # a tensor takes about 40
_DIMENSIONS_LIMIT: Final = 64


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a pickle said."""

    value: object  # of plain values and `Strided`
    stop: int  # where it ends
    storages: Mapping[str, StorageId]  # all that it refers to, by key


@dataclass(frozen=True, slots=True)
class _Name:
    """A class or function that a pickle names: known, and never called."""

    name: str


class _Mark:
    """Where on the stack a tuple, list or dict begins."""


_MARK: Final = _Mark()
_Value = object


def read_pickle(raw: bytes, start: int = 0, *, where: str) -> Pickled:
    """Return what the pickle from byte `start` on says.

    Raises:
        BadInput: no whole pickle, or one that names, calls or makes anything that no state dict needs.
        InputTooLarge: over two million opcodes.

    """
    stream = io.BytesIO(raw)
    stream.seek(start)
    machine = _Machine(where)
    try:
        for count, (opcode, argument) in enumerate(_opcodes(stream)):
            if count >= _OPCODES_LIMIT:
                raise InputTooLarge(f"a pickle of over {_OPCODES_LIMIT} opcodes", where=where)
            machine.step(opcode, argument)
    except (ValueError, OverflowError) as error:  # genops: an unknown opcode, or an argument that is cut off
        raise BadInput(f"no whole pickle ({type(error).__name__})", where=where) from None
    return Pickled(machine.result(), stream.tell(), machine.storages)


def _opcodes(stream: io.BytesIO) -> Iterator[tuple[str, object]]:
    """Yield names and arguments. An odd escape in a string is the file's fault, and no warning of ours."""
    following = pickletools.genops(stream)
    while True:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            step = next(following, None)
        if step is None:
            return
        yield step[0].name, step[1]


class _Machine:
    """The stack and the memo of a pickle that is being read."""

    def __init__(self, where: str) -> None:
        self.storages: dict[str, StorageId] = {}
        self._where = where
        self._stack: list[_Value] = []
        self._memo: dict[int, _Value] = {}

    def step(self, opcode: str, argument: object) -> None:
        """Follow one opcode."""
        if opcode in _CONSTANTS:
            self._stack.append(argument)
        elif opcode in _FRESH:
            self._stack.append(_FRESH[opcode]())
        elif opcode in _SHORT_TUPLES:
            items = [self._pop() for _ in range(_SHORT_TUPLES[opcode])]
            self._stack.append(tuple(reversed(items)))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in _IDLE:
            said = f" ({shown(argument)})" if isinstance(argument, str) else ""
            raise self._bad(f"a pickle that makes objects, by {opcode}{said}: it was not run")

    def result(self) -> object:
        """Return what is left on the stack, which must be one value."""
        value = self._pop()
        if self._stack:
            raise self._bad("a pickle that leaves a rest")
        return value

    def put(self, argument: object) -> None:
        """Remember what is on the top."""
        key = argument if isinstance(argument, int) else len(self._memo)
        self._memo[key] = self._top()

    def get(self, argument: object) -> None:
        """Push what was remembered."""
        if argument not in self._memo:
            raise self._bad("a pickle that recalls what it never kept")
        self._stack.append(self._memo[cast("int", argument)])

    def pop(self, _argument: object) -> None:
        """Drop the top, a mark or a value."""
        if not self._stack:
            raise self._bad("a pickle that takes from an empty stack")
        self._stack.pop()

    def pop_mark(self, _argument: object) -> None:
        """Drop what is above the last mark."""
        self._above()

    def duplicate(self, _argument: object) -> None:
        """Push the top again."""
        self._stack.append(self._top())

    def make_tuple(self, _argument: object) -> None:
        """Make a tuple of what is above the mark."""
        self._stack.append(tuple(self._above()))

    def make_list(self, _argument: object) -> None:
        """Make a list of what is above the mark."""
        self._stack.append(self._above())

    def make_dict(self, _argument: object) -> None:
        """Make a dict of what is above the mark."""
        items = self._above()
        self._stack.append({})
        self._set(items)

    def append(self, _argument: object) -> None:
        """Append one value to a list."""
        self._extend([self._pop()])

    def appends(self, _argument: object) -> None:
        """Append what is above the mark to a list."""
        self._extend(self._above())

    def set_item(self, _argument: object) -> None:
        """Put one member into a dict."""
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def set_items(self, _argument: object) -> None:
        """Put what is above the mark into a dict."""
        self._set(self._above())

    def build(self, _argument: object) -> None:
        """Pass over an object's own state: the versions of modules that a state dict carries."""
        self._pop()
        if not isinstance(self._top(), dict | Strided):
            raise self._bad("a pickle that fills an object of its own")

    def name(self, argument: object) -> None:
        """Push a class or function, by "module name"."""
        name = cast("str", argument).replace(" ", ".")
        if not is_known(name):
            raise self._bad(f"a pickle that would call {shown(name)}: it was not run")
        self._stack.append(_Name(name))

    def stack_name(self, _argument: object) -> None:
        """Do the same for module and name on the stack."""
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self._bad("a pickle that names what is no name")
        self.name(f"{module} {name}")

    def persistent(self, _argument: object) -> None:
        """Push the storage that the top refers to."""
        match self._pop():
            case ("storage", _Name(name), str(key), str(), int(length)) | (
                "storage", _Name(name), str(key), str(), int(length), None,
            ) if 0 <= length < SIZE_LIMIT:  # fmt: skip
                self._stack.append(self._storage(key, name.rpartition(".")[2], length))
            case _:
                raise self._bad("a reference to what is no storage")

    def _storage(self, key: str, kind: str, length: int) -> StorageId:
        if kind not in STORAGES:
            raise self._bad("a reference to what is no storage")
        found = StorageId(key, STORAGES[kind], length)
        if self.storages.setdefault(key, found) != found:
            raise self._bad("one storage of two types or lengths")
        return found

    def reduce(self, _argument: object) -> None:
        """Push what a known function would return."""
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise self._bad("a pickle that calls what is no function")
        self._stack.append(self._call(function.name, cast("tuple[object, ...]", arguments)))

    def _call(self, name: str, arguments: tuple[object, ...]) -> object:
        match name, arguments:
            case ("collections.OrderedDict", ()):
                return {}
            case (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                (Strided() as one, *_),
            ):
                return one
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (StorageId() as storage, offset, shape, strides, *_),
            ):
                return self._tensor(storage, storage.dtype, (offset, shape, strides))
            case (
                "torch._utils._rebuild_tensor_v3",
                (StorageId() as storage, offset, shape, strides, _, _, _Name(word), *_),
            ):
                return self._tensor(storage, DTYPES.get(word.removeprefix("torch."), ""), (offset, shape, strides))
            case ("torch.Size", (shape,)) if isinstance(shape, tuple):
                return self._sizes(cast("object", shape))
            case ("torch.device", _):
                return None
            case _:
                raise self._bad(f"a call of {name} that fits no state dict")

    def _tensor(self, storage: StorageId, dtype: str, place: tuple[object, object, object]) -> Strided:
        offset, shape, strides = place
        lengths, steps = self._sizes(shape), self._sizes(strides)
        if not isinstance(offset, int) or not 0 <= offset < SIZE_LIMIT or len(lengths) != len(steps):
            raise self._bad("a tensor that fits no storage")
        if dtype not in ITEMS:
            raise self._bad("a tensor of a dtype that is no word of PyTorch's")
        return Strided(storage, dtype, offset, lengths, steps)

    def _sizes(self, given: object) -> tuple[int, ...]:
        sizes = cast("tuple[object, ...]", given) if isinstance(given, tuple) else None
        if sizes is None or len(sizes) > _DIMENSIONS_LIMIT:
            raise self._bad("a tensor's shape that is none")
        for size in sizes:
            if type(size) is not int or not 0 <= size < SIZE_LIMIT:
                raise self._bad("a tensor's shape that is none")
        return cast("tuple[int, ...]", sizes)

    def _set(self, items: list[_Value]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2:
            raise self._bad("a pickle that puts members into what has none")
        members = cast("dict[object, object]", target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, str | int):  # a tuple of tuples of tuples takes for ever to hash
                members[key] = value

    def _extend(self, items: list[_Value]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise self._bad("a pickle that appends to what is no list")
        cast("list[object]", target).extend(items)

    def _above(self) -> list[_Value]:
        """Take what is above the last mark, and the mark."""
        items: list[_Value] = []
        while self._stack:
            item = self._stack.pop()
            if item is _MARK:
                return items[::-1]
            items.append(item)
        raise self._bad("a pickle that lacks a mark")

    def _pop(self) -> _Value:
        value = self._top()
        self._stack.pop()
        return value

    def _top(self) -> _Value:
        if not self._stack or self._stack[-1] is _MARK:
            raise self._bad("a pickle that takes from an empty stack")
        return self._stack[-1]

    def _bad(self, message: str) -> BadInput:
        return BadInput(message, where=self._where)


_CONSTANTS: Final = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
_FRESH: Final[Mapping[str, Callable[[], object]]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_SHORT_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IDLE: Final = {"PROTO", "FRAME", "STOP"}
_STEPS: Final[Mapping[str, Callable[[_Machine, object], None]]] = {
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.put,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    "TUPLE": _Machine.make_tuple,
    "LIST": _Machine.make_list,
    "DICT": _Machine.make_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BUILD": _Machine.build,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
}
