"""The models that lineage's p-values are calibrated on: trains them, and (``measure``) compares every pair.

python benchmarks/null_bank.py train --work FOLDER      # some 90 minutes of one core
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from strongroom.engines.tiny_models import Text, Tiny, tiny_model, tuned_tiny

# Most are of one shape, so that they can be compared in the residual stream's own coordinates as well; half of those
# read the very same windows in the same order, and differ in the seed of their weights alone: the hardest strangers.
NARROW = [
    *(Tiny(name=f"same-order-{at:02d}", seed=100 + at, text="docstrings", order=1) for at in range(16)),
    *(Tiny(name=f"same-text-{at:02d}", seed=200 + at, text="docstrings", order=10 + at) for at in range(8)),
    *(Tiny(name=f"sources-{at:02d}", seed=300 + at, text="sources", order=30 + at) for at in range(8)),
    *(Tiny(name=f"reference-{at:02d}", seed=400 + at, text="reference", order=50 + at) for at in range(8)),
    *(Tiny(name=f"long-{at:02d}", seed=500 + at, text="docstrings", order=1, steps=2000) for at in range(4)),
]
OTHERS = [
    *(
        Tiny(name=f"wide-{at:02d}", seed=600 + at, text="docstrings", order=1, width=96, hidden=256, layers=4)
        for at in range(8)
    ),
    *(Tiny(name=f"deep-{at:02d}", seed=700 + at, text="sources", order=2, layers=6) for at in range(6)),
    *(Tiny(name=f"fat-{at:02d}", seed=800 + at, text="reference", order=3, hidden=384) for at in range(6)),
]
MODELS = [*NARROW, *OTHERS]
# Other people's fine-tunes of one base: on the same text in another order, on other texts, harder and longer.
PARENTS = [one.name for one in (*NARROW[:4], *NARROW[16:18], *NARROW[24:26], *NARROW[32:34], *OTHERS[:2])]
TUNES = [
    ("docstrings", 150, 3e-4),
    ("docstrings", 150, 3e-4),
    ("docstrings", 400, 1e-3),
    ("sources", 150, 3e-4),
    ("sources", 150, 3e-4),
    ("reference", 150, 1e-3),
]


def tunes(parent: str) -> list[Tiny]:
    """Return the siblings to be made of a model."""
    return [
        Tiny(name=f"{parent}+{at}", seed=0, text=text, order=1000 + at, steps=steps, rate=rate)
        for at, (text, steps, rate) in enumerate(TUNES)
    ]


def interleaved() -> list[Tiny]:
    """Return all models, every kind early, so that a run cut short has some of each."""
    kinds: dict[str, list[Tiny]] = {}
    for one in MODELS:
        kinds.setdefault(one.name.rpartition("-")[0], []).append(one)
    longest = max(map(len, kinds.values()))
    return [kind[at] for at in range(longest) for kind in kinds.values() if at < len(kind)]


def train(work: Path) -> None:
    """Train whatever is missing."""
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for at, one in enumerate(interleaved()):
        folder = tiny_model(work, one)
        if one.name in PARENTS:
            for tune in tunes(one.name):
                tuned_tiny(work, folder, tune)
        print(f"{at + 1} of {len(MODELS)}: {one.name}, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train"])
    parser.add_argument("--work", type=Path, required=True)
    asked = parser.parse_args()
    train(asked.work)


if __name__ == "__main__":
    main()
