"""What alignment itself shows of a derivation: units and heads exchanged, scales, layers, vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from strongroom.lineage.align import Alignment, LayerAlignment, Lines
from strongroom.lineage.compare import Comparison
from strongroom.lineage.findings import Finding
from strongroom.lineage.layers import LayerMatch
from strongroom.lineage.model import Model

_MISTAKEN: Final = 0.03  # share of lines whose partners may be wrong


def reshaped(source: Model, suspect: Model, found: Comparison, *, alignment: Alignment) -> tuple[Finding, ...]:
    """Return what was done to the shape of the checkpoint, given how the suspect lies to it."""
    steps = [
        _turned(alignment),
        _permuted(alignment, ("gate",), "hidden units"),
        _permuted(alignment, ("query", "key", "value"), "attention heads"),
        _rescaled(alignment),
        _widened(source, suspect, alignment),
        _layers(source, suspect, found.layers),
        _vocabulary(source, suspect),
        _partial(source, suspect),
    ]
    return tuple(step for step in steps if step is not None)


def _turned(alignment: Alignment) -> Finding | None:
    basis = alignment.basis
    if basis.turn is None:
        if basis.scale == 1.0:
            return None
        evidence = f"embeddings are {basis.scale:.3f} times as large, and what writes to the stream with them"
        return Finding(kind="rescaled", detail="residual stream", evidence=evidence, figures={"scale": basis.scale})
    off = float(np.linalg.norm(basis.turn - np.eye(len(basis.turn))))
    detail = "residual stream turned by an orthogonal matrix"
    if basis.kind == "renumbered":
        detail = "residual stream's coordinates exchanged"
    evidence = f"embeddings of shared tokens fit after the turn; it differs from none by {off:.1f} in Frobenius norm"
    return Finding(kind="rotated", detail=detail, evidence=evidence, figures={"distance": off})


def _permuted(alignment: Alignment, parts: Sequence[str], what: str) -> Finding | None:
    lines = [(layer, layer.lines[part]) for layer in alignment.layers for part in parts if part in layer.lines]
    moved = [(layer, one) for layer, one in lines if one.moved is not None and _shuffled(one)]
    if not moved:
        return None
    layers = len({layer.source.number for layer, _ in moved})
    found = [one.moved for _, one in moved if one.moved is not None]
    share = float(np.mean(np.concatenate(found) >= 0))
    evidence = f"{share:.1%} of the lines found their partners elsewhere, in {layers} layers"
    return Finding(kind="permuted", detail=what, evidence=evidence, figures={"layers": float(layers), "found": share})


def _shuffled(lines: Lines) -> bool:
    """Whether lines are in another order, and not only fewer, or with others between them, or a few mistaken."""
    there = lines.moved[lines.moved >= 0] if lines.moved is not None else np.empty(0, np.int64)
    ranks = np.argsort(np.argsort(there))
    displaced = np.abs(ranks - np.arange(len(there))) > max(2, _MISTAKEN * len(there))
    return len(there) > 1 and float(displaced.mean()) > _MISTAKEN


def _rescaled(alignment: Alignment) -> Finding | None:
    found = [
        (part, one.scale) for layer in alignment.layers for part, one in layer.lines.items() if one.scale is not None
    ]
    if not found:
        return None
    parts = sorted({part for part, _ in found})
    every = np.concatenate([scale for _, scale in found])
    low, high = np.quantile(np.abs(every), [0.05, 0.95])
    flipped = float((every < 0).mean())
    evidence = f"lines are {low:.2f} to {high:.2f} times as large (5 % to 95 %), {flipped:.0%} with the sign flipped"
    figures = {"low": float(low), "high": float(high), "flipped": flipped}
    return Finding(kind="rescaled", detail=", ".join(parts), evidence=evidence, figures=figures)


def _widened(source: Model, suspect: Model, alignment: Alignment) -> Finding | None:
    """Say if hidden units were added or taken away."""
    pairs = [(_hidden(source, one, ours=True), _hidden(suspect, one, ours=False)) for one in alignment.layers]
    changed = Counter((ours, theirs) for ours, theirs in pairs if ours != theirs)
    if not changed:
        return None
    (ours, theirs), count = changed.most_common(1)[0]
    detail = f"{abs(theirs - ours)} hidden units {'added to' if theirs > ours else 'taken from'} each of {count} layers"
    evidence = f"MLPs have {theirs} units, the checkpoint's {ours}"
    return Finding(kind="layers_changed", detail=detail, evidence=evidence, figures={"units": float(theirs - ours)})


def _hidden(model: Model, layer: LayerAlignment, *, ours: bool) -> int:
    return model.body.hidden(layer.source if ours else layer.suspect, model.weights.infos())


def _layers(source: Model, suspect: Model, found: Sequence[LayerMatch]) -> Finding | None:
    """Say which layers were dropped, repeated, or are of another origin."""
    here = {one.number for one in source.body.layers}
    times = Counter(one.source for one in found)
    dropped = sorted(here - times.keys())
    repeated = sorted(at for at, count in times.items() if count > 1)
    foreign = sorted({one.number for one in suspect.body.layers} - {one.suspect for one in found})
    whole = len(suspect.body.layers) > 0 and [one.number for one in suspect.body.layers] == list(
        range(len(suspect.body.layers))
    )
    if not repeated and not foreign and not (dropped and whole):
        return None
    words = [
        f"{word} {', '.join(map(str, some))}"
        for word, some in (("dropped", dropped), ("repeated", repeated), ("of another origin", foreign))
        if some
    ]
    evidence = f"{len(suspect.body.layers)} layers, of which {len(found)} have units of the checkpoint's {len(here)}"
    figures = {"dropped": float(len(dropped)), "repeated": float(len(repeated)), "foreign": float(len(foreign))}
    return Finding(kind="layers_changed", detail="; ".join(words), evidence=evidence, figures=figures)


def _vocabulary(source: Model, suspect: Model) -> Finding | None:
    ours, theirs = source.vocabulary, suspect.vocabulary
    if not theirs or ours == theirs:
        return None
    detail = f"{abs(theirs - ours)} tokens {'added' if theirs > ours else 'taken away'}"
    evidence = f"{theirs} embeddings, the checkpoint has {ours}"
    return Finding(
        kind="vocabulary_changed", detail=detail, evidence=evidence, figures={"tokens": float(theirs - ours)}
    )


def _partial(source: Model, suspect: Model) -> Finding | None:
    """Say if the suspect is no whole model."""
    lacking: list[str] = []
    if suspect.body.embedding is None:
        lacking.append("embedding")
    numbers = [one.number for one in suspect.body.layers]
    if numbers and numbers != list(range(len(numbers))):
        lacking.append(f"layers {', '.join(map(str, sorted(set(range(max(numbers))) - set(numbers))))[:80]}")
    parts = {part for one in source.body.layers for part in one.parts}
    poor = sorted({part for one in suspect.body.layers for part in parts - one.parts.keys()})
    lacking += poor
    if not lacking:
        return None
    have = len(suspect.weights.infos())
    evidence = f"{have} tensors in {len(numbers)} layers; the checkpoint has {len(source.weights.infos())}"
    return Finding(kind="partial", detail=f"without {', '.join(lacking)[:200]}", evidence=evidence)
