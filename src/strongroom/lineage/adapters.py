"""Low-rank adapters (LoRA): which tensor each belongs to, by how much it counts, and a base with its adapter in it.

PEFT writes ``base_model.model.NAME.lora_A.weight`` (rank, in) and ``….lora_B.weight`` (out, rank); others write
``NAME.lora_down.weight`` and ``NAME.lora_up.weight``. What they stand for is scaling · B · A, added to NAME's weights
(Hu et al., arXiv 2106.09685). Adapters of embeddings, which PEFT keeps the other way round, are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage.elements import FLOATS, dtype_of, finite
from strongroom.ports.marks import TensorInfo, Tensors
from strongroom.ports.suspects import Storage, Suspect

F32 = npt.NDArray[np.float32]

_HALF: Final = re.compile(
    r"^(?:base_model\.model\.)?(?P<name>.+?)(?:\.base_layer)?\."
    r"(?:lora_(?P<half>[AB])(?:\.[\w-]+)?|lora_(?P<way>down|up))\.weight$"
)
_WRAPPED: Final = re.compile(r"^(?:base_model\.model\.)?(?P<name>.+?)(?:\.base_layer)?\.(?P<kind>weight|bias)$")
_FIRST: Final = {"A", "down"}
_RANK_LIMIT: Final = 1 << 14
_FACTOR_LIMIT: Final = 1 << 28  # elements of an A: it is held while the base is read
_ITEM: Final = 4  # bytes of a float32
_MATRIX: Final = 2


class OpenSuspect(Suspect, Protocol):
    """A suspect whose files are open."""

    def close(self) -> None:
        """Let go of the files."""
        ...


class _Config(Record, frozen=True, forbid_unknown_fields=False):
    lora_alpha: float
    r: int
    use_rslora: bool = False


def adapter_pairs(infos: Mapping[str, TensorInfo]) -> Mapping[str, tuple[str, str]]:
    """Return, by the name of the tensor that each changes, the names of an adapter's A (rank, in) and B (out, rank).

    Of several adapters of one tensor, it is the first that is whole.
    """
    halves: dict[str, tuple[list[str], list[str]]] = {}
    for name, info in infos.items():
        match = _HALF.match(name)
        if match and len(info.shape) == _MATRIX and info.dtype in FLOATS:
            pair = halves.setdefault(f"{match['name']}.weight", ([], []))
            pair[(match["half"] or match["way"]) not in _FIRST].append(name)
    found: dict[str, tuple[str, str]] = {}
    for base, (downs, ups) in halves.items():
        for down, up in zip(downs, ups, strict=False):
            if infos[down].shape[0] == infos[up].shape[1] > 0:
                found.setdefault(base, (down, up))
    return found


def scaling_of(infos: Mapping[str, TensorInfo], config: bytes | None) -> float:
    """Return by how much an adapter's product counts, by its ``adapter_config.json``; 1 if it doesn't say, or lies."""
    if config is None or not adapter_pairs(infos):
        return 1.0
    try:
        read = msgspec.json.decode(config, type=_Config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 1.0
    if not 0 < read.r <= _RANK_LIMIT or not math.isfinite(read.lora_alpha):
        return 1.0
    return read.lora_alpha / (math.sqrt(read.r) if read.use_rslora else read.r)


def merged(suspect: OpenSuspect) -> OpenSuspect:
    """Return a suspect with its adapter in it if it holds both base and adapter, else as it is."""
    infos = suspect.infos()
    own = _own_names(infos)
    pairs = {base: pair for base, pair in adapter_pairs(infos).items() if _fits(base, pair, own=own, infos=infos)}
    return WithAdapter(suspect, pairs) if pairs else suspect


class WithAdapter:
    """A base that has an adapter beside it: what it would be with the adapter merged (`ports.suspects.Suspect`).

    What the adapter changes is float32, base + scaling · B · A; all else, and how it is stored, is the base's.
    """

    def __init__(self, inner: OpenSuspect, pairs: Mapping[str, tuple[str, str]]) -> None:
        """Put `pairs`, of `adapter_pairs`, into the tensors of `inner`, which is closed with this."""
        self._inner, self._pairs = inner, pairs
        theirs = inner.infos()
        halves = {half for pair in pairs.values() for half in pair}
        self._names = {name: own for name, own in _own_names(theirs).items() if own not in halves}
        self._infos = {
            name: TensorInfo("F32", theirs[own].shape) if name in pairs else theirs[own]
            for name, own in self._names.items()
        }
        self._scaling = np.float32(inner.storage().scaling)
        self._held: tuple[str, F32] | None = None  # the A that was used last

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape, under the base's names."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on, the adapter in them.

        Raises:
            BadInput: there is no such tensor, it has no such elements, or the file became shorter.
            InputTooLarge: the adapter's A has over 2^28 elements.

        """
        own = self._names.get(name)
        if own is None:
            raise BadInput("no such tensor in the suspect", where=name[:200])
        if name not in self._pairs:
            self._inner.read_into(own, first, buffer)
            return
        if buffer.nbytes % _ITEM:
            raise BadInput("no whole elements", where=name[:200])
        values = _elements(self._inner, own, first, count=buffer.nbytes // _ITEM)
        values += self._product(name, first, len(values))
        buffer.cast("B")[:] = values.astype("<f4", copy=False).view(np.uint8).data

    def tokens(self) -> Sequence[str] | None:
        """Return its vocabulary."""
        return self._inner.tokens()

    def storage(self) -> Storage:
        """Return how the base is stored."""
        found = self._inner.storage()
        return replace(found, kinds={name: found.kinds[own] for name, own in self._names.items()})

    def close(self) -> None:
        """Let go of the files."""
        self._inner.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()

    def _product(self, name: str, first: int, count: int) -> F32:
        """Return `count` elements of scaling · B · A from element `first` on."""
        down, up = self._pairs[name]
        factor = self._factor(down)
        rank, width = factor.shape
        start, stop = first // width, -(-(first + count) // width)
        rows = _elements(self._inner, up, start * rank, count=(stop - start) * rank).reshape(-1, rank)
        with np.errstate(all="ignore"):  # hostile factors overflow: to what they say
            product: F32 = np.matmul(rows, factor) * self._scaling
        return product.reshape(-1)[first - start * width :][:count]

    def _factor(self, down: str) -> F32:
        if self._held is None or self._held[0] != down:
            rank, width = self._inner.infos()[down].shape
            if rank * width > _FACTOR_LIMIT:
                raise InputTooLarge(f"an adapter of {rank} times {width} elements", where=down[:200])
            self._held = down, _elements(self._inner, down, 0, count=rank * width).reshape(rank, width)
        return self._held[1]


def _own_names(infos: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Return the tensors' names without what PEFT puts around those of a base, each with its name in the file."""
    own: dict[str, str] = {}
    for name in infos:
        match = None if _HALF.match(name) else _WRAPPED.match(name)
        plain = f"{match['name']}.{match['kind']}" if match else name
        own[name if plain in infos or plain in own else plain] = name
    return own


def _fits(base: str, pair: tuple[str, str], *, own: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> bool:
    """Say whether the base is there, as floats of the shape of B · A."""
    info = infos.get(own.get(base, ""))
    if info is None or info.dtype not in FLOATS:
        return False
    down, up = (infos[name].shape for name in pair)
    return info.shape == (up[0], down[1]) and min(info.shape) > 0


def _elements(weights: Tensors, name: str, first: int, *, count: int) -> F32:
    """Return some elements as float32; what is not finite is zero."""
    dtype = dtype_of(weights.infos()[name].dtype, where=f"tensor {name[:200]!r}")
    raw = bytearray(count * dtype.itemsize)
    weights.read_into(name, first, memoryview(raw))
    return finite(np.frombuffer(raw, dtype))
