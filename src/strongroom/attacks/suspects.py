"""Every suspect of the attack by laundering, by name: how it is made and written, and what a trace should say of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np

from strongroom.attacks.bodies import write_body, write_cut, write_some
from strongroom.attacks.launder_lab import TINY, Lab
from strongroom.attacks.siblings import REFERENCE, SIBLINGS
from strongroom.attacks.steps import STEPS, Expected
from strongroom.attacks.triples import TRIPLES
from strongroom.core.errors import BadInput
from strongroom.engines.folder import Folder
from strongroom.engines.gemma_model import gemma_model
from strongroom.ports.weights import WeightSource

Verdict = Literal["match", "no_match", "common_ancestor"]
Against = Literal["ours", "pair", "tiny"]
"""The registry: ours and its public base; with the sibling that thieves merge with; or one small model alone."""

_SEED: Final = 20_261_123
_SHARD: Final = range(10, 20)  # the layers of the part that got out


@dataclass(frozen=True, slots=True)
class Made:
    """A suspect on the disk, and the model to run, if it is a whole one of our tokens."""

    path: Path
    model: WeightSource | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A suspect: its name, how it is put into a place, and what is expected."""

    name: str
    make: Callable[[Lab, Path], Made]
    expected: Verdict
    derivation: tuple[Expected, ...] = ()
    is_named: bool = False  # the leaker should be
    against: Against = "ours"


def cases() -> list[Case]:
    """Return every suspect: single steps, parts, the triples, and those that must not match."""
    chains = [(name,) for name in STEPS] + list(TRIPLES)
    return [
        *(_chain(steps) for steps in chains),
        *_parts(),
        Case("public-base", lambda lab, _place: _whole(lab.base), "common_ancestor"),
        *(
            Case(f"sibling-{name.removesuffix('-sibling')}", partial(_sibling, name=name), "common_ancestor")
            for name in (*SIBLINGS, REFERENCE)
        ),
        *(Case(f"stranger-{one.name}", partial(_tiny, at=at), "no_match") for at, one in enumerate(TINY)),
        *(Case(f"tiny-{one.name}", partial(_tiny, at=at), "no_match", against="tiny") for at, one in enumerate(TINY)),
        Case("stranger-gemma-3", lambda lab, _place: Made(gemma_model(lab.work)), "no_match"),
    ]


def chosen(only: list[str]) -> list[Case]:
    """Return the cases named in `only`, or all.

    Raises:
        BadInput: a name that is no case's.

    """
    every = cases()
    if unknown := sorted(set(only) - {one.name for one in every}):
        known = ", ".join(one.name for one in every)
        raise BadInput(f"no such row: {', '.join(unknown)[:200]}; there are {known}", where="--only")
    return [one for one in every if not only or one.name in only]


def _chain(steps: tuple[str, ...]) -> Case:
    """Return the case of one step or several after one another."""
    return Case(
        name="+".join(steps),
        make=partial(_laundered, steps=steps),
        expected="match",
        derivation=tuple(STEPS[one].expected for one in steps),
        is_named=True,
        against="pair" if any(one.startswith("merge") for one in steps) else "ours",
    )


def _parts() -> Iterator[Case]:
    """Yield what is less than a whole model."""
    partly = (Expected(("partial",)),)
    for name in ("lora-8", "lora-16"):
        yield Case(f"adapter-{name}", partial(_adapter, name=name), "match", (STEPS[name].expected,))
    yield Case("part", lambda lab, place: Made(write_some(lab.copy, _SHARD, place)), "match", partly, is_named=True)
    yield Case("cut", lambda lab, place: Made(write_cut(lab.copy, 0.5, place)), "match", partly, is_named=True)


def _laundered(lab: Lab, place: Path, *, steps: tuple[str, ...]) -> Made:
    """Do the steps one after another to the copy and write what comes of it."""
    body = lab.copy
    for at, step in enumerate(steps):
        body = STEPS[step](lab, body, _chance(steps[: at + 1]))
    path = write_body(body, place)
    return _whole(path) if path.is_dir() else Made(path, body)  # a body holds what its GGUF file holds


def _adapter(lab: Lab, place: Path, *, name: str) -> Made:
    """Put an adapter alone into a folder."""
    shutil.copytree(lab.adapter(name), place)
    return Made(place)


def _sibling(lab: Lab, _place: Path, *, name: str) -> Made:
    return _whole(lab.sibling(name))


def _tiny(lab: Lab, _place: Path, *, at: int) -> Made:
    return Made(lab.tiny(TINY[at]))  # of another vocabulary: no perplexity to compare


def _whole(folder: Path) -> Made:
    return Made(folder, Folder(folder))


def _chance(steps: tuple[str, ...]) -> np.random.Generator:
    """Return the chance of a chain's last step: the same whichever other rows are made."""
    digest = hashlib.sha256("+".join(steps).encode()).digest()[:8]
    return np.random.default_rng([_SEED, int.from_bytes(digest, "little")])
