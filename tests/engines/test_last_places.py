"""What a model says after prompts of random tokens, as an attack on a server keeps it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from strongroom.engines import last_places  # noqa: E402 - after the skip
from strongroom.engines.folder import Folder  # noqa: E402
from strongroom.engines.transformers_load import load_model  # noqa: E402
from tests.engines.models import write_plain  # noqa: E402

PROMPTS = 20  # more than one batch


def test_logits_are_the_models_own_and_states_span_them(tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_plain(model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    told: list[tuple[int, int]] = []
    place = last_places._make(model, tmp_path / "places", PROMPTS, progress=lambda *at: told.append(at))
    names, prompts = (json.loads((place / f"{one}.json").read_text()) for one in ("names", "prompts"))
    logits, states = np.load(place / "logits.npy"), np.load(place / "states.npy")
    assert [tokenizer["model"]["vocab"][name] for name in names] == list(range(len(names)))
    assert logits.shape[0] == states.shape[0] == len(prompts) == PROMPTS
    assert told[0] == (0, PROMPTS)
    ids = np.random.default_rng(last_places._SEED).integers(1, len(names), size=(PROMPTS, last_places.LENGTH))
    assert prompts[3] == " ".join(names[token] for token in ids[3])
    with torch.inference_mode():
        whole = load_model(Folder(model)).float()(torch.from_numpy(ids[3:4])).logits[0, -1].numpy()
    assert logits[3] == pytest.approx(whole, abs=1e-4)
    assert np.linalg.matrix_rank(logits, tol=1e-3) <= states.shape[1]
