"""What softening costs honest users: log probabilities and vectors of the demo's model, before and after the veil.

Texts are the paragraphs of this repository's own docs. Figures:

    logprobs    of the 20 likeliest tokens in each place (5 in tier `standard`): the mean and the largest absolute
                change in nats, how often the likeliest token is another one than before, and the share of tokens
                written at temperature 1 whose own value is not shown (`hidden`)
    vectors     against the model's own (mean of the last hidden states, the texts' mean taken out or not): the mean
                absolute change of the cosine of two texts, and how many of a text's ten nearest are still among them
                (recall@10), with the projection alone and with noise
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engine import Plain

from strongroom.engines.demo_model import demo_model
from strongroom.engines.transformers_engine import Engine
from strongroom.engines.vectors import Vectors
from strongroom.ports.completions import TokenLogprob, Turn
from strongroom.serving import veil_vectors
from strongroom.serving.disclosure.tiers import TIERS, Tier
from strongroom.serving.soften import Veil
from strongroom.serving.veil_vectors import VectorVeil

KEY = bytes(range(32))
DOCS = Path(__file__).parents[1] / "docs"
MOST = 300
NEAREST = 10


def paragraphs() -> list[str]:
    """Return paragraphs of prose, spread over all pages."""
    found = [
        " ".join(one.split())
        for page in sorted(DOCS.rglob("*.md"))
        for one in page.read_text().split("\n\n")
        if len(one) > 150 and one[0].isalpha()
    ]
    return found[:: max(1, len(found) // MOST)][:MOST]


def logprobs(engine: Engine, texts: list[str]) -> dict[str, Any]:
    """Return what each tier's veil changes."""
    places: list[list[TokenLogprob]] = []
    for text in texts:
        ids = engine.tokens.encode(text)[:64]
        with torch.inference_mode():
            likely = engine.model(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
        places.append([_place(engine, one, token) for one, token in zip(likely, ids[1:], strict=True)])
    return {name: _changes(places, texts, TIERS[name]) for name in ("standard", "trusted")}


def _place(engine: Engine, likely: torch.Tensor, token: int) -> TokenLogprob:
    top = likely.topk(20)
    others = tuple(
        (*engine.tokens.spell(int(one)), float(value)) for one, value in zip(top.indices, top.values, strict=True)
    )
    return TokenLogprob(*engine.tokens.spell(token), float(likely[token]), others)


def _changes(places: list[list[TokenLogprob]], texts: list[str], tier: Tier) -> dict[str, float]:
    changes: list[float] = []
    swapped = total = 0
    hidden = 0.0
    for row, text in zip(places, texts, strict=True):
        veil = Veil(KEY, tier, top=tier.top_logprobs, turns=(Turn("user", text[:1]),))
        for before, after in zip(row, veil.soften(row), strict=True):
            was = {(token, raw): value for token, raw, value in before.top}
            changes += [abs(value - was[token, raw]) for token, raw, value in after.top]
            hidden += 1 - sum(math.exp(value) for _, _, value in before.top[: tier.top_logprobs])
            swapped += before.top[0][1] != after.top[0][1]
            total += 1
    return {
        "places": total,
        "mean": round(statistics.fmean(changes), 6),
        "largest": round(max(changes), 6),
        "hidden": round(hidden / total, 4),
        "likeliest_changed": round(swapped / total, 5),
    }


def vectors(engine: Engine, texts: list[str]) -> dict[str, Any]:
    """Return what the projection, and the noise on top, change."""
    made = Vectors(engine.model, [engine.tokens.encode(text) for text in texts])
    while not made.step():
        pass
    raw = np.frombuffer(made.raw(), "<f4").astype(np.float64).reshape(len(texts), made.width)
    found: dict[str, Any] = {"texts": len(texts), "width": made.width}
    for name, noise in (("projected", 0.0), ("softened", veil_vectors.NOISE)):
        veil_vectors.NOISE = noise  # type: ignore[misc]
        served = VectorVeil(KEY).soften(made.raw(), texts, width=made.width, dimensions=None)
        shown = np.array([np.frombuffer(one, "<f4") for one in served], np.float64)
        found["served"] = shown.shape[1]
        found[name] = _kept(raw, shown) | {"centred": _kept(_centred(raw), _centred(shown))}
    return found


def _centred(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _kept(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    was, now = before @ before.T, after @ after.T
    pairs = ~np.eye(len(was), dtype=bool)
    nearest = [set(np.argsort(-np.where(pairs[row], was[row], -2))[:NEAREST]) for row in range(len(was))]
    still = [set(np.argsort(-np.where(pairs[row], now[row], -2))[:NEAREST]) for row in range(len(was))]
    recall = statistics.fmean(len(a & b) / NEAREST for a, b in zip(nearest, still, strict=True))
    return {"cosine_change": round(float(np.abs(was - now)[pairs].mean()), 5), "recall_at_10": round(recall, 4)}


def main() -> dict[str, object]:
    """Measure."""
    torch.set_num_threads(1)
    texts = paragraphs()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine.load(Plain(demo_model(Path(folder) / "model")))  # type: ignore[arg-type]
        return {"logprobs": logprobs(engine, texts[:60]), "vectors": vectors(engine, texts)}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
