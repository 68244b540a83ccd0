"""What thieves do to the weights of a marked copy, alone or with others who hold copies of the same checkpoint.

Pure functions of numpy arrays: a tensor goes in and a new one comes out. Of all tensors a thief has reason to change
those alone that carry the mark (the MLP's): what they do to the others is up to whoever calls. Whole models pass
through tensor by tensor, so that eight copies of a model need the memory of eight of its tensors. A re-quantisation is
`engines.gguf_weights.round_trip`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput

Array = npt.NDArray[np.float32]
_Draws = npt.NDArray[np.int64]
Change = Callable[[str, Array, np.random.Generator], Array]
Collusion = Callable[[str, Sequence[Array], np.random.Generator], Array]
CopyTensor = Callable[[int, str], Array]

JAMMING = (
    4.0  # times half of what the copies differ by: the strength that was measured to hurt a mark most for its cost
)
_PIECE = 1 << 20  # weights of each copy that are worked on at a time
_COLUMNS = "down_proj"  # the part whose hidden units are columns; in the others they are rows


def changed(
    names: Iterable[str], tensor: Callable[[str], Array], change: Change, *, chance: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    """Yield each of `names` with its changed tensor."""
    for name in names:
        yield name, change(name, tensor(name), chance)


def colluded(
    names: Iterable[str], copy_tensor: CopyTensor, collusion: Collusion, *, copies: int, chance: np.random.Generator
) -> Iterator[tuple[str, Array]]:
    """Yield each of `names` with what `copies` colluders make of it; `copy_tensor(i, name)` is what the i-th holds.

    Raises:
        BadInput: nobody colludes, or the copies' shapes differ.

    """
    if copies < 1:
        raise BadInput("nobody colludes", where="copies")
    for name in names:
        held = [copy_tensor(place, name) for place in range(copies)]
        if len({one.shape for one in held}) != 1:
            raise BadInput("the copies' shapes differ", where=name[:200])
        yield name, collusion(name, held, chance)


def prune(values: Array, share: float) -> Array:
    """Return `values` with the `share` of them that is smallest in magnitude set to zero."""
    cut = round(share * values.size)
    result = values.copy()
    if cut > 0:
        smallest = np.argpartition(np.abs(values), cut - 1, axis=None)[:cut]
        result.reshape(-1)[smallest] = 0
    return result


def add_noise(values: Array, share: float, chance: np.random.Generator) -> Array:
    """Return `values` with Gaussian noise of `share` of their standard deviation."""
    noise = chance.standard_normal(values.shape, dtype=np.float32)
    noise *= np.float32(share) * values.std(dtype=np.float64)
    noise += values
    return noise


def merge(values: Array, sibling: Array, share: float = 0.5) -> Array:
    """Return the mean of `values` and a `sibling`'s, which has `share` of the weight."""
    return (values * np.float32(1 - share) + sibling * np.float32(share)).astype(np.float32, copy=False)


def average(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return the mean of the copies."""
    del name, chance
    return _piecewise(copies, lambda stack: stack.mean(axis=0, dtype=np.float64))


def pick_weights(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return, weight by weight, one copy's, drawn at random."""
    del name
    return _piecewise(copies, lambda stack: _taken(stack, chance))


def pick_units(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return, hidden unit by hidden unit, one copy's, drawn at random for each tensor.

    Units are rows, but columns in a ``down_proj``.
    """
    axis = 1 if _COLUMNS in name else 0
    drawn: _Draws = chance.integers(0, len(copies), int(copies[0].shape[axis]))
    result = copies[0].copy()
    for place in range(1, len(copies)):
        units = drawn == place
        if axis:
            result[:, units] = copies[place][:, units]
        else:
            result[units] = copies[place][units]
    return result


def pick_tensors(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return one copy's tensor, drawn at random."""
    del name
    return copies[int(chance.integers(0, len(copies)))].copy()


def majority(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return the median of the copies, weight by weight; of an even number, one of the two middle ones at random.

    Where copies hold one of two values, as marked ones mostly do, that is the value which more of them hold.
    """
    del name
    low, high = (len(copies) - 1) // 2, len(copies) // 2

    def middle(stack: Array) -> Array:
        ordered = np.partition(stack, (low, high), axis=0)
        lower: Array = ordered[low]
        upper: Array = ordered[high]
        return np.where(_coins(len(lower), chance), lower, upper)

    return _piecewise(copies, middle)


def jam(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Return the mean where all copies agree; elsewhere the mean and, either way, four times half of their spread.

    This hides where the mark was under noise that costs little, being only where the mark is.
    """
    del name

    def noisy(stack: Array) -> Array:
        half: Array = (stack.max(axis=0) - stack.min(axis=0)) / np.float32(2)
        jump: Array = np.float32(JAMMING) * half
        return stack.mean(axis=0, dtype=np.float64) + np.where(_coins(len(half), chance), jump, -jump)

    return _piecewise(copies, noisy)


def jam_units(name: str, copies: Sequence[Array], chance: np.random.Generator) -> Array:
    """Jam as `jam` does, but with one sign for each hidden unit of a layer, along what its copies differ in.

    Signs of single weights average out over a unit; these do not. Which units are in one segment, thieves can't know.
    """
    del chance  # a layer's projections must be jammed alike, whichever comes first
    axis = 1 if _COLUMNS in name else 0
    layer = hashlib.sha256(name.rsplit(".", 2)[0].encode()).digest()[:8]
    drawn = np.random.default_rng(int.from_bytes(layer, "little"))
    signs = np.where(_coins(copies[0].shape[axis], drawn), JAMMING, -JAMMING).astype(np.float32)
    mean = average(name, copies, drawn)
    half = (np.maximum.reduce(list(copies)) - np.minimum.reduce(list(copies))) / 2
    along = np.sign(copies[0] - mean) * half
    return mean + along * (signs[None, :] if axis else signs[:, None])


COLLUSIONS: dict[str, Collusion] = {
    "average": average,
    "pick-weights": pick_weights,
    "pick-units": pick_units,
    "pick-tensors": pick_tensors,
    "majority": majority,
    "noise": jam,
    "noise-units": jam_units,
}


def _piecewise(copies: Sequence[Array], work: Callable[[Array], npt.NDArray[np.floating]]) -> Array:
    """Return what `work` makes of (copies, weights) float32, a piece at a time, in the copies' shape."""
    flat = [one.reshape(-1) for one in copies]
    result = np.empty(copies[0].shape, dtype=np.float32)
    out = result.reshape(-1)
    for start in range(0, len(out), _PIECE):
        piece = slice(start, start + _PIECE)
        out[piece] = work(np.stack([one[piece] for one in flat]).astype(np.float32, copy=False))
    return result


def _taken(stack: Array, chance: np.random.Generator) -> Array:
    """Return of (copies, weights) a copy's for each weight, drawn at random."""
    drawn: _Draws = chance.integers(0, len(stack), int(stack.shape[1]))
    return np.take_along_axis(stack, drawn[None], axis=0)[0]


def _coins(count: int, chance: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return `count` fair coins."""
    return chance.random(count, dtype=np.float32) < np.float32(0.5)
