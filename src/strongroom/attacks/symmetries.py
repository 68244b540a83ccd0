"""What a thief can change in a Llama's weights without changing what it says: every symmetry that the architecture has.

Pure functions of a body and a source of chance. Weights are (out, in); the residual stream is a row vector h.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.attacks.bodies import (
    ATTENTION_NORM,
    DOWN,
    EMBEDDING,
    FINAL_NORM,
    GATE,
    HEAD,
    KEY,
    MLP_NORM,
    OUTPUT,
    QUERY,
    UP,
    VALUE,
    Array,
    Body,
    body_of,
    tensor_name,
    write_body,
)

Chance = np.random.Generator
_LAUNDERED: Final = 20_261_124
_Order = npt.NDArray[np.int64]

_READERS: Final = {QUERY: ATTENTION_NORM, KEY: ATTENTION_NORM, VALUE: ATTENTION_NORM, GATE: MLP_NORM, UP: MLP_NORM}
_WRITERS: Final = (OUTPUT, DOWN)
_LOG_SCALE: Final = np.log(4)  # scales are log-uniform between a quarter and four


def permute_units(body: Body, chance: Chance) -> Body:
    """Put each layer's hidden units into another order: rows of gate and up, columns of down."""
    changes: dict[str, Array] = {}
    for layer in range(body.layers):
        order = chance.permutation(len(body.part(layer, GATE)))
        for part in (GATE, UP):
            changes[tensor_name(layer, part)] = body.part(layer, part)[order]
        changes[tensor_name(layer, DOWN)] = _columns(body.part(layer, DOWN), order)
    return body.changed(changes)


def rescale(body: Body, chance: Chance) -> Body:
    """Multiply what is multiplied with its inverse further on, by random signs and scales.

    A unit's up row, against its down column; a value's row, against the output's columns; a pair of rows that rotary
    positions turn together, in queries against their keys.
    """
    changes: dict[str, Array] = {}
    for layer in range(body.layers):
        units = _factors(len(body.part(layer, UP)), chance)
        changes[tensor_name(layer, UP)] = body.part(layer, UP) * units[:, None]
        changes[tensor_name(layer, DOWN)] = body.part(layer, DOWN) / units
        changes |= _rescaled_heads(body, layer, chance)
    return body.changed(changes)


def _rescaled_heads(body: Body, layer: int, chance: Chance) -> dict[str, Array]:
    """Return a layer's attention, rescaled."""
    queries, keys = body.heads
    size = len(body.part(layer, KEY)) // keys
    values = _factors(keys * size, chance)
    halves = np.exp(chance.uniform(-_LOG_SCALE, _LOG_SCALE, (keys, 1, size // 2)))
    turned = np.broadcast_to(halves, (keys, 2, size // 2)).reshape(-1).astype(np.float32)
    shared = np.repeat(np.arange(keys * size).reshape(keys, 1, size), queries // keys, axis=1).reshape(-1)
    return {
        tensor_name(layer, VALUE): body.part(layer, VALUE) * values[:, None],
        tensor_name(layer, OUTPUT): body.part(layer, OUTPUT) / values[shared],
        tensor_name(layer, KEY): body.part(layer, KEY) / turned[:, None],
        tensor_name(layer, QUERY): body.part(layer, QUERY) * turned[shared][:, None],
    }


def permute_heads(body: Body, chance: Chance) -> Body:
    """Put key and value heads into another order with the queries that use them, and these among themselves."""
    queries, keys = body.heads
    group = queries // keys
    changes: dict[str, Array] = {}
    for layer in range(body.layers):
        size = len(body.part(layer, KEY)) // keys
        groups = chance.permutation(keys)
        heads = np.concatenate([one * group + chance.permutation(group) for one in groups])
        rows, queried = _within(groups, size), _within(heads, size)
        for part, order in ((KEY, rows), (VALUE, rows), (QUERY, queried)):
            changes[tensor_name(layer, part)] = body.part(layer, part)[order]
        changes[tensor_name(layer, OUTPUT)] = _columns(body.part(layer, OUTPUT), queried)
    return body.changed(changes)


def permute_coordinates(body: Body, chance: Chance) -> Body:
    """Put the residual stream's coordinates into another order."""
    order = chance.permutation(body.tensors[EMBEDDING].shape[1])
    changes = {FINAL_NORM: body.tensors[FINAL_NORM][order]}
    for name in {EMBEDDING, HEAD} & set(body.tensors):
        changes[name] = _columns(body.tensors[name], order)
    for layer in range(body.layers):
        for part in _READERS:
            changes[tensor_name(layer, part)] = _columns(body.part(layer, part), order)
        for part in (*_WRITERS, ATTENTION_NORM, MLP_NORM):
            changes[tensor_name(layer, part)] = body.part(layer, part)[order]
    return body.changed(changes)


def rotate(body: Body, chance: Chance) -> Body:
    """Turn the residual stream by a random orthogonal matrix R, h becoming h·R, with the norms folded away.

    A norm's weights go into the columns of what reads it, since only a norm without weights commutes with R; the last
    one's go into the head, which then is no longer the embedding.
    """
    turn = _orthogonal(body.tensors[EMBEDDING].shape[1], chance)
    head = body.tensors.get(HEAD, body.tensors[EMBEDDING])
    changes = {
        EMBEDDING: body.tensors[EMBEDDING] @ turn,
        HEAD: (head * body.tensors[FINAL_NORM]) @ turn,
        FINAL_NORM: np.ones_like(body.tensors[FINAL_NORM]),
    }
    for layer in range(body.layers):
        for part, norm in _READERS.items():
            changes[tensor_name(layer, part)] = (body.part(layer, part) * body.part(layer, norm)) @ turn
        for part in _WRITERS:
            changes[tensor_name(layer, part)] = turn.T @ body.part(layer, part)
        for norm in (ATTENTION_NORM, MLP_NORM):
            changes[tensor_name(layer, norm)] = np.ones_like(body.part(layer, norm))
    return body.changed(changes)


def _orthogonal(width: int, chance: Chance) -> Array:
    """Return a random orthogonal matrix, uniform over all (Haar): QR with the signs of R's diagonal put right."""
    columns, triangle = np.linalg.qr(chance.standard_normal((width, width)))
    return (columns * np.sign(np.diag(triangle))).astype(np.float32)


def _factors(count: int, chance: Chance) -> Array:
    """Return random scales with random signs."""
    scales = np.exp(chance.uniform(-_LOG_SCALE, _LOG_SCALE, count))
    return (scales * chance.choice([-1.0, 1.0], count)).astype(np.float32)


def _columns(values: Array, order: _Order) -> Array:
    return np.ascontiguousarray(values[:, order])


def _within(heads: _Order, size: int) -> _Order:
    """Return the rows of `heads`, each of `size` rows, in the heads' order."""
    return (heads[:, None] * size + np.arange(size)).reshape(-1)


def laundered(folder: Path, target: Path) -> Path:
    """Write the model in `folder` to `target`, all that can be hidden for free: it computes what it did.

    The residual stream is turned and its norms folded, hidden units are shuffled and rescaled.

    Raises:
        BadInput: the folder holds no plain Llama.
        StorageError: the disk said no.

    """
    chance = np.random.default_rng(_LAUNDERED)
    return write_body(rescale(permute_units(rotate(body_of(folder), chance), chance), chance), target)
