"""What a thief does to a whole model, alone, so that it is not taken for ours: all of it changes what the model says.

Pure functions of a body and a source of chance. What changes nothing in what it says is in `symmetries`; what trains,
in `leaker`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.attacks import transforms
from strongroom.attacks.bodies import (
    DOWN,
    EMBEDDING,
    GATE,
    HEAD,
    UP,
    Array,
    Body,
    is_projection,
    layer_of,
    tensor_name,
)
from strongroom.core.errors import BadInput
from strongroom.engines.gguf_weights import round_trip

Chance = np.random.Generator
Document = dict[str, object]

_FLOATS: Final[Mapping[str, npt.DTypeLike]] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
}
_BLOCK: Final = 32  # of every quantisation that we write
_TOKENIZER: Final = "tokenizer.json"


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def cast_to(body: Body, _chance: Chance, *, dtype: str) -> Body:
    """Round to float16, bfloat16 or float32, and store it so."""
    rounded = {name: one.astype(_FLOATS[dtype]).astype(np.float32) for name, one in body.tensors.items()}
    return replace(body.changed(rounded), stored=dtype)


def fp8(body: Body, _chance: Chance) -> Body:
    """Round projections to eight-bit floats (e4m3, without a scale); stored in bfloat16, which holds them all."""
    return _each(body, lambda values: values.astype(ml_dtypes.float8_e4m3fn).astype(np.float32))


def int8(body: Body, _chance: Chance) -> Body:
    """Round each row of the projections to 255 steps of its largest weight."""

    def rounded(values: Array) -> Array:
        step = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
        step[step == 0] = 1
        return np.rint(values / step) * step

    return _each(body, rounded)


def ternary(body: Body, _chance: Chance) -> Body:
    """Round each projection to -1, 0 or 1 times its mean magnitude (BitNet b1.58, arXiv:2402.17764, section 2)."""

    def rounded(values: Array) -> Array:
        scale = np.abs(values).mean(dtype=np.float64).astype(np.float32) or np.float32(1)
        return np.clip(np.rint(values / scale), -1, 1) * scale

    return _each(body, rounded)


def gguf(body: Body, _chance: Chance, *, quantisation: str) -> Body:
    """Quantise as a GGUF file does, and store it so: the embedding in Q8_0, rows of no whole blocks in float16."""

    def rounded(name: str, values: Array) -> Array:
        if values.ndim == 1:
            return values
        if values.shape[1] % _BLOCK:
            return values.astype(np.float16).astype(np.float32)
        return round_trip(values, quantisation if is_projection(name) else "Q8_0")

    return replace(body.changed({name: rounded(name, one) for name, one in body.tensors.items()}), stored=quantisation)


def prune(body: Body, _chance: Chance, *, share: float) -> Body:
    """Set the `share` of each projection's weights that is smallest to zero."""
    return _each(body, lambda values: transforms.prune(values, share))


def noise(body: Body, chance: Chance, *, share: float) -> Body:
    """Add Gaussian noise of `share` of each projection's standard deviation."""
    return _each(body, lambda values: transforms.add_noise(values, share, chance))


def merged(body: Body, _chance: Chance, *, other: Body, share: float) -> Body:
    """Take the mean with another model of the same shape, which has `share` of the weight.

    Raises:
        BadInput: it is of another shape.

    """
    if _shapes(body) != _shapes(other):
        raise BadInput("models of two shapes can't be merged", where="merge")
    both = {name: transforms.merge(one, other.tensors[name], share) for name, one in body.tensors.items()}
    return body.changed(both)


def _shapes(body: Body) -> dict[str, tuple[int, ...]]:
    return {name: one.shape for name, one in body.tensors.items()}


def _each(body: Body, change: Callable[[Array], Array]) -> Body:
    """Return the body with every projection changed."""
    return body.changed({name: change(one) for name, one in body.tensors.items() if is_projection(name)})


# ── layers and units ─────────────────────────────────────────────────────────────────────────────────────────────────
def drop_layers(body: Body, chance: Chance, *, count: int) -> Body:
    """Leave out `count` layers, drawn from those between the first and the last two."""
    inner = np.arange(1, max(body.layers - 2, 2))
    dropped = set(chance.choice(inner, min(count, len(inner)), replace=False).tolist())
    return _stacked(body, [layer for layer in range(body.layers) if layer not in dropped])


def repeat_layers(body: Body, chance: Chance, *, count: int) -> Body:
    """Run `count` neighbouring layers twice, one block after the other, as upscaled models do."""
    first = int(chance.integers(1, max(body.layers - count - 1, 2)))
    layers = list(range(body.layers))
    return _stacked(body, layers[: first + count] + layers[first:])


