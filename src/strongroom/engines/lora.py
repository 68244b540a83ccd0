"""Low-rank adapters (LoRA, arXiv:2106.09685) on a causal language model's projections: trained, written as PEFT does.

A projection W of shape (out, in) becomes W + alpha / rank · B·A with A of (rank, in), B of (out, rank). Only A and B
are trained, by the loop of `fine_tune`. The folder is one that the library peft loads; merging takes no library at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.fine_tune import Progress, Recipe, Run, Trained
from strongroom.engines.folder import Folder, disk_error, write_tensors
from strongroom.engines.transformers_load import load_model
from strongroom.ports.weights import WeightSource

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("training a model needs torch, not installed", where=str(missing.name)) from missing

Array = npt.NDArray[np.float32]

ATTENTION: Final = ("q_proj", "v_proj")
ALL: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_PREFIX = "base_model.model."  # peft's own, before the module's name
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """What is put on which projections, and how it is trained; the recipe's seed draws A."""

    rank: int
    alpha: float
    projections: tuple[str, ...]
    recipe: Recipe


class _Linear(Protocol):
    """The part of a linear layer that an adapter needs."""

    weight: torch.nn.Parameter  # (out, in)

    def register_forward_hook(self, hook: Callable[..., torch.Tensor]) -> object: ...


class _Modules(Protocol):
    """The part of a torch module that finds projections."""

    def named_modules(self) -> Iterator[tuple[str, _Linear]]: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...


@dataclass(frozen=True, slots=True)
class _Pair:
    """An adapter's two matrices: (rank, in) and (out, rank)."""

    low: torch.nn.Parameter
    high: torch.nn.Parameter
    scaling: float

    def __call__(self, _module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        """Add the adapter's product to a projection's (..., out): a forward hook."""
        linear = torch.nn.functional.linear
        return output + self.scaling * linear(linear(inputs[0], self.low), self.high)


def train_adapter(
    source: WeightSource, ids: Sequence[int], target: Path, *, adapter: Adapter, progress: Progress | None = None
) -> Path:
    """Train an adapter for `source` on the token `ids` and write it to the folder `target`, in float32.

    Raises:
        BadInput: the checkpoint can't be loaded or has no such projection, or the text is shorter than one window.
        StorageError: the disk said no.

    """
    model = cast("Trained", load_model(source)).float().train()
    pairs = _put_on(cast("_Modules", model), adapter, chance=np.random.default_rng(adapter.recipe.seed))
    if not pairs:
        raise BadInput("it has no such projection", where=", ".join(adapter.projections)[:200])
    weights = {f"{_PREFIX}{name}{_A}": one.low for name, one in pairs.items()}
    weights |= {f"{_PREFIX}{name}{_B}": one.high for name, one in pairs.items()}
    state = target.with_name(target.name + ".state")
    Run(model, weights, ids, recipe=adapter.recipe).whole(state, progress)
    _write(weights, adapter, target)
    state.unlink(missing_ok=True)
    return target


def deltas(folder: Path) -> Iterator[tuple[str, Array]]:
    """Yield what the adapter in `folder` adds: each changed weight's name, and (out, in) float32.

    Raises:
        BadInput: there is no adapter, or a broken one.

    """
    source = Folder(folder)
    try:
        config = cast("dict[str, float]", json.loads(source.read_file(_CONFIG)))
        scaling = config["lora_alpha"] / config["r"]
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise BadInput(f"no config of an adapter: {type(error).__name__}", where=_CONFIG) from error
    for name in source.keys():  # noqa: SIM118 - a source is no mapping
        if name.endswith(_A):
            low, high = source.get_tensor(name), source.get_tensor(name.removesuffix(_A) + _B)
            delta = cast("Array", (high.float() @ low.float()).numpy()) * np.float32(scaling)
            yield name.removeprefix(_PREFIX).removesuffix(_A) + ".weight", delta


def _put_on(model: _Modules, adapter: Adapter, *, chance: np.random.Generator) -> dict[str, _Pair]:
    """Freeze the model and hook a pair of matrices to each of the adapter's projections, B zero as in the paper."""
    for weight in model.parameters():
        weight.requires_grad = False
    pairs: dict[str, _Pair] = {}
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in adapter.projections:
            rows, columns = module.weight.shape
            drawn = chance.uniform(-1, 1, (adapter.rank, columns)) / np.sqrt(columns)
            low = torch.nn.Parameter(torch.tensor(drawn, dtype=torch.float32))
            high = torch.nn.Parameter(torch.zeros(rows, adapter.rank))
            pairs[name] = _Pair(low, high, adapter.alpha / adapter.rank)
            module.register_forward_hook(pairs[name])
    return pairs


def _write(weights: dict[str, torch.nn.Parameter], adapter: Adapter, target: Path) -> None:
    """Write the adapter's folder, its config last."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(adapter.projections),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_tensors({name: one.detach().contiguous() for name, one in weights.items()}, target / _WEIGHTS, {})
        (target / _CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise disk_error(error, target) from error
