"""What models say after prompts of random tokens: logits and hidden states of the last place, kept as arrays.

They are what an attack on an inference server asks for again and again; computed once, each is a look-up. A folder of
them holds `logits.npy` (prompts, vocabulary) and `states.npy` (prompts, width), both float32, `names.json` (a token's
string, by number) and `prompts.json` (each prompt as a text).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import MissingExtra
from strongroom.engines.demo_model import demo_model
from strongroom.engines.fine_tune import Trained
from strongroom.engines.folder import Folder
from strongroom.engines.tiny_models import Tiny, tiny_model
from strongroom.engines.transformers_load import CausalModel, load_model

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]
Floats = npt.NDArray[np.float32]

SMALL: Final = Tiny(name="projected-64", seed=64, text="docstrings", order=64, steps=600)
BRIEF: Final = Tiny(name="projected-64-brief", seed=64, text="docstrings", order=64, steps=30)
LENGTH: Final = 8  # tokens of a prompt
_BATCH: Final = 16
_SEED: Final = 20_260_306


def small_places(work: Path, prompts: int, progress: Progress | None = None) -> Path:
    """Return the folder of what a small trained model (width 64, 4,096 tokens) says, making it in `work` once.

    Raises:
        MissingExtra: the package with SmolLM2's tokenizer is not installed.
        StorageError: the folder can't be written.

    """
    return _small(work, SMALL, prompts, progress=progress)


def brief_places(work: Path, prompts: int, progress: Progress | None = None) -> Path:
    """Return the same of a model that was trained for a twentieth of that: seconds, for those who only look on.

    Raises:
        MissingExtra: the package with SmolLM2's tokenizer is not installed.
        StorageError: the folder can't be written.

    """
    return _small(work, BRIEF, prompts, progress=progress)


def _small(work: Path, tiny: Tiny, prompts: int, *, progress: Progress | None) -> Path:
    target = work / f"places-{tiny.name}-{prompts}"
    return target if _made(target) else _make(tiny_model(work, tiny, progress), target, prompts, progress=progress)


def demo_places(work: Path, prompts: int, progress: Progress | None = None) -> Path:
    """Return the folder of what SmolLM2-135M-Instruct (width 576, 49,152 tokens) says, making it in `work` once.

    Raises:
        MissingExtra: the package with the model is not installed.
        StorageError: the folder can't be written.

    """
    target = work / f"places-smollm2-{prompts}"
    return target if _made(target) else _make(demo_model(work), target, prompts, progress=progress)


def _made(target: Path) -> bool:
    return (target / "prompts.json").is_file()  # the last that is written


def _make(model: Path, target: Path, prompts: int, *, progress: Progress | None) -> Path:
    source = Folder(model)
    names = _names(json.loads(source.read_file("tokenizer.json") or b"{}"))
    ids = np.random.default_rng(_SEED).integers(1, len(names), size=(prompts, LENGTH))
    logits, states = _last(load_model(source), ids, progress)
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / "logits.npy", logits)
    np.save(target / "states.npy", states)
    (target / "names.json").write_text(json.dumps(names), encoding="utf-8")
    rows: list[list[int]] = ids.tolist()
    texts = [" ".join([names[token] for token in row]) for row in rows]
    (target / "prompts.json").write_text(json.dumps(texts), encoding="utf-8")
    return target


def _names(tokenizer: dict[str, dict[str, dict[str, int]]]) -> list[str]:
    """Return the vocabulary's strings in order of their numbers: no two are alike."""
    vocabulary = tokenizer["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _last(model: CausalModel, ids: npt.NDArray[np.int64], progress: Progress | None) -> tuple[Floats, Floats]:
    """Return logits (prompts, vocabulary) and hidden states (prompts, width) of the last place of each row of `ids`."""
    cast("Trained", model).float()
    logits, states = list[Floats](), list[Floats]()
    for at in range(0, len(ids), _BATCH):
        if progress is not None:
            progress(at, len(ids))
        with torch.inference_mode():
            state = model.base_model(torch.from_numpy(ids[at : at + _BATCH]), use_cache=False).last_hidden_state[:, -1]  # pyright: ignore[reportUnknownMemberType] - torch's numpy types
            logits.append(model.get_output_embeddings()(state).numpy())
            states.append(state.numpy())
    return np.concatenate(logits), np.concatenate(states)
