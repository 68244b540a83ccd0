"""How wide a suspect's numbers are, and how far rounding to them alone can have moved its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.lineage.elements import FLOATS
from strongroom.lineage.findings import Finding
from strongroom.lineage.how.samples import Pair, chosen, matrices, rows_of
from strongroom.ports.marks import Tensors
from strongroom.ports.suspects import Suspect

F32 = npt.NDArray[np.float32]

_TYPES: Final[Mapping[str, npt.DTypeLike]] = {
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
}
_WORDS: Final[Mapping[str, str]] = {
    "F8_E4M3": "float8 (E4M3)",
    "F8_E5M2": "float8 (E5M2)",
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
}
_FRACTION: Final[Mapping[str, int]] = {"F8_E4M3": 3, "F8_E5M2": 2, "BF16": 7, "F16": 10, "F32": 23, "F64": 23}
_BITS: Final[Mapping[str, int]] = {"F8_E4M3": 8, "F8_E5M2": 8, "BF16": 16, "F16": 16, "F32": 32, "F64": 64}
_NUMBERED: Final = re.compile(r"\.\d+\.")  # in a layer
_ALL: Final = 0.999  # of weights must be numbers of the narrower type
_ROWS: Final = 32
_TENSORS: Final = 6


@dataclass(frozen=True, slots=True)
class Width:
    """What numbers a file has: what they are kept in, and the narrowest type that they all belong to."""

    kept: str
    true: str


def width_of(weights: Tensors, kinds: Mapping[str, str] | None = None) -> Width:
    """Return what most matrices are kept in, by `kinds` or else their dtypes, and what their weights truly are."""
    infos = weights.infos()
    names = matrices(infos) or [name for name in infos if infos[name].dtype in FLOATS]
    if not names:
        return Width("F32", "F32")
    said = [kind if (kind := (kinds or {}).get(name, "")) in FLOATS else infos[name].dtype for name in names]
    kept = max(sorted(set(said)), key=said.count)
    inner = [name for name in names if _NUMBERED.search(name)] or names  # embeddings are often left as they were
    some = [rows_of(weights, name, _ROWS) for name in chosen(inner, _TENSORS)]
    values = np.concatenate([one.ravel() for one in some])
    values = values[values != 0]
    true = next((name for name in _TYPES if values.size and _BITS[name] < _BITS[kept] and _are(values, name)), kept)
    if kept == "F16" and values.size and _are(values, "BF16"):
        true = "BF16"
    return Width(kept, true)


def cast(source: Width, suspect: Width, some: Sequence[Pair]) -> Finding | None:
    """Return that the suspect's numbers are of another type than the source's, or None."""
    if suspect.kept == source.kept and suspect.true in {suspect.kept, source.true}:
        return None
    into = suspect.true if _FRACTION[suspect.true] < _FRACTION[source.true] else suspect.kept
    same = total = 0
    for one in some:
        same += int((rounded(one.source, into) == one.aligned).sum())
        total += one.source.size
    via = f", kept in {_WORDS[suspect.kept]}" if into != suspect.kept else ""
    share = same / max(total, 1)
    return Finding(
        kind="cast",
        detail=f"{_WORDS[into]}{via}, from {_WORDS[source.kept]}",
        evidence=(
            f"of {total:,} weights in {len(some)} matrices, {share:.2%} are the checkpoint's, rounded to"
            f" {_WORDS[into]}, bit for bit"
        ),
        figures={"bits": float(_BITS[into]), "kept_bits": float(_BITS[suspect.kept]), "equal": round(share, 6)},
    )


def rounded(values: F32, dtype: str) -> F32:
    """Return values as they come back from a safetensors dtype."""
    if dtype not in _TYPES:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(_TYPES[dtype]).astype(np.float32)


def rounding(values: F32, dtype: str) -> F32:
    """Return the variance that rounding to a dtype adds to each of `values`, by their last places."""
    _, exponents = np.frexp(values)
    last: F32 = np.ldexp(np.float32(1), exponents - 1 - _FRACTION.get(dtype, 23))
    return last * last / np.float32(12)


def suspect_width(suspect: Suspect) -> Width:
    """Return what numbers a suspect file has."""
    return width_of(suspect, suspect.storage().kinds)


def _are(values: F32, dtype: str) -> bool:
    return bool((rounded(values, dtype) == values).mean() > _ALL)
