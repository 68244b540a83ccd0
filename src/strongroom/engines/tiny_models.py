"""Small Llamas trained from nothing: models that are certain to be unrelated, to calibrate lineage's statistics on.

Two of them share what honest strangers share: the architecture, the tokenizer, often the very same text in the very
same order. They differ in the seed of their weights. Whatever a statistic finds in common between such a pair is what
training alone brings about. Their texts are Python's own (docstrings, sources, language reference), their vocabulary
the 4,096 commonest tokens of SmolLM2's.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import MissingExtra
from strongroom.engines.demo_model import demo_model
from strongroom.engines.fine_tune import Recipe, trained
from strongroom.engines.folder import Folder, write_tensors
from strongroom.engines.text_ids import TextIds
from strongroom.engines.texts import default_texts, source_texts, training_texts

try:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
except ModuleNotFoundError as missing:
    raise MissingExtra("training a model needs transformers, not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]
Text = Literal["docstrings", "sources", "reference"]
Ids = npt.NDArray[np.int64]

VOCABULARY: Final = 4096
_LETTERS: Final = 4_000_000
_TEXTS: Final[Mapping[Text, Callable[[int], str]]] = {
    "docstrings": training_texts,
    "sources": source_texts,
    "reference": lambda most: default_texts()[:most],
}
_UNKNOWN: Final = "<unk>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """What a small model is made by. `seed` draws its first weights, `order` the windows that it reads."""

    name: str
    seed: int
    text: Text
    order: int
    width: int = 64
    hidden: int = 192
    layers: int = 3
    steps: int = 500
    rate: float = 3e-3


STRANGER: Final = Tiny(name="stranger", seed=1, text="docstrings", order=1, steps=60)


class _Model(Protocol):
    """The part of a transformers model that is needed here."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...


def tiny_model(cache_folder: Path, tiny: Tiny, progress: Progress | None = None) -> Path:
    """Return the folder of a small model, training it in `cache_folder` if it isn't there.

    Raises:
        MissingExtra: the package with SmolLM2's tokenizer is not installed.
        StorageError: the folder can't be written.

    """
    target = cache_folder / tiny.name
    if not target.is_dir():
        tokenizer = (demo_model(cache_folder) / "tokenizer.json").read_bytes()
        start = _started(cache_folder, tiny, tokenizer)
        try:
            _train(start, target, tiny=tiny, progress=progress)
        finally:
            shutil.rmtree(start, ignore_errors=True)
    return target


def stranger(cache_folder: Path, progress: Progress | None = None) -> Path:
    """Return a small model that is nobody's, trained for a minute at most."""
    return tiny_model(cache_folder, STRANGER, progress)


def tuned_tiny(cache_folder: Path, parent: Path, tiny: Tiny, *, progress: Progress | None = None) -> Path:
    """Return a fine-tune of `parent`, by the text, order, steps and rate of `tiny`, made in `cache_folder` once."""
    target = cache_folder / tiny.name
    if not target.is_dir():
        _train(parent, target, tiny=tiny, progress=progress)
    return target


def _train(start: Path, target: Path, *, tiny: Tiny, progress: Progress | None) -> None:
    """Train what is in the folder `start` and put it into `target`, whole or not at all."""
    source, state = Folder(start), target.with_name(target.name + ".state")
    tokenizer = (target.parent / "SmolLM2-135M-Instruct" / "tokenizer.json").read_bytes()
    ids = text_ids(tokenizer, tiny.text)
    recipe = Recipe(
        steps=tiny.steps, rate=tiny.rate, batch=8, length=128, seed=tiny.order, warm=50, fast=False, dtype="float32"
    )
    weights = trained(source, ids.tolist(), state, recipe=recipe, progress=progress)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    for name in source.files():
        if not name.endswith(".safetensors"):
            (work / name).write_bytes(source.read_file(name))
    kept = {name: weights[name].detach().contiguous() for name in source.keys()}  # noqa: SIM118 - no mapping
    write_tensors(kept, work / "model.safetensors", {"format": "pt"})
    work.rename(target)
    state.unlink(missing_ok=True)


def _started(cache_folder: Path, tiny: Tiny, tokenizer: bytes) -> Path:
    """Return a new folder with an untrained model."""
    torch.manual_seed(tiny.seed)  # pyright: ignore[reportUnknownMemberType]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=tiny.width,
        intermediate_size=tiny.hidden,
        num_hidden_layers=tiny.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    state = cast("_Model", LlamaForCausalLM(config)).state_dict()
    folder = Path(tempfile.mkdtemp(prefix=".starting-", dir=cache_folder))
    document = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(tokenizer)), encoding="utf-8")
    kept = {name: one.contiguous() for name, one in state.items() if name != "lm_head.weight"}
    write_tensors(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def _tokenizer(whole: bytes) -> dict[str, object]:
    """Return a tokenizer of the small vocabulary: enough to know each token's string."""
    document = json.loads(whole)
    words = {number: word for word, number in document["model"]["vocab"].items()}
    words |= {one["id"]: one["content"] for one in document.get("added_tokens", ())}
    vocabulary = {_UNKNOWN: 0} | {words[int(number)]: at for at, number in enumerate(common_ids(whole), start=1)}
    return {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": _UNKNOWN}}


@cache
def common_ids(tokenizer: bytes) -> Ids:
    """Return the commonest tokens of all texts, by SmolLM2's numbers, but for one place that means any other."""
    counts: Counter[int] = Counter()
    for text in _TEXTS:
        counts.update(_whole_ids(tokenizer, text))
    chosen = sorted(counts, key=lambda number: (-counts[number], number))[: VOCABULARY - 1]
    return np.array(sorted(chosen), dtype=np.int64)


@cache
def text_ids(tokenizer: bytes, text: Text) -> Ids:
    """Return a text in the small vocabulary's numbers."""
    small = np.zeros(1 << 17, dtype=np.int64)
    common = common_ids(tokenizer)
    small[common] = np.arange(1, len(common) + 1)
    return small[np.array(_whole_ids(tokenizer, text))]


@cache
def _whole_ids(tokenizer: bytes, text: Text) -> tuple[int, ...]:
    return tuple(TextIds(tokenizer)(_TEXTS[text](_LETTERS)))
