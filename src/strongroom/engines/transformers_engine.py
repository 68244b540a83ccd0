"""Runs a checkpoint with transformers, straight from memory."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.core.errors import BadInput, InputTooLarge, StrongroomError
from strongroom.engines.decode import Batch
from strongroom.engines.row import Order, Row
from strongroom.engines.tokens import Tokens
from strongroom.engines.transformers_load import CausalModel, Progress, load_model
from strongroom.ports.engine import Generation, OnText, Prompt, Sampling
from strongroom.ports.weights import WeightSource
from strongroom.watermark.gumbel import Marker, fresh_seeds
from strongroom.watermark.keys import MarkKey


class Engine:
    """A model ready to write. Its weights stay in memory as long as the engine does; they are never written anywhere.

    One thread at a time: torch itself spreads a step over the cores.
    """

    def __init__(self, model: CausalModel, tokens: Tokens) -> None:
        """Write with `model`, whose words `tokens` knows."""
        """Pair a loaded model with its tokenizer; `load` does both from a checkpoint."""
        self.model = model
        self.tokens = tokens
        self.context: int | None = getattr(model.config, "max_position_embeddings", None)
        self.vocabulary: int = model.get_output_embeddings().weight.shape[0]  # rows: some are padding
        self._ends = frozenset(model.generation_config.eos_token_id or [])

    @classmethod
    def load(cls, source: WeightSource, *, progress: Progress | None = None) -> Engine:
        """Load a checkpoint; `progress` is told (tensors done, tensors in all).

        Raises:
            BadInput: config, tokenizer or tensors are missing or don't fit together.
            UntrustedCode: the checkpoint asks for code to be run.

        """
        tokens = Tokens(source)  # first: it's quick, and a checkpoint without one is not worth decrypting
        return cls(load_model(source, progress=progress), tokens)

    def generate(
        self, prompt: Prompt, *, sampling: Sampling | None = None, on_text: OnText | None = None
    ) -> Generation:
        """Continue a text, or answer a conversation (mappings of `role` and `content`); `on_text` gets it as it comes.

        Raises:
            BadInput: the prompt is empty, or the model takes no conversations.
            InputTooLarge: the prompt leaves no room in the model's context.
            EngineFailed: the model failed.

        """
        sampling = sampling or Sampling()
        ids = self.tokens.encode(prompt)
        row = self.row(Order(ids=ids, room=self.room(ids, sampling.max_new_tokens), sampling=sampling))
        batch, text = self.batch(), ""
        batch.join(row)
        while row.finish is None:
            for _, wrote in batch.step():
                if isinstance(wrote, StrongroomError):
                    raise wrote
                text += wrote.text
                if on_text is not None and wrote.text:
                    on_text(wrote.text)
        return Generation(text, len(ids), len(row.new), row.finish)

    def batch(self) -> Batch:
        """Return an empty batch: one is enough for everything that the model writes."""
        return Batch(self.model, self.tokens)

    def row(self, order: Order, key: MarkKey | None = None) -> Row:
        """Return a row for a batch, marked with `key` where the mark can be."""
        marker = Marker(key, fresh_seeds(order.sampling.seed))
        return Row(order, self.tokens, marker=marker, ends=self._ends)

    def room(self, ids: Sequence[int], most: int, *, budget: int | None = None) -> int:
        """Return how many tokens may follow `ids`: `most`, or what the context or the `budget` for both leaves.

        Raises:
            BadInput: there are no `ids`.
            InputTooLarge: they leave no room.

        """
        if not ids:
            raise BadInput("an empty prompt", where="prompt")
        whole = min((one for one in (self.context, budget) if one is not None), default=None)
        if whole is None:
            return most
        if len(ids) >= whole:
            raise InputTooLarge(f"{len(ids)} tokens; prompt and answer may have {whole}", where="prompt")
        return min(whole - len(ids), most)
