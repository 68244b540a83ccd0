"""Where texts lie: the mean of a model's last hidden states, read by the thread that writes, a piece at a time."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.core.errors import BadInput, InputTooLarge, MissingExtra
from strongroom.engines.kv import Cache, new_cache
from strongroom.engines.transformers_engine import Engine
from strongroom.engines.transformers_load import CausalModel
from strongroom.ports.completions import Embed

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

_CHUNK = 128  # tokens that are read in one step, as of prompts


def read_texts(engine: Engine, embed: Embed) -> tuple[list[int], ...]:
    """Return the tokens of each text.

    Raises:
        BadInput: a text has none.
        InputTooLarge: a text is longer than the model's context, or all together than the budget.

    """
    left, texts = embed.budget, list[list[int]]()
    for text in embed.texts:
        most = min(left, engine.context or left)
        if engine.tokens.is_beyond(text, most):
            raise InputTooLarge(f"over {most} tokens", where="input")
        ids = engine.tokens.encode(text)
        if not ids:
            raise BadInput("an empty text", where="input")
        if len(ids) > most:
            raise InputTooLarge(f"{len(ids)} tokens; there is room for {most}", where="input")
        texts.append(ids)
        left -= len(ids)
    return tuple(texts)


class Vectors:
    """The vectors of some texts in the making. One thread."""

    def __init__(self, model: CausalModel, texts: Sequence[Sequence[int]]) -> None:
        """Read `texts`, none of them empty, with `model`."""
        self._model = model.base_model
        self._left = [list(ids) for ids in texts]
        self._made: list[torch.Tensor] = []
        self._begin()

    @torch.inference_mode()
    def step(self) -> bool:
        """Read the next piece; return whether all is read."""
        ids, start = self._left[0][self._done : self._done + _CHUNK], self._done
        self._done += len(ids)
        states = self._model(
            torch.tensor([ids]),
            attention_mask=torch.ones((1, self._done), dtype=torch.int64),
            position_ids=torch.arange(start, self._done)[None],
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[0]
        self._sum = self._sum + states.float().cpu().sum(0)
        if self._done == len(self._left[0]):
            self._made.append(torch.nn.functional.normalize(self._sum, dim=0))
            self._left.pop(0)
            self._begin()
        return not self._left

    @property
    def width(self) -> int:
        """Numbers in a vector: the model's hidden width."""
        return len(self._made[0])

    def raw(self) -> bytes:
        """Return all vectors, one after the other, as little-endian float32 (texts, width)."""
        return torch.stack(self._made).numpy().astype("<f4").tobytes()

    def _begin(self) -> None:
        self._cache: Cache = new_cache()
        self._sum = torch.zeros(1)
        self._done = 0
