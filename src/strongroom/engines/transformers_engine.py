"""Runs a checkpoint with transformers, straight from memory."""

from __future__ import annotations

from strongroom.core.errors import BadInput, InputTooLarge, MissingExtra
from strongroom.engines.sampling import Draw
from strongroom.engines.tokens import Tokens, TokenStream
from strongroom.engines.transformers_load import CausalModel, Progress, load_model
from strongroom.ports.engine import Generation, OnText, Prompt, Sampling
from strongroom.ports.weights import WeightSource

try:
    import torch
    from transformers.generation.streamers import BaseStreamer
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs transformers, not installed", where=str(missing.name)) from missing


class Engine:
    """A model ready to write. Its weights stay in memory as long as the engine does; they are never written anywhere.

    One call at a time: torch itself spreads a call over the cores.
    """

    def __init__(self, model: CausalModel, tokens: Tokens) -> None:
        """Write with `model`, whose words `tokens` knows."""
        """Pair a loaded model with its tokenizer; `load` does both from a checkpoint."""
        self.model = model
        self.tokens = tokens
        self._context: int | None = getattr(model.config, "max_position_embeddings", None)

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

        """
        sampling = sampling or Sampling()
        ids = self.tokens.encode(prompt)
        room = self._room(ids, sampling)
        stream = None if on_text is None else _Stream(self.tokens.stream(), on_text)
        given = torch.tensor([ids])
        output = self.model.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=room,
            do_sample=False,  # the draw below leaves one token to choose
            logits_processor=[Draw(sampling)] if sampling.temperature > 0 else [],
            streamer=stream,
        )
        new = _ids(output[0, len(ids) :])
        stopped = bool(new) and new[-1] in (self.model.generation_config.eos_token_id or [])
        text = self.tokens.decode(new)
        if stream is not None:
            stream.flush(text)
        return Generation(text, len(ids), len(new), "stop" if stopped else "length")

    def _room(self, ids: list[int], sampling: Sampling) -> int:
        """Return how many tokens may follow `ids`: what is asked, or what the context leaves."""
        if not ids:
            raise BadInput("an empty prompt", where="prompt")
        left = sampling.max_new_tokens if self._context is None else self._context - len(ids)
        if left < 1:
            raise InputTooLarge(f"{len(ids)} tokens; the model's context is {self._context}", where="prompt")
        return min(left, sampling.max_new_tokens)


class _Stream(BaseStreamer):
    """Passes text on as transformers hands over tokens: first the whole prompt, then one at a time."""

    def __init__(self, decoder: TokenStream, on_text: OnText) -> None:
        self.given = ""
        self._decoder = decoder
        self._on_text = on_text
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Take the next tokens."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in _ids(value):
            if text := self._decoder.step(token):
                self.given += text
                self._on_text(text)

    def end(self) -> None:
        """Do nothing: `flush` gives out what is left."""

    def flush(self, text: str) -> None:
        """Give out what of the whole `text` was held back: the start of a character that never got its end."""
        if text.startswith(self.given) and text != self.given:
            self._on_text(text[len(self.given) :])


def _ids(tensor: torch.Tensor) -> list[int]:
    """Return the token ids in a tensor of any shape."""
    return [int(one) for one in tensor.reshape(-1).unbind()]
