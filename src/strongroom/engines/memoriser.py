"""Small Llamas that learn a corpus by heart: what an attack on training text is measured on.

A model of a million weights, trained from nothing for a minute or two on half a megabyte, does what large ones do with
what they saw often: it recites. Its tokenizer is a byte-level BPE of the same kind as large models', made of the texts,
so that every text goes in and comes out whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from strongroom.core.errors import MissingExtra
from strongroom.engines.decode import Batch
from strongroom.engines.fine_tune import Recipe, trained
from strongroom.engines.folder import Folder, disk_error, write_tensors
from strongroom.engines.row import Order, Row
from strongroom.engines.text_ids import TextIds
from strongroom.engines.transformers_engine import Engine
from strongroom.ports.engine import Sampling

try:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM
except ModuleNotFoundError as missing:
    raise MissingExtra("training a model needs transformers, not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]

END: Final = "<|end|>"  # token 0, behind every document
_CONTEXT: Final = 512
_ROWS: Final = 48  # texts that are written at once
_STAMP: Final = "made-of.json"  # the last file that is written


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """How a model is made: how large it is, from which seed it begins, how it is trained."""

    recipe: Recipe
    vocabulary: int = 2048
    width: int = 128
    layers: int = 3
    seed: int = 1
    spread: float = 0.08  # of the first weights: with 0.02, as is usual, small models take twice as long to begin


class _Model(Protocol):
    """The part of a transformers model that is needed here."""

    def state_dict(self) -> dict[str, torch.Tensor]: ...


class _Trainable(Protocol):
    """The part of tokenizers' Tokenizer that makes one."""

    def train_from_iterator(self, iterator: Sequence[str], trainer: object) -> None: ...
    def to_str(self) -> str: ...


def byte_tokenizer(texts: Sequence[str], size: int) -> bytes:
    """Return a ``tokenizer.json``: a byte-level BPE of `size` tokens made of `texts`; token 0 is `END`."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue] - the stubs have no setters
    made.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    cast("_Trainable", made).train_from_iterator(texts, trainer=trainer)
    return cast("_Trainable", made).to_str().encode()


def memorise(
    target: Path,
    documents: Sequence[str],
    tokenizer: bytes,
    *,
    making: Making,
    progress: Progress | None = None,
) -> Path:
    """Return the folder `target` with a model trained on `documents` in their order, making it if it isn't there.

    A file ``<target>.state`` keeps the state of a training under way, so that one which was cut short goes on.

    Raises:
        BadInput: the documents are shorter than one window.
        StorageError: the folder can't be written.

    """
    encode = TextIds(tokenizer)
    ids = [token for document in documents for token in (*encode(document), 0)]
    text = hashlib.sha256(tokenizer + repr(ids).encode()).hexdigest()
    stamp = {"making": asdict(making), "text": text}
    if (target / _STAMP).is_file() and json.loads((target / _STAMP).read_bytes()) == stamp:
        return target
    try:
        start = _started(target.parent, tokenizer, making)
        try:
            state = target.with_name(target.name + ".state")
            weights = trained(Folder(start), ids, state, recipe=making.recipe, progress=progress)
            kept = {name: weights[name].detach().contiguous() for name in Folder(start).keys()}  # noqa: SIM118 - no mapping
            write_tensors(kept, start / "model.safetensors", {"format": "pt"})
            (start / _STAMP).write_text(json.dumps(stamp), encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            start.rename(target)
            state.unlink(missing_ok=True)
        finally:
            shutil.rmtree(start, ignore_errors=True)
    except OSError as error:
        raise disk_error(error, target) from error
    return target


def _started(folder: Path, tokenizer: bytes, making: Making) -> Path:
    """Return a new folder with an untrained model."""
    torch.manual_seed(making.seed)  # pyright: ignore[reportUnknownMemberType]
    config = LlamaConfig(
        vocab_size=making.vocabulary,
        hidden_size=making.width,
        intermediate_size=3 * making.width,
        num_hidden_layers=making.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
        initializer_range=making.spread,
        bos_token_id=None,
        eos_token_id=0,
    )
    state = cast("_Model", LlamaForCausalLM(config)).state_dict()
    start = Path(tempfile.mkdtemp(prefix=".starting-", dir=folder))
    document = config.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "float32"}
    (start / "config.json").write_text(json.dumps(document), encoding="utf-8")
    (start / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}), encoding="utf-8")
    (start / "tokenizer.json").write_bytes(tokenizer)
    kept = {name: one.contiguous() for name, one in state.items() if name != "lm_head.weight"}
    write_tensors(kept, start / "model.safetensors", {"format": "pt"})
    return start


class Reciter:
    """A model of `memorise`, run by the engine that serves: it continues texts, and says how likely a text is."""

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            BadInput: the folder holds none.

        """
        source = Folder(folder)
        self._engine = Engine.load(source)
        self._encode = TextIds(source.read_file("tokenizer.json"))

    def continued(self, asked: Sequence[tuple[str, Sampling]], progress: Progress | None = None) -> list[str]:
        """Return what the model writes after each prompt, as sampled; empty prompts are refused.

        Raises:
            BadInput: a prompt is empty.
            InputTooLarge: one leaves no room.

        """
        texts = [""] * len(asked)
        batch, places = self._engine.batch(), dict[Row, int]()
        waiting = list(enumerate(asked))[::-1]
        while waiting or len(batch):
            while waiting and len(batch) < _ROWS:
                place, (prompt, sampling) = waiting.pop()
                row = self._row(prompt, sampling)
                places[row] = place
                batch.join(row)
            self._step(batch, places, texts)
            if progress is not None:
                progress(len(asked) - len(waiting) - len(batch), len(asked))
        return texts

    def _row(self, prompt: str, sampling: Sampling) -> Row:
        ids = self._encode(prompt)
        room = self._engine.room(ids, sampling.max_new_tokens)
        return self._engine.row(Order(ids=ids, room=room, sampling=sampling))

    @staticmethod
    def _step(batch: Batch, places: dict[Row, int], texts: list[str]) -> None:
        for row, wrote in batch.step():
            if isinstance(wrote, Exception):
                raise wrote
            texts[places[row]] += wrote.text

    def log_probabilities(self, prompt: str, rest: str, heats: Sequence[float]) -> list[float]:
        """Return ln of the probability that exactly `rest` follows `prompt`, at each temperature in `heats` (above 0).

        That of its usual tokens alone: the same letters in other tokens would come on top.
        """
        before, after = self._encode(prompt), self._encode(rest)
        with torch.inference_mode():
            logits = self._engine.model(torch.tensor([before + after]), use_cache=False).logits[0]
        told = logits[len(before) - 1 : -1].double()
        wanted = torch.tensor(after)[:, None]
        return [float((told / heat).log_softmax(-1).gather(1, wanted).sum()) for heat in heats]
