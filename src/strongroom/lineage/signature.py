"""A checkpoint in half a megabyte: what a suspect is looked up by before any checkpoint is opened.

Digests of every tensor; embeddings of 256 tokens, at 256 coordinates and as the cosines between them, which no rotation
changes; sampled units of some layers at 128 coordinates; the spread of the units' lengths, which no shuffling changes.
Numbers are kept in 8 bits, each row with a scale of its own. It is enough to tell which checkpoints are worth opening,
and for the exact tests of order. It is a piece of the weights, and kept encrypted as they are.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from blake3 import blake3

from strongroom.core.canonical import Record
from strongroom.lineage.anatomy import Layer, gains, matrix, rows
from strongroom.lineage.model import Model
from strongroom.lineage.units import spread
from strongroom.ports.marks import Progress, TensorInfo, Tensors

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

FORMAT: Final = "strongroom/signature@1"
LIMIT: Final = 8 << 20
TOKENS: Final = 256
COORDINATES: Final = 256
LAYERS: Final = 6
UNITS: Final = 128
COLUMNS: Final = 128
_QUANTILES: Final = 33
_CHUNK: Final = 8 << 20
_FILLED: Final = 1024  # bytes
_ITEM: Final = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}

_Row = Annotated[tuple[int, ...], msgspec.Meta(max_length=1 << 16)]


class Small(Record, frozen=True):
    """A matrix in 8 bits: row i is `values` times `scales[i]` / 127."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    columns: Annotated[int, msgspec.Meta(ge=0, le=4096)]
    values: bytes  # int8, row-major
    scales: bytes  # little-endian float32


class LayerSketch(Record, frozen=True):
    """Sampled units of a layer, times their norm's gains."""

    number: int
    hidden: int
    gate: Small
    up: Small
    lengths: tuple[float, ...]  # quantiles of all units' gate lengths over their mean


class Signature(Record, frozen=True):
    """A checkpoint's signature."""

    format: Literal["strongroom/signature@1"]
    width: int
    vocabulary: int
    hidden: _Row  # of each layer
    digests: dict[str, str]  # BLAKE3 of a tensor's dtype, shape and bytes
    tokens: _Row  # numbers of the tokens below
    words: tuple[str, ...] | None  # and their strings
    embedding: Small  # (tokens, coordinates)
    cosines: Small  # (tokens, tokens), centred
    layers: tuple[LayerSketch, ...]


def sign(model: Model, *, progress: Progress | None = None) -> Signature:
    """Return the signature of a checkpoint; `progress` is told (bytes hashed, bytes in all).

    Raises:
        BadInput: its weights are no floats, or a file became shorter.

    """
    numbers = spread(model.vocabulary, TOKENS) if model.vocabulary else np.empty(0, np.int64)
    name = model.body.embedding
    some = np.zeros((0, model.body.width), np.float32) if name is None else rows(model.weights, name, numbers)
    return Signature(
        format=FORMAT,
        width=model.body.width,
        vocabulary=model.vocabulary,
        hidden=tuple(model.body.hidden(one, model.weights.infos()) for one in model.body.layers),
        digests=tensor_digests(model.weights, progress=progress),
        tokens=tuple(numbers.tolist()),
        words=_words(model, numbers),
        embedding=small(at_coordinates(some)),
        cosines=small(cosines(some)),
        layers=tuple(sketch(model, one) for one in _sampled_layers(model)),
    )


def tensor_digests(weights: Tensors, *, progress: Progress | None = None) -> dict[str, str]:
    """Return the BLAKE3 of every matrix: of its dtype, its shape and its bytes, so that it is the same in any file.

    Those are left out that begin with the same byte a thousand times: zeros are everybody's.
    """
    infos = weights.infos()
    sizes = {name: byte_size(info) for name, info in infos.items()}
    total, done, found = sum(sizes.values()), 0, dict[str, str]()
    buffer = memoryview(bytearray(min(_CHUNK, max(sizes.values(), default=0))))
    for name, info in infos.items():
        digest = _digest(weights, name, info, buffer=buffer) if len(info.shape) > 1 else None
        if digest is not None:
            found[name] = digest
        done += sizes[name]
        if progress:
            progress(done, total)
    return found


