"""Other people's fine-tunes of the public base that ours descends from: what must never be called a derivative of ours.

All but one start from the base as published, in bfloat16. The *twin* is made as ours was, from the same start, by the
same recipe on the same text, but for the seed; the reference sibling likewise, a little longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.attacks.leaker import Progress
from strongroom.engines.demo_model import demo_model
from strongroom.engines.fine_tune import Recipe, fine_tune, training_ids
from strongroom.engines.folder import Folder, make_folder
from strongroom.engines.reference_host import HEALING, TRAINING_LETTERS, Dithered, reference_base, reference_sibling
from strongroom.engines.texts import source_texts, training_texts

REFERENCE: Final = "reference-sibling"


@dataclass(frozen=True, slots=True)
class Sibling:
    """How somebody else made a fine-tune of the base."""

    recipe: Recipe
    texts: Callable[[int], str] = training_texts
    as_ours: bool = False  # from the start that ours had, before it was rounded and published


SIBLINGS: Final[Mapping[str, Sibling]] = {
    "twin": Sibling(replace(HEALING, seed=11), as_ours=True),
    "gentle": Sibling(Recipe(steps=150, rate=5e-5, seed=12)),
    "hard": Sibling(Recipe(steps=80, rate=3e-4, seed=13)),
    "sources": Sibling(Recipe(steps=100, rate=1e-4, seed=14), source_texts),
    "sources-hard": Sibling(Recipe(steps=40, rate=3e-4, seed=15), source_texts),
}


def sibling(work: Path, name: str, progress: Progress) -> Path:
    """Return the folder of the sibling `name` in bfloat16, training it in `work` once.

    Raises:
        MissingExtra: the package with the model is not installed.
        StorageError: the disk said no.

    """
    tell = partial(progress, f"training the sibling {name}")
    if name == REFERENCE:
        return reference_sibling(work, tell).bfloat16
    target, how = make_folder(work / "siblings") / name, SIBLINGS[name]
    if not (target / "model.safetensors").is_file():
        source = Dithered(demo_model(work)) if how.as_ours else Folder(reference_base(work))
        ids = training_ids(source, letters=TRAINING_LETTERS, texts=how.texts)
        fine_tune(source, ids, target, recipe=how.recipe, progress=tell)
    return target
