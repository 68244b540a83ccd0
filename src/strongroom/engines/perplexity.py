"""What a change of a checkpoint's weights costs: the perplexity of two checkpoints on the same texts, token by token.

The difference of two losses on the same token varies far less than either loss, so that some 100,000 tokens tell a cost
of a few hundredths of a per cent. Neighbouring tokens share their context: the interval is taken over windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.fine_tune import autocast
from strongroom.engines.text_ids import TextIds
from strongroom.engines.transformers_load import Output, load_model
from strongroom.ports.weights import WeightSource

try:
    import torch
except ModuleNotFoundError as missing:
    raise MissingExtra("running a model needs torch, which is not installed", where=str(missing.name)) from missing

Progress = Callable[[int, int], None]
Array = npt.NDArray[np.float64]

WINDOW = 512  # tokens that a token's context begins with: the first of each is not scored
_LEAST = 8  # windows: of fewer, an interval means nothing
_NORMAL_975 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Reading:
    """How much of a text is read, and how; `fast` is bfloat16 autocast: three times the speed, for tables."""

    tokens: int | None = None  # None: all of it
    fast: bool = False  # otherwise float32


@dataclass(frozen=True, slots=True)
class Losses:
    """A checkpoint's losses on a text, nats a token."""

    windows: tuple[npt.NDArray[np.float32], ...]  # of each window, of its tokens but the first

    @property
    def tokens(self) -> int:
        """How many tokens were scored."""
        return sum(len(window) for window in self.windows)

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss."""
        return math.exp(sum(float(window.sum(dtype=np.float64)) for window in self.windows) / self.tokens)


@dataclass(frozen=True, slots=True)
class PairedCost:
    """What a change costs: the ratio of perplexities less one (0.001 is 0.1 %), with its 95 % interval."""

    ratio: float
    low: float
    high: float
    tokens: int  # that were scored, which may be fewer than asked for
    ppl_original: float
    ppl_marked: float


class _Model(Protocol):
    """The part of a torch module that reading needs."""

    def float(self) -> _Model: ...
    def __call__(self, input_ids: torch.Tensor, **options: object) -> Output: ...


def paired_cost(
    original: WeightSource,
    marked: WeightSource,
    texts: str,
    *,
    reading: Reading | None = None,
    progress: Progress | None = None,
) -> PairedCost:
    """Return what `marked` costs against `original` on `texts`, in `original`'s tokens.

    One model is in memory at a time. `progress` is told (windows read, windows in all) over both.

    Raises:
        BadInput: a checkpoint can't be loaded, or the text is too short for an interval.

    """
    both = reading or Reading()
    ids = token_ids(original, texts, both.tokens)
    first = losses(original, ids, fast=both.fast, progress=_part(progress, 0))
    second = losses(marked, ids, fast=both.fast, progress=_part(progress, 1))
    return compare(first, second)


def token_ids(source: WeightSource, texts: str, most: int | None = None) -> list[int]:
    """Return the first `most` tokens of `texts`, or all that it has.

    Raises:
        BadInput: the checkpoint has no tokenizer, or a broken one.

    """
    return TextIds(source.read_file("tokenizer.json"))(texts)[:most]


def losses(source: WeightSource, ids: list[int], *, fast: bool = False, progress: Progress | None = None) -> Losses:
    """Return the losses of `source`'s model on `ids`, in windows of 512 tokens (or of its context, where shorter).

    A short last window is left out, and so is the first token of each, which has no context.

    Raises:
        BadInput: the checkpoint can't be loaded, or the text is too short.

    """
    loaded = load_model(source)
    length = min(WINDOW, cast("int", getattr(loaded.config, "max_position_embeddings", WINDOW)))
    count = len(ids) // length
    if count < _LEAST:
        raise BadInput(f"{len(ids)} tokens are no {_LEAST} windows of {length}", where="text")
    model, windows = cast("_Model", loaded).float(), torch.tensor(ids[: count * length]).reshape(count, length)
    read: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode(), autocast(fast=fast):
        for row in windows:
            read.append(_row_losses(model, row))
            if progress is not None:
                progress(len(read), count)
    return Losses(tuple(read))


def compare(original: Losses, marked: Losses) -> PairedCost:
    """Return what the second costs against the first: losses on the very same tokens.

    The interval is Student's on the windows' mean differences, each window one case.

    Raises:
        BadInput: they are of different windows.

    """
    if [len(window) for window in original.windows] != [len(window) for window in marked.windows]:
        raise BadInput("the two were not read on the same windows", where="text")
    pairs = zip(original.windows, marked.windows, strict=True)
    means: Array = np.array([(second - first).mean(dtype=np.float64) for first, second in pairs])
    mean = float(means.mean())
    half = student_975(len(means) - 1) * float(means.std(ddof=1)) / math.sqrt(len(means))
    return PairedCost(
        ratio=math.expm1(mean),
        low=math.expm1(mean - half),
        high=math.expm1(mean + half),
        tokens=original.tokens,
        ppl_original=original.perplexity,
        ppl_marked=marked.perplexity,
    )


def student_975(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, by Cornish and Fisher's expansion: to 0.002 from 7 degrees on."""
    z, n = _NORMAL_975, degrees
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


def _row_losses(model: _Model, row: torch.Tensor) -> npt.NDArray[np.float32]:
    """Return the losses of one window, (length,), of its tokens but the first."""
    logits = model(row[None], use_cache=False).logits[0, :-1].float()
    return torch.nn.functional.cross_entropy(logits, row[1:], reduction="none").numpy()


def _part(progress: Progress | None, place: int) -> Progress | None:
    """Return a progress that tells one of two equal halves."""
    if progress is None:
        return None
    tell = progress
    return lambda done, total: tell(place * total + done, 2 * total)
