"""Values of segments as files of colluders give them, and codes to compare them with, at full size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strongroom.core.secrets import Secret
from strongroom.lineage.codes import Design, biases, common_code, own_code
from strongroom.lineage.decode import Candidate, Reading, Scheme
from strongroom.lineage.keys import checkpoint_keys, derive

F64 = npt.NDArray[np.float64]
SIGNAL, HOST_LEFT = 0.6, 0.2  # what embedding aims at: value of a segment, share of the host's own that stays


@dataclass(frozen=True)
class Book:
    """A checkpoint's codes."""

    scheme: Scheme
    candidates: list[Candidate]

    def codes(self, copies: Sequence[int]) -> F64:
        return np.array([np.concatenate([self.scheme.common, self.candidates[at].code]) for at in copies], float)


def book(seed: int, *, recipients: int = 1000, design: Design | None = None) -> Book:
    master = Secret(np.random.default_rng(seed).bytes(32))
    design = design or Design()
    keys = checkpoint_keys(master, "ckpt")
    bias = biases(keys.biases, design.own)
    made = [
        Candidate(f"copy-{at}", f"r{at}", own_code(derive(master, "code", f"copy-{at}"), bias))
        for at in range(recipients)
    ]
    return Book(Scheme(bias, common_code(keys.common)), made)


def leaked(rng: np.random.Generator, codes: F64, way: str, *, noise: float = 0.15) -> tuple[Reading, Reading]:
    """Return both readings of a file that the holders of `codes` (copies, segments) made together."""
    count, segments = codes.shape
    if way == "average":
        mark = codes.mean(axis=0)
    elif way == "pick":
        mark = codes[rng.integers(0, count, segments), np.arange(segments)]
    elif way == "majority":
        mark = np.sign(codes.sum(axis=0))
        mark[mark == 0] = rng.choice([-1.0, 1.0], int((mark == 0).sum()))
    else:
        agree = np.abs(codes.sum(axis=0)) == count
        mark = np.where(agree, codes[0], codes.mean(axis=0) + 4 * rng.choice([-1.0, 1.0], segments))
    host, rest = rng.normal(size=segments), rng.normal(0, noise, segments)
    return Reading("blind", SIGNAL * mark + HOST_LEFT * host + rest), Reading("original", SIGNAL * mark + rest)


def unmarked(rng: np.random.Generator, segments: int) -> tuple[Reading, Reading]:
    """Return both readings of a file that has no mark in it."""
    return Reading("blind", rng.normal(size=segments)), Reading("original", rng.normal(0, 0.3, segments))
