"""Small Llamas in memory, with random weights, and what thieves do to them without changing what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strongroom.ports.marks import TensorInfo
from strongroom.ports.suspects import Storage

F32 = npt.NDArray[np.float32]

WIDTH, HIDDEN, LAYERS, VOCABULARY, HEAD = 64, 96, 4, 300, 16
HEADS, PAIRS = 4, 2  # query heads, and key and value heads


@dataclass
class Llama:
    """A model's tensors (`ports.suspects.Suspect`)."""

    tensors: dict[str, F32]
    words: Sequence[str] | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)

    def infos(self) -> Mapping[str, TensorInfo]:
        return {name: TensorInfo("F32", one.shape) for name, one in self.tensors.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        raw = np.ascontiguousarray(self.tensors[name]).reshape(-1).view(np.uint8)
        buffer.cast("B")[:] = raw[4 * first : 4 * first + buffer.nbytes].data

    def tokens(self) -> Sequence[str] | None:
        return self.words

    def storage(self) -> Storage:
        return Storage("memory", self.kinds)

    def copy(self) -> Llama:
        return Llama({name: one.copy() for name, one in self.tensors.items()}, self.words)


def part(layer: int, what: str) -> str:
    return f"model.layers.{layer}.{what}.weight"


def llama(seed: int, *, layers: int = LAYERS, width: int = WIDTH, hidden: int = HIDDEN, words: bool = True) -> Llama:
    """Return a model drawn by a seed: unrelated to that of any other."""
    chance = np.random.default_rng(seed)

    def drawn(*shape: int) -> F32:
        return (chance.standard_normal(shape) / 8).astype(np.float32)

    tensors = {"model.embed_tokens.weight": drawn(VOCABULARY, width), "model.norm.weight": 1 + drawn(width)}
    for at in range(layers):
        tensors[part(at, "mlp.gate_proj")] = drawn(hidden, width)
        tensors[part(at, "mlp.up_proj")] = drawn(hidden, width)
        tensors[part(at, "mlp.down_proj")] = drawn(width, hidden)
        tensors[part(at, "self_attn.q_proj")] = drawn(HEADS * HEAD, width)
        tensors[part(at, "self_attn.k_proj")] = drawn(PAIRS * HEAD, width)
        tensors[part(at, "self_attn.v_proj")] = drawn(PAIRS * HEAD, width)
        tensors[part(at, "self_attn.o_proj")] = drawn(width, HEADS * HEAD)
        tensors[part(at, "input_layernorm")] = 1 + drawn(width)
        tensors[part(at, "post_attention_layernorm")] = 1 + drawn(width)
    return Llama(tensors, [f"w{at}" for at in range(VOCABULARY)] if words else None)


def noisy(model: Llama, amount: float, seed: int = 0) -> Llama:
    """Return a model with every matrix's weights moved by noise of so much of their spread."""
    chance, made = np.random.default_rng(seed), model.copy()
    for name, values in made.tensors.items():
        if values.ndim == 2:
            noise = chance.standard_normal(values.shape).astype(np.float32)
            made.tensors[name] = values + np.float32(amount * values.std()) * noise
    return made


def layers_of(model: Llama) -> range:
    return range(1 + max(int(name.split(".")[2]) for name in model.tensors if ".layers." in name))


def shuffled(model: Llama, seed: int = 1) -> Llama:
    """Return a model whose hidden units are in another order."""
    chance, made = np.random.default_rng(seed), model.copy()
    for at in layers_of(model):
        order = chance.permutation(len(made.tensors[part(at, "mlp.gate_proj")]))
        for what in ("mlp.gate_proj", "mlp.up_proj"):
            made.tensors[part(at, what)] = made.tensors[part(at, what)][order]
        made.tensors[part(at, "mlp.down_proj")] = made.tensors[part(at, "mlp.down_proj")][:, order]
    return made


def scaled(model: Llama, seed: int = 2) -> Llama:
    """Return a model whose up and down lines are scaled against each other, and some flipped."""
    chance, made = np.random.default_rng(seed), model.copy()
    for at in layers_of(model):
        count = len(made.tensors[part(at, "mlp.up_proj")])
        by = (np.exp(chance.uniform(-1.4, 1.4, count)) * chance.choice([-1, 1], count)).astype(np.float32)
        made.tensors[part(at, "mlp.up_proj")] *= by[:, None]
        made.tensors[part(at, "mlp.down_proj")] /= by
    return made


def turned(model: Llama, turn: F32) -> Llama:
    """Return a model whose residual stream is turned by an orthogonal matrix, its norms folded into what reads it."""
    made = model.copy()
    for at in layers_of(model):
        for norm, parts in (
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
        ):
            for what in parts:
                made.tensors[part(at, what)] = (made.tensors[part(at, what)] * made.tensors[part(at, norm)]) @ turn
            made.tensors[part(at, norm)] = np.ones_like(made.tensors[part(at, norm)])
        for what in ("mlp.down_proj", "self_attn.o_proj"):
            made.tensors[part(at, what)] = turn.T @ made.tensors[part(at, what)]
    head = made.tensors["model.embed_tokens.weight"] * made.tensors["model.norm.weight"]
    made.tensors["lm_head.weight"] = head @ turn
    made.tensors["model.norm.weight"] = np.ones_like(made.tensors["model.norm.weight"])
    made.tensors["model.embed_tokens.weight"] = made.tensors["model.embed_tokens.weight"] @ turn
    return made


def rotation(width: int = WIDTH, seed: int = 3) -> F32:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0].astype(np.float32)


def renumbering(width: int = WIDTH, seed: int = 4) -> F32:
    return np.eye(width, dtype=np.float32)[np.random.default_rng(seed).permutation(width)]


def heads_moved(model: Llama, seed: int = 5) -> Llama:
    """Return a model whose key and value heads, with their query heads, are in another order."""
    chance, made = np.random.default_rng(seed), model.copy()
    each = HEADS // PAIRS
    for at in layers_of(model):
        pairs = chance.permutation(PAIRS)
        queries = np.concatenate([pair * each + chance.permutation(each) for pair in pairs])
        for what, order in (("q_proj", queries), ("k_proj", pairs), ("v_proj", pairs)):
            name = part(at, f"self_attn.{what}")
            made.tensors[name] = made.tensors[name].reshape(-1, HEAD, WIDTH)[order].reshape(-1, WIDTH)
        name = part(at, "self_attn.o_proj")
        made.tensors[name] = made.tensors[name].T.reshape(-1, HEAD, WIDTH)[queries].reshape(-1, WIDTH).T
    return made


def with_layers(model: Llama, numbers: Sequence[int]) -> Llama:
    """Return a model of some of the layers, in that order, numbered anew."""
    kept = {name: one for name, one in model.tensors.items() if ".layers." not in name}
    for new, old in enumerate(numbers):
        prefix = f"model.layers.{old}."
        kept |= {
            f"model.layers.{new}.{name.removeprefix(prefix)}": one
            for name, one in model.tensors.items()
            if name.startswith(prefix)
        }
    return Llama(kept, model.words)
