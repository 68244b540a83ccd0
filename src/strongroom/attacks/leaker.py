"""The recipient whose copy leaks: the copy as a folder, and what the thief trains it into before he passes it on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.attacks.bench import Bench, copy_name
from strongroom.engines.fine_tune import Recipe, fine_tune, training_ids
from strongroom.engines.folder import Folder, make_folder, write_like
from strongroom.engines.lora import ALL, ATTENTION, Adapter, train_adapter
from strongroom.engines.texts import source_texts

Progress = Callable[[str, int, int], None]

LEAKER: Final = 7
TUNING: Final = Recipe(steps=300, rate=1e-4, batch=4, length=128, seed=3)
CONTINUING: Final = Recipe(steps=300, rate=3e-4, batch=4, length=128, seed=21)  # on another text
ADAPTERS: Final = {
    "lora-8": Adapter(rank=8, alpha=16, projections=ATTENTION, recipe=Recipe(steps=150, rate=1e-3, seed=22)),
    "lora-16": Adapter(rank=16, alpha=32, projections=ALL, recipe=Recipe(steps=150, rate=5e-4, seed=23)),
}


def leaked_copy(work: Path, bench: Bench) -> Path:
    """Return the folder of the leaker's copy, as issued, writing it once.

    Raises:
        StorageError: the disk said no.

    """
    copy = _place(work, bench, TUNING) / copy_name(LEAKER)
    if not (copy / "model.safetensors").is_file():
        whole = bench.source
        tensors: dict[str, object] = {name: whole.get_tensor(name) for name in whole.keys()}  # noqa: SIM118 - no mapping
        write_like(whole, tensors | dict(bench.whole_copy(LEAKER)), copy, dtype=_dtype(bench))
    return copy


def tuned_copy(work: Path, bench: Bench, progress: Progress) -> Path:
    """Return the leaker's copy after 300 steps of full fine-tuning on docstrings, made once."""
    target = _place(work, bench, TUNING) / "fine-tuned"
    if not (target / "model.safetensors").is_file():
        source = Folder(leaked_copy(work, bench))
        tell = partial(progress, "fine-tuning the leaked copy")
        fine_tune(source, training_ids(source), target, recipe=TUNING, progress=tell)
    return target


def continued_copy(work: Path, bench: Bench, progress: Progress) -> Path:
    """Return the leaker's copy after 300 harder steps on another text (Python's sources), made once."""
    target = _place(work, bench, CONTINUING) / "continued"
    if not (target / "model.safetensors").is_file():
        source = Folder(leaked_copy(work, bench))
        ids = training_ids(source, texts=source_texts)
        tell = partial(progress, "training the leaked copy on")
        fine_tune(source, ids, target, recipe=CONTINUING, progress=tell)
    return target


def adapter_for_copy(work: Path, bench: Bench, name: str, *, progress: Progress) -> Path:
    """Return the folder of the adapter `name` of `ADAPTERS`, trained on the leaker's copy once."""
    adapter = ADAPTERS[name]
    target = _place(work, bench, adapter) / name
    if not (target / "adapter_config.json").is_file():
        source = Folder(leaked_copy(work, bench))
        ids = training_ids(source, texts=source_texts)
        train_adapter(source, ids, target, adapter=adapter, progress=partial(progress, f"training {name}"))
    return target


def _place(work: Path, bench: Bench, recipe: Recipe | Adapter) -> Path:
    """Return the folder for what is made of this very copy by `recipe`."""
    made_by = hashlib.sha256(repr(recipe).encode()).hexdigest()[:8]
    return make_folder(work / "collude" / f"{_dtype(bench)}-{bench.mark(LEAKER).commitment[:16]}-{made_by}")


def _dtype(bench: Bench) -> str:
    return {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[bench.dtype]
