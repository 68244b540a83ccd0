"""What the projection attack is run with: its ways of asking, and servers that answer out of a model's real logits."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np

from strongroom.attacks.project_doors import Door, Live, Purse, Wired
from strongroom.attacks.project_house import KEY, cpu, guarded
from strongroom.attacks.project_plans import (
    HALVINGS,
    Aim,
    Bisected,
    Catch,
    Lifted,
    Plan,
    by_number,
    echoed,
    embedded,
    whole,
)
from strongroom.attacks.project_policy import Bare, Policed
from strongroom.attacks.project_thief import go_on
from strongroom.attacks.project_wire import Codec
from strongroom.attacks.projection import Estimate, estimate, last_layer_error, vector_rank
from strongroom.attacks.rows import ProjectRow
from strongroom.attacks.stock_logits import Places
from strongroom.attacks.stock_server import KEY as STOCK_KEY
from strongroom.attacks.stock_server import MODEL, Setup, serving
from strongroom.serving.disclosure.tiers import TIERS

SMALL: Final = "small-64"
BRIEF: Final = "small-64-brief"
DEMO: Final = "smollm2-135m"
_DRAW: Final = 11


@dataclass(frozen=True, slots=True)
class Attack:
    """One way of asking, and what it is tried on."""

    name: str
    plan: Plan
    model: str = SMALL
    side: int = 80  # prompts, and tokens: more than the hidden size
    decimals: int | None = None  # a bare server that rounds …
    noise: float = 0.0  # … or adds fresh noise, which is no guard
    is_live: bool = True


ATTACKS: Final = (
    Attack("top-5", Lifted(5)),
    Attack("top-20", Lifted(20)),
    Attack("named-ids", by_number),
    Attack("echo", echoed),
    Attack("whole-vocabulary", whole),
    Attack("dithered", Lifted(20, repeats=16, dither=True), decimals=2),
    Attack("averaged", Lifted(20, repeats=24), side=128, noise=0.01),
    Attack("embeddings", embedded),
    Attack("bisection", Bisected(HALVINGS)),
    Attack("brief", Lifted(20), BRIEF),
    *(
        Attack(f"{name}-{DEMO}", plan, DEMO, 640, is_live=False)
        for name, plan in (
            ("top-5", Lifted(5)),
            ("top-20", Lifted(20)),
            ("named-ids", by_number),
            ("whole-vocabulary", whole),
            ("embeddings", embedded),
        )
    ),
)


class Lab:
    """One model's logits, and servers that answer out of them."""

    def __init__(self, folder: Path, model: str) -> None:
        """Use the logits in `folder`."""
        self.folder = folder
        self.model = model
        self.places = Places.at(folder)
        self.codec = Codec(self.places.names, self.places.prompts, model=MODEL)

    def row(self, attack: Attack, guard: str, most: int | None) -> ProjectRow:
        """Attack once; `most` bounds the queries."""
        began = perf_counter()
        with self._door(attack, guard) as (door, used):
            before, purse = used(), Purse(door, most)
            found, width, layer = self._attack(attack, purse, adapt=guard != "none")
            spent = used() - before
        hidden = self.places.width
        return ProjectRow(
            attack=attack.name,
            model=self.model,
            guard=guard,
            how="live" if attack.is_live else "policy",
            queries=purse.queries,
            refused=purse.refused,
            first_refused=purse.first_refused,
            tokens=purse.tokens,
            cpu=round(spent, 2),
            prompts=found.prompts,
            seen=width or found.tokens,
            estimate=found.size,
            gap=found.gap,
            width=hidden,
            found=found.is_found(hidden),
            codes=", ".join(f"{code}: {count}" for code, count in purse.codes.most_common()),
            seconds=round(perf_counter() - began, 1),
            layer=layer,
        )

    def aim(self, side: int) -> Aim:
        """Return what is asked about: the first prompts, and tokens drawn at random."""
        drawn = np.random.default_rng(_DRAW).choice(len(self.places.names), side, replace=False)
        return Aim(range(side), tuple(drawn.tolist()), len(self.places.prompts))

    def _attack(self, attack: Attack, purse: Purse, *, adapt: bool) -> tuple[Estimate, int, float | None]:
        """Return the estimate; of vectors also how long they are, and how well they give the last layer."""
        aim, catch = self.aim(attack.side), Catch()
        attack.plan(purse, aim, catch)
        if attack.plan is embedded:
            by_number(purse, aim, catch)
            while adapt and purse.left > 0:
                embedded(purse, Aim(range(aim.prompts), aim.tokens, aim.prompts), catch)
            return *_of_vectors(catch), _layer(catch, aim)
        if adapt:
            go_on(purse, aim, catch)
        return estimate(catch.seen()), 0, None

    @contextmanager
    def _door(self, attack: Attack, guard: str) -> Generator[tuple[Door, Callable[[], float]]]:
        """Give a door, and the CPU seconds of all behind it and of this process."""
        if not attack.is_live:
            policed = guard != "none"
            yield (Policed(self.places, TIERS[guard], self.codec) if policed else Bare(self.places)), cpu
            return
        bare = guard == "none"
        setup = Setup(str(self.folder), attack.decimals, attack.noise) if bare else Setup(str(self.folder))
        with ExitStack() as stack:
            port, process = stack.enter_context(serving(setup))
            processes, key = [process], STOCK_KEY
            if not bare:
                port, gate = stack.enter_context(guarded(port, guard))
                processes, key = [process, gate], KEY
            wired = Wired(port, key)
            stack.callback(wired.close)
            yield Live(wired, self.codec), partial(cpu, *processes)


def _of_vectors(catch: Catch) -> tuple[Estimate, int]:
    if not catch.vectors:
        return Estimate(0, 0, 0, 0.0), 0
    vectors = np.array(list(catch.vectors.values()))
    size, gap = vector_rank(vectors)
    return Estimate(len(vectors), vectors.shape[1], size, round(gap, 2)), vectors.shape[1]


def _layer(catch: Catch, aim: Aim) -> float | None:
    """Return how far the log probabilities that were seen are from a linear function of the vectors, if they tell."""
    seen = catch.seen()
    rows = [row for row in aim.rows if row in catch.vectors and set(aim.tokens) <= set(seen.get(row, ()))]
    if not rows or len(rows) <= len(catch.vectors[rows[0]]):
        return None
    vectors = np.array([catch.vectors[row] for row in rows])
    error = last_layer_error(vectors, np.array([[seen[row][token] for token in aim.tokens] for row in rows]))
    return float(f"{error:.2g}")
