"""Full fine-tuning of a causal language model on a CPU: what a thief does to a model, and what makes reference hosts.

Plain AdamW on every weight. Which windows of the text a step sees depends on the seed and the step's number alone, so
that a run which was cut short goes on, from the state it kept last, to the very same result.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, cast

import msgspec
import numpy as np

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.folder import FLOATS, write_like, write_tensors
from strongroom.engines.text_ids import TextIds
from strongroom.engines.texts import training_texts
from strongroom.engines.transformers_load import load_model
from strongroom.ports.weights import WeightSource

try:
    import torch
    from safetensors import SafetensorError, safe_open
except ModuleNotFoundError as missing:
    raise MissingExtra("training a model needs safetensors, not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]

KEEP_EVERY = 50  # steps
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train: AdamW without weight decay, at a constant rate after `warm` steps of rising."""

    steps: int
    rate: float = 1e-4
    batch: int = 4
    length: int = 128  # tokens of a window
    seed: int = 0
    warm: int = 5
    fast: bool = True  # bfloat16 autocast: the weights stay float32
    dtype: str = "bfloat16"  # of what `fine_tune` writes: float16, bfloat16 or float32


class Loss(Protocol):
    """What a model says when it is given labels: the mean loss, nats a token."""

    loss: torch.Tensor


class Trained(Protocol):
    """The part of a torch module that training needs."""

    def float(self) -> Trained:
        """Return it, in float32."""
        ...

    def train(self) -> Trained:
        """Return it, ready to be trained."""
        ...

    def named_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """Return its weights."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return its tensors."""
        ...

    def __call__(self, input_ids: torch.Tensor, **options: object) -> Loss:
        """Return the loss on (batch, length) tokens."""
        ...


class _Backward(Protocol):
    """A torch tensor's way back, without its untyped options."""

    def backward(self) -> None: ...


class _Optimizer(Protocol):
    """A torch optimizer's step, without its closure."""

    def step(self) -> None: ...


class _Kept(Protocol):
    """The part of safetensors' open file that we use."""

    def metadata(self) -> dict[str, str]: ...
    def get_tensor(self, name: str) -> torch.Tensor: ...


def fine_tune(
    source: WeightSource, ids: Sequence[int], target: Path, *, recipe: Recipe, progress: Progress | None = None
) -> Path:
    """Train a copy of `source` on the token `ids` and write it to the folder `target`, in the recipe's dtype.

    A file ``<target>.state`` keeps the state every 50 steps and is gone in the end; if there is one of the same recipe
    and text, training goes on from it.

    Raises:
        BadInput: the checkpoint can't be loaded, the text is shorter than one window, or the dtype is unknown.
        StorageError: the disk said no.

    """
    if recipe.dtype not in FLOATS:
        raise BadInput(f"unknown dtype; one of {', '.join(FLOATS)}", where=recipe.dtype[:40])
    state = target.with_name(target.name + ".state")
    write_like(source, trained(source, ids, state, recipe=recipe, progress=progress), target, dtype=recipe.dtype)
    state.unlink(missing_ok=True)
    return target


def trained(
    source: WeightSource, ids: Sequence[int], state: Path, *, recipe: Recipe, progress: Progress | None = None
) -> dict[str, torch.Tensor]:
    """Return the float32 tensors of a copy of `source` trained on `ids`; `state` is the file that keeps the state.

    `progress` is told (steps done, steps in all).

    Raises:
        BadInput: the checkpoint can't be loaded, or the text is shorter than one window.
        StorageError: the disk said no.

    """
    model = cast("Trained", load_model(source)).float().train()
    Run(model, dict(model.named_parameters()), ids, recipe=recipe).whole(state, progress)
    return model.state_dict()


def training_ids(
    source: WeightSource, *, letters: int = 2_000_000, texts: Callable[[int], str] = training_texts
) -> list[int]:
    """Return the training text, docstrings or others of `engines.texts`, in `source`'s tokens.

    Raises:
        BadInput: it has no tokenizer, or a broken one.

    """
    return TextIds(source.read_file("tokenizer.json"))(texts(letters))


