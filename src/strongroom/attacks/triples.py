"""Forty chains of three steps, registered here before any was traced; the last ten are made to hide the descent.

Only a first step is trained, so that no chain needs a training of its own. Names are those of `steps.STEPS`.
"""

from __future__ import annotations

from typing import Final

PLAIN: Final[tuple[tuple[str, str, str], ...]] = (
    ("fine-tune-300", "prune-50", "q4_0"),
    ("fine-tune-300", "noise-0.05", "q8_0"),
    ("fine-tune-300", "units", "q4_0"),
    ("fine-tune-300", "drop-3", "float16"),
    ("fine-tune-300", "merge-0.3", "q4_1"),
    ("fine-tune-300", "heads", "int8"),
    ("continued-300", "units", "prune-20"),
    ("continued-300", "q8_0", "noise-0.05"),
    ("continued-300", "grow-512", "q4_0"),
    ("continued-300", "merge-0.5", "float16"),
    ("lora-8", "q4_0", "prune-20"),
    ("lora-8", "units", "float16"),
    ("lora-8", "shrink-32768", "q8_0"),
    ("lora-8", "merge-0.3", "noise-0.05"),
    ("lora-16", "prune-50", "q4_1"),
    ("lora-16", "drop-3", "q8_0"),
    ("lora-16", "coordinates", "int8"),
    ("lora-16", "dummies-128", "float16"),
    ("merge-0.5", "prune-20", "q4_0"),
    ("merge-0.5", "units", "q8_0"),
    ("merge-0.3", "noise-0.1", "drop-3"),
    ("prune-50", "units", "q4_0"),
    ("prune-80", "noise-0.05", "q8_0"),
    ("noise-0.1", "heads", "q4_1"),
    ("drop-3", "units", "q4_0"),
    ("repeat-4", "prune-20", "float16"),
    ("shrink-32768", "units", "int8"),
    ("grow-512", "repeat-4", "q4_0"),
    ("dummies-128", "noise-0.05", "q4_0"),
    ("ternary", "units", "float16"),
)
ADVERSARIAL: Final[tuple[tuple[str, str, str], ...]] = (
    ("rotation", "units", "q4_0"),
    ("units", "rotation", "noise-0.05"),
    ("rotation", "scales", "prune-20"),
    ("scales", "units", "q4_1"),
    ("units", "scales", "prune-50"),
    ("fine-tune-300", "rotation", "units"),
    ("lora-16", "scales", "rotation"),
    ("merge-0.3", "units", "rotation"),
    ("drop-3", "rotation", "units"),
    ("shrink-32768", "scales", "rotation"),
)
TRIPLES: Final = (*PLAIN, *ADVERSARIAL)
