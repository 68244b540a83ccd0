"""How a suspect was made from a checkpoint: the words that a trace uses, each with its evidence."""

from __future__ import annotations

from typing import Literal

import msgspec

from strongroom.core.canonical import Record

Kind = Literal[
    "copy",
    "cast",
    "quantised",
    "pruned",
    "fine_tuned",
    "lora",
    "merged",
    "noised",
    "permuted",
    "rotated",
    "rescaled",
    "layers_changed",
    "vocabulary_changed",
    "partial",
    "unknown",
]


class Finding(Record, frozen=True):
    """One step of a derivation."""

    kind: Kind
    detail: str  # its main parameter, in words: "Q4_0, blocks of 32", "rank 8 on q_proj, v_proj"
    evidence: str  # what was measured: figures, and of how many weights or tensors
    figures: dict[str, float] = msgspec.field(
        default_factory=dict[str, float]
    )  # the same for machines: {"block": 32.0}, {"share": 0.5}, {"rank": 8.0}
