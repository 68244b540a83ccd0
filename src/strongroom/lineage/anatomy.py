"""What a decoder's tensors are: its layers with their projections and norms, its embedding, by the tensors' names.

Lineage compares gated MLPs (Llama, Mistral, Qwen, Gemma, SmolLM …), so a layer is what has a gate and an up
projection; whatever else is missing (a part of a file, an embedding left out) is None. Names are read from their ends,
so that a prefix before ``layers.N`` doesn't matter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.lineage.elements import dtype_of, finite
from strongroom.ports.marks import TensorInfo, Tensors

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

_LAYER: Final = re.compile(r"^(|.*\.)(?:layers|h|blocks)\.(\d{1,4})\.(.+)\.weight$")
_PARTS: Final[Mapping[str, str]] = {
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
    "feed_forward.w1": "gate",
    "feed_forward.w3": "up",
    "feed_forward.w2": "down",
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "output",
    "input_layernorm": "attention_norm",
    "pre_feedforward_layernorm": "mlp_norm",  # Gemma, whose post_attention_layernorm stands elsewhere
    "post_attention_layernorm": "mlp_norm",
}
_EMBEDDING: Final = re.compile(r"^(?:.*\.)?(?:embed_tokens|tok_embeddings|wte)\.weight$")
_HEAD: Final = re.compile(r"^(?:lm_head|output)\.weight$")
_FINAL_NORM: Final = re.compile(r"^(?:model\.|.*\.)?norm\.weight$")
_MATRIX: Final = 2
_WHOLE: Final = 1 << 25  # elements: a smaller matrix is read as a whole


@dataclass(frozen=True, slots=True)
class Layer:
    """The names of one layer's tensors."""

    number: int
    parts: Mapping[str, str]  # gate, up, down, query, key, value, output, attention_norm, mlp_norm

    def __getitem__(self, part: str) -> str | None:
        """Return the name of a part's tensor, or None."""
        return self.parts.get(part)


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The tensors of a decoder, by what they are."""

    layers: tuple[Layer, ...]  # those with gate and up projections of one shape, in order
    embedding: str | None
    head: str | None  # None where it is the embedding, or missing
    final_norm: str | None
    width: int  # of the residual stream; 0 if no layer and no embedding says it
    offsets: bool = False  # norms are stored less one, as transformers' Gemma has them

    def hidden(self, layer: Layer, infos: Mapping[str, TensorInfo]) -> int:
        """Return how many hidden units the layer's MLP has."""
        return infos[layer.parts["gate"]].shape[0]


def anatomy(infos: Mapping[str, TensorInfo]) -> Anatomy:
    """Return what the tensors `infos` are. A file in which nothing is recognised has no layers and no width.

    Of several stacks of layers, under different prefixes, it is the one with the most weights: a picture's tower beside
    a model of language, or a decoy, is another.
    """
    stacks: dict[str, dict[int, dict[str, str]]] = {}
    singles: dict[str, list[str]] = {}
    for name in infos:
        if match := _LAYER.match(name):
            if part := _PARTS.get(match[3]):
                place = stacks.setdefault(match[1], {}).setdefault(int(match[2]), {})
                if part not in place or match[3] == "pre_feedforward_layernorm":
                    place[part] = name
        else:
            for what, pattern in (("embedding", _EMBEDDING), ("head", _HEAD), ("final_norm", _FINAL_NORM)):
                if pattern.match(name):
                    singles.setdefault(what, []).append(name)
    prefix = max(stacks, key=lambda one: _weight(stacks[one], infos), default="")
    found = stacks.get(prefix, {})
    near = {what: max(names, key=lambda name: name.startswith(prefix)) for what, names in singles.items()}
    layers = tuple(
        Layer(number, _fitting(found[number], infos)) for number in sorted(found) if _is_gated(found[number], infos)
    )
    if layers:  # a layer of another width is another model's: of a picture's, say
        widths = [infos[one.parts["gate"]].shape[1] for one in layers]
        common = max(sorted(set(widths)), key=widths.count)
        layers = tuple(one for one, width in zip(layers, widths, strict=True) if width == common)
    return Anatomy(
        layers=layers,
        embedding=_matrix(near.get("embedding"), infos),
        head=_matrix(near.get("head"), infos),
        final_norm=near.get("final_norm"),
        width=_width(layers, near, infos),
        offsets=any("pre_feedforward_layernorm" in name for name in infos),
    )


def matrix(weights: Tensors, name: str, rows: slice | None = None) -> F32:
    """Return a tensor as float32, or some of its rows; what is not finite is zero.

    Raises:
        BadInput: its dtype is no float, or the file became shorter.

    """
    info = weights.infos()[name]
    dtype = dtype_of(info.dtype, where=f"tensor {name!r}")
    first, last, _ = (rows or slice(None)).indices(info.shape[0])
    shape = (max(last - first, 0), *info.shape[1:])
    per_row = int(np.prod(info.shape[1:], dtype=np.int64))
    raw = bytearray(shape[0] * per_row * dtype.itemsize)
    weights.read_into(name, first * per_row, memoryview(raw))
    return finite(np.frombuffer(raw, dtype)).reshape(shape)


def rows(weights: Tensors, name: str, numbers: I64) -> F32:
    """Return some rows of a matrix, (rows, columns): read one by one where the whole would be much.

    Raises:
        BadInput: its dtype is no float, or the file became shorter.

    """
    height, width = weights.infos()[name].shape
    if height * width <= _WHOLE:
        return matrix(weights, name)[numbers]
    found = [matrix(weights, name, slice(at, at + 1)) for at in numbers.tolist()]
    return np.concatenate(found) if found else np.zeros((0, width), np.float32)


def gains(weights: Tensors, name: str | None, *, offsets: bool = False) -> F32 | None:
    """Return a norm's weights, by which it multiplies, or None where there are none."""
    if name is None:
        return None
    values = matrix(weights, name)
    return values + np.float32(1) if offsets else values


def _is_gated(parts: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> bool:
    if "gate" not in parts or "up" not in parts:
        return False
    gate, up = infos[parts["gate"]].shape, infos[parts["up"]].shape
    return len(gate) == _MATRIX and gate == up and min(gate) > 0


def _weight(stack: Mapping[int, Mapping[str, str]], infos: Mapping[str, TensorInfo]) -> int:
    """Return how many weights a stack of layers has."""
    return sum(math.prod(infos[name].shape) for parts in stack.values() for name in parts.values())


def _fitting(parts: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> Mapping[str, str]:
    """Leave out parts of a layer whose shapes are none that go with its gate's."""
    hidden, width = infos[parts["gate"]].shape
    wanted = {"gate": (hidden, width), "up": (hidden, width), "down": (width, hidden)}
    norms = dict.fromkeys(("attention_norm", "mlp_norm"), (width,))

    def fits(part: str, shape: tuple[int, ...]) -> bool:
        if part in wanted or part in norms:
            return shape == (wanted | norms)[part]
        return len(shape) == _MATRIX and min(shape) > 0 and shape[0 if part == "output" else 1] == width

    return {part: name for part, name in parts.items() if fits(part, infos[name].shape)}


def _matrix(name: str | None, infos: Mapping[str, TensorInfo]) -> str | None:
    return name if name is not None and len(infos[name].shape) == _MATRIX and min(infos[name].shape) > 0 else None


def _width(layers: tuple[Layer, ...], near: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> int:
    if layers:
        return infos[layers[0].parts["gate"]].shape[1]
    embedding = _matrix(near.get("embedding"), infos)
    return infos[embedding].shape[1] if embedding else 0
