"""What a mark costs the model that carries it, as custody asks for it: paired, on many tokens, in its own precision."""

from __future__ import annotations

from strongroom.engines.perplexity import Progress, Reading, paired_cost
from strongroom.engines.texts import default_texts, digest
from strongroom.ports.marks import PerplexityCost
from strongroom.ports.weights import WeightSource


def mark_cost(
    original: WeightSource, marked: WeightSource, *, tokens: int, texts: str | None, progress: Progress | None = None
) -> PerplexityCost:
    """Return what `marked` costs against `original`, in float32, on `tokens` of `texts` (None: what Python ships).

    Raises:
        BadInput: a checkpoint can't be loaded as a language model, or the text is too short.

    """
    text = default_texts() if texts is None else texts
    cost = paired_cost(original, marked, text, reading=Reading(tokens), progress=progress)
    return PerplexityCost(cost.ratio, cost.low, cost.high, cost.tokens, digest(text))
