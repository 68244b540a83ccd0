"""Two models side by side: what each is, and the tokens that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import InputTooLarge
from strongroom.lineage.anatomy import Anatomy, anatomy, rows
from strongroom.lineage.units import unit_length
from strongroom.ports.marks import Tensors

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

_LAYERS: Final = 1024
_HIDDEN: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Model:
    """A decoder's weights, what they are, and the strings of its tokens, where they are known."""

    weights: Tensors
    body: Anatomy
    tokens: Sequence[str] | None = None

    @property
    def vocabulary(self) -> int:
        """How many tokens have an embedding."""
        name = self.body.embedding
        return self.weights.infos()[name].shape[0] if name else 0


def model_of(weights: Tensors, tokens: Sequence[str] | None = None) -> Model:
    """Return what the tensors are as a model.

    Raises:
        InputTooLarge: it claims more layers, or hidden units in one, than any model has.

    """
    body, infos = anatomy(weights.infos()), weights.infos()
    widest = max((body.hidden(one, infos) for one in body.layers), default=0)
    if len(body.layers) > _LAYERS or widest > _HIDDEN:
        raise InputTooLarge(f"{len(body.layers)} layers of up to {widest} hidden units", where="suspect")
    return Model(weights, body, tokens)


def shared_tokens(one: Model, other: Model, *, most: int) -> tuple[I64, I64]:
    """Return the numbers, in each model, of at most `most` tokens that both have; the same ones whoever asks.

    Tokens are the same if their strings are. Where one model doesn't say its strings, both are taken to number alike.
    The choice goes by a hash of the strings, so that it prefers no kind of token.
    """
    sizes = one.vocabulary, other.vocabulary
    if one.tokens is None or other.tokens is None:
        chosen = np.random.default_rng(0).permutation(min(sizes))[:most]
        return chosen, chosen
    place = {word: at for at, word in enumerate(other.tokens[: sizes[1]])}
    both = {word: (at, place[word]) for at, word in enumerate(one.tokens[: sizes[0]]) if word in place}
    words = sorted(both, key=lambda word: blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())[:most]
    pairs = np.array([both[word] for word in words], dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def embeddings(model: Model, numbers: I64) -> F32:
    """Return the embeddings of some tokens, (tokens, width), as the file has them.

    Raises:
        BadInput: they are no floats, or the file became shorter.

    """
    name = model.body.embedding
    if name is None or not len(numbers):
        return np.zeros((0, model.body.width), dtype=np.float32)
    return rows(model.weights, name, numbers)


def anchors(some: F32) -> F32:
    """Return embeddings (tokens, width) as what unit rows are multiplied by: (width, tokens), centred, of length 1."""
    return unit_length(some).T
