"""The models that lineage's p-values are calibrated on: trains them, and (``measure``) compares every pair.

python benchmarks/null_bank.py train --work FOLDER      # some 70 minutes of one core
python benchmarks/null_bank.py measure --work FOLDER    # writes src/strongroom/lineage/null_bank.json
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.core.canonical import encode
from strongroom.engines.tiny_models import Text, Tiny, tiny_model, tuned_tiny
from strongroom.lineage.bank import FORMAT, Bank, BankModel
from strongroom.lineage.compare import EXACT, compare
from strongroom.lineage.descent import Descent, descent
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.wiring.suspects import open_suspect

BANK = Path(__file__).parent.parent / "src/strongroom/lineage/null_bank.json"

# Most are of one shape, so that they can be compared in the residual stream's own coordinates as well; some of those
# read the very same windows in the same order, and differ in the seed of their weights alone: the hardest strangers.
NARROW = [
    *(Tiny(name=f"same-order-{at:02d}", seed=100 + at, text="docstrings", order=1) for at in range(6)),
    *(Tiny(name=f"same-text-{at:02d}", seed=200 + at, text="docstrings", order=10 + at) for at in range(6)),
    *(Tiny(name=f"sources-{at:02d}", seed=300 + at, text="sources", order=30 + at) for at in range(6)),
    *(Tiny(name=f"reference-{at:02d}", seed=400 + at, text="reference", order=50 + at) for at in range(6)),
    *(Tiny(name=f"long-{at:02d}", seed=500 + at, text="docstrings", order=1, steps=2000) for at in range(4)),
]
OTHERS = [
    *(
        Tiny(name=f"wide-{at:02d}", seed=600 + at, text="docstrings", order=1, width=96, hidden=256, layers=4)
        for at in range(6)
    ),
    *(Tiny(name=f"deep-{at:02d}", seed=700 + at, text="sources", order=2, layers=6) for at in range(5)),
    *(Tiny(name=f"fat-{at:02d}", seed=800 + at, text="reference", order=3, hidden=384) for at in range(5)),
]
MODELS = [*NARROW, *OTHERS]
# Other people's fine-tunes of one base: on the same text in another order, on other texts, harder and longer.
PARENTS = [one.name for one in (*NARROW[:4], *NARROW[6:8], *NARROW[12:14], *NARROW[18:20], *OTHERS[:2])]
TUNES: list[tuple[Text, int, float]] = [
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


def opened(path: Path) -> Model:
    """Return a model; its file stays open until the script ends."""
    suspect = open_suspect(path).__enter__()
    return model_of(suspect, suspect.tokens())


def measure(work: Path, large: Sequence[Path]) -> None:
    """Compare every pair of the models that are there, and of the `large` ones, and write the bank."""
    tiny = [one for one in MODELS if (work / one.name).is_dir()]
    models = [opened(work / one.name) for one in tiny] + [opened(path) for path in large]
    about = [_about(one.name, one.text, model) for one, model in zip(tiny, models, strict=False)]
    about += [
        _about(path.parent.name or path.name, "", model) for path, model in zip(large, models[len(tiny) :], strict=True)
    ]
    pairs: dict[str, list[tuple[int, int, float]]] = {}
    began = time.monotonic()
    for one, other in itertools.combinations(range(len(models)), 2):
        tests = compare(models[one], models[other]).tests
        for test in tests:
            if test.method not in EXACT:
                pairs.setdefault(test.method, []).append((one, other, round(test.effect, 5)))
        exact = min(test.log10_p for test in tests if test.method in EXACT)
        pairs.setdefault("exact", []).append((one, other, round(exact, 3)))
        if other == len(models) - 1:
            print(f"{about[one].name}: {time.monotonic() - began:.0f} s", flush=True)
    bank = Bank(
        format=FORMAT,
        models=tuple(about),
        pairs={method: tuple(found) for method, found in pairs.items()},
        siblings=tuple(siblings(work)),
        note="Made by benchmarks/null_bank.py. Under `exact` stand log10 p-values, of the surest test, uncorrected.",
    )
    BANK.write_bytes(encode(bank) + b"\n")
    print(f"{len(models)} models, {len(pairs['exact'])} pairs, {len(bank.siblings)} pairs of siblings")


def _about(name: str, text: str, model: Model) -> BankModel:
    hidden = model.body.hidden(model.body.layers[0], model.weights.infos())
    return BankModel(name=name, width=model.body.width, hidden=hidden, layers=len(model.body.layers), text=text)


def siblings(work: Path) -> Iterator[tuple[int, float, float, float]]:
    """Yield for each pair of fine-tunes of one model how the one that is more like a derivative lies to the other."""
    for at, one in enumerate(MODELS):
        kept = [work / tune.name for tune in tunes(one.name) if (work / tune.name).is_dir()]
        if one.name not in PARENTS or len(kept) < len(TUNES):
            continue
        base, made = SafetensorsFiles(work / one.name), [SafetensorsFiles(path) for path in kept]
        for first, second in itertools.combinations(made, 2):
            ways = [descent(base, first, second), descent(base, second, first)]
            best: Descent = min((way for way in ways if way is not None), key=lambda way: way.strangeness)
            yield at, round(best.slope, 4), round(best.scatter, 4), round(best.cosine, 4)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--large", type=Path, nargs="*", default=[], help="other unrelated models: folders or files")
    asked = parser.parse_args()
    if asked.what == "train":
        train(asked.work)
    else:
        measure(asked.work, asked.large)


if __name__ == "__main__":
    main()
