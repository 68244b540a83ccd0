"""A causal language model out of a checkpoint in memory: transformers' own classes, our tensors, nothing fetched.

transformers is given the config and the tensors and never a name or a path, so that it has nothing to look up. Its
loader takes the tensors as they are (no copy where the types agree), applies the renamings that an architecture needs,
ties what is tied and builds the buffers that no checkpoint holds. It tolerates tensors that are missing or left over:
we don't.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from logging import CRITICAL
from typing import Protocol, cast

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.foreign_config import Document, read_document
from strongroom.engines.torch_tensors import as_tensor
from strongroom.ports.weights import WeightSource

try:
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig, PreTrainedConfig
    from transformers.utils import logging
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs transformers, not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]

_CONFIG, _GENERATION = "config.json", "generation_config.json"
_FLOATS = {"float16", "bfloat16", "float32", "float64"}
_UNNAMED = {"_name_or_path", "name_or_path", "_attn_implementation", "attn_implementation", "experts_implementation"}


class Ends(Protocol):
    """The part of transformers' GenerationConfig that we use: the ids that end a text."""

    eos_token_id: list[int] | None


class Output(Protocol):
    """What a model says: logits, (batch, length, vocabulary)."""

    logits: torch.Tensor


class States(Protocol):
    """The part of a model's output that we use where no tokens are wanted."""

    last_hidden_state: torch.Tensor


class BaseModel(Protocol):
    """A model without its last layer."""

    def __call__(self, input_ids: torch.Tensor, **options: object) -> States:
        """Return the hidden states (batch, length, width)."""
        ...


class CausalModel(Protocol):
    """The part of transformers' PreTrainedModel that we use."""

    config: PreTrainedConfig
    generation_config: Ends
    base_model: BaseModel

    def get_output_embeddings(self) -> torch.nn.Linear:
        """Return the last layer, whose rows are the tokens."""
        ...

    def __call__(self, input_ids: torch.Tensor, **options: object) -> Output:
        """Return the model's output for (batch, length) tokens."""
        ...


class _ConfigClass(Protocol):
    """A config class of transformers."""

    def from_dict(self, document: Document) -> PreTrainedConfig:
        """Return the config that `document` says."""
        ...


class _ModelClass(Protocol):
    """A model class of transformers."""

    _supports_sdpa: bool

    def from_pretrained(self, name: None, **options: object) -> tuple[CausalModel, dict[str, Collection[object]]]:
        """Return the model and what did not fit."""
        ...


def load_model(source: WeightSource, *, progress: Progress | None = None) -> CausalModel:
    """Return the checkpoint's model, its weights sharing memory with what `source` gave.

    Raises:
        BadInput: no config, an unknown architecture, or tensors missing, left over or of another shape.
        UntrustedCode: the config asks for code.

    """
    config = read_config(source)
    model_class = _model_class(config)
    generation = read_document(source, _GENERATION) or {}
    state = _read_tensors(source, progress)
    logging.disable_progress_bar()  # transformers' own bar and report would land on the user's terminal
    logging.set_verbosity(CRITICAL)
    try:
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=state,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are reported, and refused below by name
            output_loading_info=True,
            # ours, whatever the config says: an implementation's name can be an order to fetch a kernel
            attn_implementation="sdpa" if model_class._supports_sdpa else "eager",  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the only place that says so
        )
    except (AttributeError, ImportError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"transformers can't build the model: {type(error).__name__}", where=_CONFIG) from error
    _refuse_misfits(report)
    model.generation_config = _generation(config, generation)
    return model


def read_config(source: WeightSource) -> PreTrainedConfig:
    """Return the checkpoint's config as transformers' class for its architecture.

    Raises:
        BadInput: there is none, its architecture is unknown, or its values don't fit.
        UntrustedCode: it asks for code.

    """
    document = read_document(source, _CONFIG)
    if document is None:
        raise BadInput("the checkpoint has no config.json", where=_CONFIG)
    kind = document.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise BadInput("transformers has no architecture of that model_type", where=_CONFIG)
    if document.get("dtype", document.get("torch_dtype")) not in {None, *_FLOATS}:
        raise BadInput("the dtype is no floating type", where=_CONFIG)
    document = {key: value for key, value in document.items() if key not in _UNNAMED}
    try:
        return cast("_ConfigClass", CONFIG_MAPPING[kind]).from_dict(document)
    except (StrictDataclassError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the values don't fit the architecture: {type(error).__name__}", where=_CONFIG) from error


def _model_class(config: PreTrainedConfig) -> _ModelClass:
    """Return the causal language model's class for `config`."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise BadInput("the architecture does not generate text", where=_CONFIG)
    found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return cast("_ModelClass", found[0] if type(found) is tuple else found)


def _read_tensors(source: WeightSource, progress: Progress | None) -> dict[str, torch.Tensor]:
    """Return all tensors, telling `progress` how many of how many are there."""
    names = source.keys()
    if not names:
        raise BadInput("the checkpoint holds no tensors", where=_CONFIG)
    state: dict[str, torch.Tensor] = {}
    for count, name in enumerate(names, start=1):
        state[name] = as_tensor(source.get_tensor(name), where=name)
        if progress is not None:
            progress(count, len(names))
    return state


def _refuse_misfits(report: dict[str, Collection[object]]) -> None:
    """Return if every tensor of the model was given, none was left over and all shapes agreed.

    Raises:
        BadInput: one did not; `where` is the first such tensor.

    """
    troubles = {
        "missing_keys": "missing from the checkpoint",
        "unexpected_keys": "left over: the model has no such tensor",
        "mismatched_keys": "of another shape than the config says",
        "error_msgs": "not loadable",
    }
    for kind, trouble in troubles.items():
        found = sorted(_name(one) for one in report.get(kind, ()))
        if found:
            raise BadInput(f"{len(found)} tensor(s) {trouble}", where=found[0][:200])


def _name(misfit: object) -> str:
    """Return the tensor's name: a misfit is one, or a tuple (name, shape given, shape expected)."""
    return str(cast("tuple[object, ...]", misfit)[0] if isinstance(misfit, tuple) else misfit)


def _generation(config: PreTrainedConfig, document: Document) -> Ends:
    """Return when to stop, and nothing else, of what the checkpoint says on generating: the caller says the rest."""
    ends = document.get("eos_token_id", getattr(config, "eos_token_id", None))
    listed = cast("list[object]", ends) if isinstance(ends, list) else [ends]
    stops = [end for end in listed if isinstance(end, int)]
    return cast("Ends", GenerationConfig(eos_token_id=stops or None, pad_token_id=stops[0] if stops else None))
