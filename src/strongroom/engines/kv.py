"""The keys and values that several texts have cached in one batch: joined on the left, parted, trimmed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from strongroom.core.errors import BadInput, MissingExtra

try:
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs transformers, not installed", where=str(missing.name)) from missing


class Layer(Protocol):
    """The part of transformers' cache layer that we use: keys and values, (batch, heads, length, size)."""

    keys: torch.Tensor
    values: torch.Tensor


class Cache(Protocol):
    """The part of transformers' cache that we use."""

    layers: list[Layer]


def new_cache() -> Cache:
    """Return an empty cache that keeps every position, whatever window a layer looks at: its rows can be padded."""
    return cast("Cache", DynamicCache())


def join(batch: Cache, one: Cache) -> None:
    """Add the rows of `one` below those of `batch`; the shorter of the two is padded on the left.

    Raises:
        BadInput: the architecture keeps something else than keys and values for every position.

    """
    if {type(layer) for layer in one.layers} != {DynamicLayer}:
        raise BadInput("the architecture keeps a state that can't be shared in a batch", where="config.json")
    if not batch.layers:
        batch.layers.extend(one.layers)
        return
    for ours, theirs in zip(batch.layers, one.layers, strict=True):
        ours.keys = _stacked(ours.keys, theirs.keys)
        ours.values = _stacked(ours.values, theirs.values)


def keep(cache: Cache, rows: torch.Tensor, cut: int) -> None:
    """Keep only `rows`, without the first `cut` positions."""
    _each(cache, lambda held: held.index_select(0, rows)[:, :, cut:])


def padded(tensor: torch.Tensor, length: int, dimension: int) -> torch.Tensor:
    """Return `tensor` with zeros before it, so that its `dimension` has `length`."""
    missing = length - tensor.shape[dimension]
    if not missing:
        return tensor
    blank = list(tensor.shape)
    blank[dimension] = missing
    return torch.cat([tensor.new_zeros(blank), tensor], dimension)


def _each(cache: Cache, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for layer in cache.layers:
        layer.keys, layer.values = change(layer.keys), change(layer.values)


def _stacked(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    length = max(upper.shape[-2], lower.shape[-2])
    return torch.cat([padded(upper, length, -2), padded(lower, length, -2)])