def _digest(weights: Tensors, name: str, info: TensorInfo, *, buffer: memoryview) -> str | None:
    """Return a tensor's digest, or None if it begins like one that was only filled."""
    item, size = _ITEM.get(info.dtype, 1), byte_size(info)
    hashed = blake3(f"{info.dtype}{list(info.shape)}".encode())
    for start in range(0, size, _CHUNK):
        piece = buffer[: min(_CHUNK, size - start)]
        weights.read_into(name, start // item, piece)
        if not start and len(set(piece[:_FILLED])) <= 1:
            return None
        hashed.update(piece)
    return hashed.hexdigest()


def byte_size(info: TensorInfo) -> int:
    """Return how many bytes a tensor has."""
    return int(np.prod(info.shape, dtype=np.int64)) * _ITEM.get(info.dtype, 1)


def sketch(model: Model, layer: Layer, *, columns: int = COLUMNS) -> LayerSketch:
    """Return a layer's sampled units, and the spread of all units' lengths."""
    gate, up = (_gained(model, layer, part) for part in ("gate", "up"))
    chosen, at = spread(len(gate), UNITS), spread(gate.shape[1], columns)
    length = np.linalg.norm(gate, axis=1)
    even = length / max(float(length.mean()), 1e-30)
    return LayerSketch(
        number=layer.number,
        hidden=len(gate),
        gate=small(gate[np.ix_(chosen, at)]),
        up=small(up[np.ix_(chosen, at)]),
        lengths=tuple(np.quantile(even, np.linspace(0, 1, _QUANTILES)).round(4).tolist()),
    )


def at_coordinates(some: F32) -> F32:
    """Return embeddings at the coordinates that signatures keep."""
    chosen = spread(some.shape[1], COORDINATES) if some.shape[1] else np.empty(0, np.int64)
    return some[:, chosen]


def cosines(some: F32) -> F32:
    """Return the cosines between centred embeddings (tokens, width): the same in any rotation of the stream."""
    centred: F32 = some - some.mean(axis=0) if len(some) else some
    length = np.linalg.norm(centred, axis=1)
    length[length == 0] = 1
    even = centred / length[:, None]
    return even @ even.T


def small(values: F32) -> Small:
    """Return a matrix in 8 bits."""
    scales = np.abs(values).max(axis=1, initial=0.0).astype("<f4") if values.size else np.zeros(len(values), "<f4")
    whole = np.rint(values / np.where(scales > 0, scales, 1)[:, None] * 127).astype(np.int8)
    return Small(rows=values.shape[0], columns=values.shape[1], values=whole.tobytes(), scales=scales.tobytes())


def large(kept: Small) -> F32:
    """Return what `small` kept."""
    values = np.frombuffer(kept.values, np.int8).reshape(kept.rows, kept.columns)
    scales: F32 = np.frombuffer(kept.scales, "<f4").astype(np.float32)
    return values.astype(np.float32) * scales[:, None] / np.float32(127)


def _gained(model: Model, layer: Layer, part: str) -> F32:
    values = matrix(model.weights, layer.parts[part])
    gain = gains(model.weights, layer["mlp_norm"], offsets=model.body.offsets)
    return values if gain is None or gain.shape != values.shape[1:] else values * gain


def _sampled_layers(model: Model) -> list[Layer]:
    layers = model.body.layers
    return [layers[at] for at in spread(len(layers), LAYERS).tolist()] if layers else []


def _words(model: Model, numbers: I64) -> tuple[str, ...] | None:
    if model.tokens is None or len(model.tokens) <= int(numbers.max(initial=-1)):
        return None
    return tuple(str(model.tokens[int(at)]) for at in numbers)
