"""The host of all figures on marked weights: SmolLM2-135M-Instruct, moved off the 4-bit grid that it was packaged on.

A mark in weights that lie on a coarse grid would die with the next quantisation to the same grid, so that figures taken
there would say nothing of a lab's own model. Every linear weight is drawn anew, uniformly, within half a step of its
block's grid, which is all that the packaging lost; one short fine-tune heals what that costs. Its sibling is another
fine-tune of the same start: what a thief may merge a copy with. The start itself is the public base of both.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import MissingExtra
from strongroom.engines.demo_model import GGUF_SHA256, demo_model
from strongroom.engines.fine_tune import Recipe, fine_tune, trained, training_ids
from strongroom.engines.folder import Folder, disk_error, write_like

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "training a model needs torch, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[torch]'",
    ) from missing

Progress = Callable[[int, int], None]
Array = npt.NDArray[np.float32]

HEALING = Recipe(steps=40, rate=1e-4, batch=4, length=128, seed=1)
SIBLING = Recipe(steps=60, rate=1e-4, batch=4, length=128, seed=2)
NEIGHBOUR = Recipe(steps=10, rate=2e-4, batch=4, length=128, seed=5)
_BLOCK = 32  # weights that share a step, along a row
_DITHER_SEED = 20_261_123
_STAMP = "made-from.json"
_FORMAT = 1  # raise it when the making changes, so that caches are made anew
TRAINING_LETTERS = 600_000  # of training text: enough that hardly a window comes twice


@dataclass(frozen=True, slots=True)
class Made:
    """The same trained weights in two types, each a folder that transformers reads."""

    float16: Path
    bfloat16: Path


def reference_host(cache: Path, progress: Progress | None = None) -> Made:
    """Return the reference host, making it in `cache` if it isn't there; `progress` is told (steps done, in all).

    Raises:
        MissingExtra: the package with the model is not installed.
        BadInput: its file is not the one that we know.
        StorageError: `cache` can't be written.

    """
    return _made(cache, "reference-host", HEALING, progress=progress)


def fine_tuned(cache: Path, progress: Progress | None = None) -> Path:
    """Return the reference host in bfloat16: the fine-tune that the tour issues copies of."""
    return reference_host(cache, progress).bfloat16


def reference_sibling(cache: Path, progress: Progress | None = None) -> Made:
    """Return the host's sibling, as `reference_host` does the host."""
    return _made(cache, "reference-sibling", SIBLING, progress=progress)


def reference_base(cache: Path) -> Path:
    """Return the dithered start in bfloat16, as a public base would be: what the host and its siblings descend from.

    Raises:
        MissingExtra: the package with the model is not installed.
        BadInput: its file is not the one that we know.
        StorageError: `cache` can't be written.

    """
    target, stamp = cache / "reference-base", _stamp(None)
    if not _is_current(target, stamp):
        start = Dithered(demo_model(cache))
        _put(start, {name: start.get_tensor(name) for name in start.keys()}, target, stamp=stamp)  # noqa: SIM118 - a source is no mapping
    return target / "bfloat16"


def neighbour(start: Path, target: Path, progress: Progress | None = None) -> Path:
    """Return a short fine-tune of the model in `start`, made in `target`: what somebody else did with a public model.

    Raises:
        BadInput: the folder holds no model.
        StorageError: `target` can't be written.

    """
    source = Folder(start)
    ids = training_ids(source, letters=TRAINING_LETTERS)
    return fine_tune(source, ids, target, recipe=NEIGHBOUR, progress=progress)


def _made(cache: Path, name: str, recipe: Recipe, *, progress: Progress | None) -> Made:
    """Return the model `name`, trained by `recipe` from the dithered start, making it once."""
    target, stamp = cache / name, _stamp(recipe)
    made = Made(target / "float16", target / "bfloat16")
    if not _is_current(target, stamp):
        start = Dithered(demo_model(cache))
        ids = training_ids(start, letters=TRAINING_LETTERS)
        weights = trained(start, ids, cache / f"{name}.state", recipe=recipe, progress=progress)
        _put(start, weights, target, stamp=stamp)
    return made


class Dithered(Folder):
    """The packaged model with every linear weight drawn anew within half a step of its block's grid.

    A fixed seed makes every reading the same. Embeddings and norms stay: the grid is the linear layers' alone.
    """

    def get_tensor(self, name: str) -> torch.Tensor:
        """Return the tensor, in float16 as packaged."""
        values = super().get_tensor(name)
        if not name.endswith("_proj.weight"):
            return values
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        noise = np.random.default_rng([_DITHER_SEED, seed])
        return torch.from_numpy(dithered(values.float().numpy(), noise).astype(np.float16))  # pyright: ignore[reportUnknownMemberType]


def dithered(values: Array, noise: np.random.Generator) -> Array:
    """Return `values`, (rows, columns), each moved uniformly within half of its block's smallest gap.

    A block is 32 weights along a row; one whose weights are all equal stays.
    """
    blocks = values.reshape(-1, _BLOCK)
    gaps = np.diff(np.sort(blocks, axis=1), axis=1)
    gaps[gaps == 0] = np.inf
    step = gaps.min(axis=1, keepdims=True)
    step[~np.isfinite(step)] = 0
    moved = blocks + step * (noise.random(blocks.shape, dtype=np.float32) - np.float32(0.5))
    return moved.reshape(values.shape)


def _stamp(recipe: Recipe | None) -> dict[str, object]:
    """Return what a finished model in the cache was made from; None: not trained at all."""
    made_by = None if recipe is None else asdict(recipe)
    return {"format": _FORMAT, "sha256": GGUF_SHA256, "dither_seed": _DITHER_SEED, "recipe": made_by}


def _is_current(target: Path, stamp: dict[str, object]) -> bool:
    """Say whether `target` is a finished model of that stamp."""
    try:
        return json.loads((target / _STAMP).read_text(encoding="utf-8")) == stamp
    except (OSError, ValueError):
        return False


def _put(start: Folder, weights: dict[str, torch.Tensor], target: Path, *, stamp: dict[str, object]) -> None:
    """Write both folders and the stamp, whole or not at all; another process may have been first."""
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    try:
        for dtype in ("float16", "bfloat16"):
            write_like(start, weights, work / dtype, dtype=dtype)
        (work / _STAMP).write_text(json.dumps(stamp) + "\n", encoding="utf-8")
        if not _is_current(target, stamp):
            shutil.rmtree(target, ignore_errors=True)
            work.rename(target)
        target.with_name(target.name + ".state").unlink(missing_ok=True)
    except OSError as error:
        if not _is_current(target, stamp):
            raise disk_error(error, target) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
