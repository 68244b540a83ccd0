"""Which tokens may come next, and how likely each is: temperature, top-k and top-p, before the draw itself."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.core.errors import MissingExtra
from strongroom.ports.engine import Sampling

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

_LIKELIEST = 1024  # enough for nearly every top-p: finding these costs a tenth of sorting a whole vocabulary


def shape(logits: torch.Tensor, wanted: Sequence[Sampling]) -> torch.Tensor:
    """Return the logits (rows, vocabulary) as the draw takes them: scaled, what is ruled out at minus infinity.

    Row for row as `wanted` says, whose temperatures are above 0.
    """
    heat = torch.tensor([[one.temperature] for one in wanted], dtype=logits.dtype, device=logits.device)
    # the draw looks at differences only, and without this a tiny temperature would make infinities of all logits
    scaled = (logits - logits.amax(-1, keepdim=True)) / heat.clamp_min(torch.finfo(logits.dtype).tiny)
    for row, one in enumerate(wanted):
        if one.top_k or one.top_p < 1:
            scaled[row] = _top_p(_top_k(scaled[row], one.top_k), one.top_p)
    return scaled


def _top_k(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Rule out all but the `count` likeliest tokens (0: none is ruled out)."""
    if not 0 < count < len(logits):
        return logits
    return logits.masked_fill(logits < logits.topk(count).values[-1], -torch.inf)


def _top_p(logits: torch.Tensor, mass: float) -> torch.Tensor:
    """Rule out all but the likeliest tokens that together hold at least `mass`."""
    if mass >= 1:
        return logits
    weights = logits.softmax(-1)
    likeliest = weights.topk(min(_LIKELIEST, len(weights)))
    if likeliest.values.sum() < mass:
        likeliest = weights.sort(descending=True)
    within = likeliest.values.cumsum(-1) - likeliest.values < mass
    kept = likeliest.indices[within]
    return torch.full_like(logits, -torch.inf).scatter(0, kept, logits[kept])
