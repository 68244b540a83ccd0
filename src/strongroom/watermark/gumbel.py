"""The draw that carries the mark: Gumbel-max with keyed noise, and its score.

Adding -ln(-ln u) to the logits and taking the largest draws from their softmax (Gumbel, 1954; Aaronson, 2022, for the
use as a mark). The u of a marked draw come from the key and the last four tokens, those of an unmarked one from a fresh
seed through the very same arithmetic, so that one can't be told from the other without the key, nor by its cost.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, cast

from strongroom.core.errors import BadInput
from strongroom.watermark.arrays import Array, Namespace, device_of, namespace
from strongroom.watermark.keys import MarkKey
from strongroom.watermark.prf import context_seed, signed, uniforms

T = TypeVar("T")  # numpy's array or torch's tensor: what comes in goes out

CONTEXT: Final = 4

# u lies in [2^-53, 1 - 2^-53], so noise lies in (-3.61, 36.74): a logit further than this below the largest never wins
_REACH: Final = 40.5


def choose(logits: T, seeds: T) -> T:
    """Return the drawn tokens (B,) int64: the argmax over V of `logits` (B, V) plus the Gumbel noise of `seeds` (B,).

    `logits` are scaled by temperature and masked by top-k and top-p already (ruled out is -inf); `seeds` are signed
    64-bit. Arrays of numpy or torch, on any device; the arithmetic is float64. Tokens that can't win are left out where
    that saves work (on a CPU), which never changes a choice: the noise of the others is the same.

    Raises:
        BadInput: shapes don't fit, or a row has no finite logit, or one that is NaN or +inf.

    """
    return cast("T", _choose(cast("Array", logits), cast("Array", seeds)))


def _choose(logits: Array, seeds: Array) -> Array:
    """Draw, as `choose` says."""
    if len(logits.shape) != 2 or tuple(seeds.shape) != tuple(logits.shape[:1]):  # noqa: PLR2004 - rows and vocabulary
        raise BadInput(f"logits {tuple(logits.shape)} and seeds {tuple(seeds.shape)} don't fit", where="choose")
    xp = namespace(logits, seeds)
    logits = xp.astype(logits, xp.float64)
    top = xp.max(logits, axis=-1, keepdims=True)
    if not bool(xp.all(xp.isfinite(top))):
        raise BadInput("a row of logits has no finite largest value", where="choose")
    if not _is_on_cpu(logits):
        tokens = xp.arange(logits.shape[1], dtype=xp.int64, device=device_of(logits))
        return xp.argmax(logits + noise(seeds[:, None], tokens[None, :], xp), axis=-1)
    within = logits >= top - _REACH
    return xp.stack([_choose_row(logits[row], seeds[row], within[row], xp=xp) for row in range(logits.shape[0])])


def _choose_row(logits: Array, seed: Array, within: Array, *, xp: Namespace) -> Array:
    """Return the drawn token of one row: a row's work fits a processor's cache, a batch's does not."""
    (kept,) = xp.nonzero(within)
    if 2 * kept.shape[0] > logits.shape[0]:
        return xp.argmax(logits + noise(seed, xp.arange(logits.shape[0], dtype=xp.int64), xp), axis=-1)
    return kept[xp.argmax(logits[kept] + noise(seed, kept, xp), axis=-1)]


def _is_on_cpu(array: Array) -> bool:
    """Say whether rows are better handled one by one, which an accelerator's launches would make slow."""
    return str(device_of(array)) == "cpu"


def noise(seeds: Array, tokens: Array, xp: Namespace) -> Array:
    """Return the Gumbel noise -ln(-ln u) of each (seed, token), float64."""
    return -xp.log(-xp.log(uniforms(seeds, tokens, xp)))


def scores(seeds: Array, tokens: Array, xp: Namespace) -> Array:
    """Return -ln(1 - u) of each (seed, token), float64: Exp(1) without the mark, larger where the mark chose."""
    return -xp.log1p(-uniforms(seeds, tokens, xp))


class Marker:
    """The seeds of one answer: one object per request, asked once per drawn token.

    Marked is a draw whose four last tokens are all of this answer and have not been a context in it before: the prompt
    is never context, and a repeated context would repeat its choice and skew the text. All others get a fresh seed.
    """

    __slots__ = ("_fresh", "_key", "_seen")

    def __init__(self, key: MarkKey | None, fresh: Callable[[], int]) -> None:
        """Mark with `key` (None: nothing is marked); `fresh` gives seeds for unmarked draws."""
        self._key = None if key is None else key.words()
        self._fresh = fresh
        self._seen: set[tuple[int, ...]] = set()

    def seed(self, generated: Sequence[int]) -> tuple[int, bool]:
        """Return the seed of the draw that follows the tokens `generated` of this answer, and whether it is marked."""
        if self._key is None or len(generated) < CONTEXT:
            return self._fresh(), False
        context = tuple(generated[-CONTEXT:])
        if context in self._seen:
            return self._fresh(), False
        self._seen.add(context)
        return context_seed(self._key, context), True


def fresh_seeds(seed: int | None) -> Callable[[], int]:
    """Return a source of signed 64-bit seeds for unmarked draws.

    Without `seed` they come from the operating system. With it they are a fixed stream, so that the same account,
    epoch, prompt and seed give the same text (on the same model and machine).
    """
    if seed is None:
        return lambda: secrets.randbits(64) - (1 << 63)
    stream = hashlib.sha256(b"strongroom/mark-fresh@1\n%d\n" % seed).digest()
    count = iter(range(1 << 63))

    def fixed() -> int:
        block = hashlib.sha256(stream + next(count).to_bytes(8, "little")).digest()
        return signed(int.from_bytes(block[:8], "little"))

    return fixed
