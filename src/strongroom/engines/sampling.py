"""How the next token is chosen: greedily, or drawn by a generator of our own that leaves torch's global one alone."""

from __future__ import annotations

import secrets

from strongroom.core.errors import MissingExtra
from strongroom.ports.engine import Sampling

try:
    import torch
    from transformers import LogitsProcessor
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs transformers, not installed", where=str(missing.name)) from missing


class Draw(LogitsProcessor):
    """Draws the next token and leaves it as the only possible one, so that the model's own loop must take it."""

    def __init__(self, sampling: Sampling) -> None:
        """Draw as `sampling` says."""
        """Seed a generator as `sampling` says, or from the operating system."""
        self._sampling = sampling
        self._generator = torch.Generator()
        self._generator.manual_seed(secrets.randbits(63) if sampling.seed is None else sampling.seed)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return `scores` (batch, vocabulary) with all but one drawn token at minus infinity."""
        del input_ids
        logits = (scores.float() / self._sampling.temperature).cpu()
        logits = _top_p(_top_k(logits, self._sampling.top_k), self._sampling.top_p)
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=self._generator).to(scores.device)
        return torch.full_like(scores, -torch.inf).scatter_(-1, drawn, 0.0)


def _top_k(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Rule out all but the `count` likeliest tokens (0: none is ruled out)."""
    if not 0 < count < logits.shape[-1]:
        return logits
    least = logits.topk(count, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def _top_p(logits: torch.Tensor, mass: float) -> torch.Tensor:
    """Rule out all but the likeliest tokens that together hold at least `mass`."""
    if mass >= 1:
        return logits
    ordered, places = logits.sort(dim=-1, descending=True)
    weights = ordered.softmax(-1)
    beyond = weights.cumsum(-1) - weights >= mass
    return logits.masked_fill(beyond.gather(-1, places.argsort(-1)), -torch.inf)