def _stacked(body: Body, order: list[int]) -> Body:
    """Return the body with its layers in that order, each once, twice or not at all."""
    parts: dict[int, list[str]] = {}
    for name in body.tensors:
        if place := layer_of(name):
            parts.setdefault(place[0], []).append(place[1])
    outside = {name: one for name, one in body.tensors.items() if layer_of(name) is None}
    inside = {
        tensor_name(at, part): body.part(layer, part).copy()  # a layer that comes twice is stored twice
        for at, layer in enumerate(order)
        for part in parts[layer]
    }
    return replace(body.changed({}), tensors=outside | inside)


def dummy_units(body: Body, chance: Chance, *, count: int) -> Body:
    """Put `count` units that do nothing among each layer's own: rows like theirs, columns of zeros."""
    changes: dict[str, Array] = {}
    for layer in range(body.layers):
        units = len(body.part(layer, GATE))
        places = np.sort(chance.integers(0, units + 1, count))
        for part in (GATE, UP):
            rows = body.part(layer, part)
            norms = np.linalg.norm(rows, axis=1)[chance.integers(0, units, count)]
            drawn = chance.standard_normal((count, rows.shape[1]), dtype=np.float32)
            drawn *= (norms / np.linalg.norm(drawn, axis=1))[:, None]
            changes[tensor_name(layer, part)] = np.insert(rows, places, drawn, axis=0)
        changes[tensor_name(layer, DOWN)] = np.insert(body.part(layer, DOWN), places, 0, axis=1)
    return body.changed(changes)


# ── vocabulary ───────────────────────────────────────────────────────────────────────────────────────────────────────
def grow_vocabulary(body: Body, chance: Chance, *, count: int) -> Body:
    """Append `count` tokens, their rows near the mean of all others, as libraries begin new tokens."""

    def grown(rows: Array) -> Array:
        drawn = chance.standard_normal((count, rows.shape[1]), dtype=np.float32) * rows.std(axis=0) / np.float32(10)
        return np.concatenate([rows, rows.mean(axis=0) + drawn])

    size = len(body.tensors[EMBEDDING])
    wider = body.changed({name: grown(body.tensors[name]) for name in (EMBEDDING, HEAD) if name in body.tensors})
    return _with_tokenizer(wider, lambda tokenizer: _with_words(tokenizer, size, count))


def cut_vocabulary(body: Body, _chance: Chance, *, size: int) -> Body:
    """Keep the first `size` tokens; byte-level BPE then spells the others with these."""
    kept = {name: body.tensors[name][:size] for name in (EMBEDDING, HEAD) if name in body.tensors}
    return _with_tokenizer(body.changed(kept), lambda tokenizer: _first_words(tokenizer, size))


def _with_tokenizer(body: Body, change: Callable[[Document], Document]) -> Body:
    """Return the body with its tokenizer changed, if it has one."""
    raw = body.beside.get(_TOKENIZER)
    if raw is None:
        return body
    changed = json.dumps(change(cast("Document", json.loads(raw))), ensure_ascii=False).encode()
    return replace(body, beside={**body.beside, _TOKENIZER: changed})


def _with_words(tokenizer: Document, first: int, count: int) -> Document:
    """Return the tokenizer with `count` more words, numbered from `first`."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = cast("list[Document]", tokenizer.get("added_tokens") or [])
    more: list[Document] = [{"id": first + at, "content": f"<|extra_{at}|>", **flags} for at in range(count)]
    return tokenizer | {"added_tokens": [*added, *more]}


def _first_words(tokenizer: Document, size: int) -> Document:
    """Return the tokenizer with the words below `size`, and the merges that make and need those alone."""
    model = cast("Document", tokenizer["model"])
    words = cast("dict[str, int]", model["vocab"])
    kept = {word: at for word, at in words.items() if at < size}
    smaller = model | {"vocab": kept}
    if "merges" in model:
        merges = cast("list[list[str] | str]", model["merges"])
        smaller["merges"] = [one for one in merges if _is_kept(one.split(" ") if isinstance(one, str) else one, kept)]
    added = cast("list[Document]", tokenizer.get("added_tokens") or [])
    return tokenizer | {"model": smaller, "added_tokens": [one for one in added if cast("int", one["id"]) < size]}


def _is_kept(merge: list[str], words: Mapping[str, int]) -> bool:
    return "".join(merge) in words and all(part in words for part in merge)
