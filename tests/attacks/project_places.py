"""Logits of a made-up model of a known width, as the projection attack's servers take them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from strongroom.attacks.project_lab import Lab
from strongroom.attacks.project_plans import Aim

WIDTH, VOCABULARY, PROMPTS, SIDE = 16, 256, 96, 24


def product(
    width: int, *, rows: int = PROMPTS, tokens: int = VOCABULARY, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (rows, tokens) of a last layer of `width`, and the states before it."""
    draw = np.random.default_rng(seed)
    states = draw.normal(size=(rows, width))
    return states @ draw.normal(scale=1.5 / np.sqrt(width), size=(width, tokens)), states


def lab_in(place: Path) -> Lab:
    """Return a lab whose model has the width 16."""
    logits, states = product(WIDTH)
    np.save(place / "logits.npy", logits.astype(np.float32))
    np.save(place / "states.npy", states.astype(np.float32))
    (place / "names.json").write_text(json.dumps([f"w{token}" for token in range(VOCABULARY)]))
    (place / "prompts.json").write_text(json.dumps([f"w{row} w{row + 1} w{row + 2}" for row in range(PROMPTS)]))
    return Lab(place, "tiny")


def aim(lab: Lab, rows: int = SIDE) -> Aim:
    """Return what is asked about, under the first `rows` prompts."""
    return replace(lab.aim(SIDE), rows=range(rows))