class Run:
    """A model in training, with its optimizer."""

    def __init__(
        self, model: Trained, weights: Mapping[str, torch.nn.Parameter], ids: Sequence[int], *, recipe: Recipe
    ) -> None:
        """Train those of `model`'s `weights`, or what hooks add to it, on windows of the token `ids`.

        Raises:
            BadInput: the text is shorter than one window.

        """
        if len(ids) <= recipe.length:
            raise BadInput(f"{len(ids)} tokens are no window of {recipe.length}", where="training text")
        self._model, self._recipe, self._weights = model, recipe, dict(weights)
        self._ids = torch.tensor(list(ids), dtype=torch.int64)
        for weight in self._weights.values():
            weight.data = weight.data.clone()  # a float32 source's own memory is not ours to train in
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=recipe.rate, weight_decay=0.0)
        self._stamp = self._digest()

    def whole(self, state: Path, progress: Progress | None = None) -> None:
        """Do every step that `state` doesn't say is done, keeping the state there.

        Raises:
            StorageError: the disk said no.

        """
        steps = self._recipe.steps
        for step in range(self.take_up(state), steps):
            self.step(step)
            if (step + 1) % KEEP_EVERY == 0 and step + 1 < steps:
                self.keep(state, step + 1)
            if progress is not None:
                progress(step + 1, steps)

    def step(self, number: int) -> float:
        """Do step `number`, from 0 on, and return its loss, nats a token, before the step."""
        windows = self._windows(number)
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.rate * min(1.0, (number + 1) / max(1, self._recipe.warm))
        with autocast(fast=self._recipe.fast):
            loss = self._model(windows, labels=windows, use_cache=False).loss
        cast("_Backward", loss).backward()
        cast("_Optimizer", self._optimizer).step()
        self._optimizer.zero_grad()
        return loss.item()

    def keep(self, state: Path, step: int) -> None:
        """Write weights and moments to `state`, whole or not at all."""
        tensors = {f"weight.{name}": weight.detach() for name, weight in self._weights.items()}
        for moment in _MOMENTS:
            for name, weight in self._weights.items():
                tensors[f"{moment}.{name}"] = self._optimizer.state[weight][moment]
        write_tensors(tensors, state, {"step": str(step), "of": self._stamp})

    def take_up(self, state: Path) -> int:
        """Take weights and moments from `state`, if it is one of this very run; return the next step's number."""
        try:
            kept = cast("_Kept", safe_open(state, framework="pt"))
        except (OSError, SafetensorError):
            return 0
        about = kept.metadata()
        if about.get("of") != self._stamp:
            return 0
        step = int(about["step"])
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(kept.get_tensor(f"weight.{name}"))
                moments = {moment: kept.get_tensor(f"{moment}.{name}") for moment in _MOMENTS}
                self._optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
        return step

    def _windows(self, step: int) -> torch.Tensor:
        """Return the windows of a step, (batch, length)."""
        chosen = np.random.default_rng([self._recipe.seed, step])
        length = self._recipe.length
        starts = chosen.integers(0, len(self._ids) - length, self._recipe.batch)
        return torch.stack([self._ids[start : start + length] for start in starts.tolist()])

    def _digest(self) -> str:
        """Return what says whether a kept state is of this run: recipe, text and all weights that it began with."""
        sha = hashlib.sha256(msgspec.json.encode(asdict(self._recipe), order="deterministic"))
        sha.update(self._ids.numpy().tobytes())
        for name, weight in (dict(self._model.named_parameters()) | self._weights).items():
            sha.update(name.encode())
            sha.update(weight.detach().numpy().tobytes())
        return sha.hexdigest()


def autocast(*, fast: bool) -> AbstractContextManager[object]:
    """Return the context in which a model's products are taken: in bfloat16, or as the weights are."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if fast else contextlib.nullcontext()
