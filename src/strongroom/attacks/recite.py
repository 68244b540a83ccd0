"""Theft four: training text out of a model that has learnt it by heart, and what each guard leaves standing.

A small model is over-trained on a corpus with secrets and documents planted in it, once, four and sixteen times. Those
who know how a text begins have it go on: through the bare engine, of models that were trained on cleaner corpora, and
through a real gateway with and without its output filter. A willing model then says what it knows in other dresses, and
the filter's own refusals are asked what the corpus holds. Only servers of its own, on loopback, are asked (rule 13).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache, partial
from pathlib import Path
from typing import Final

from strongroom.attacks import recite_evade, recite_extract, recite_oracle
from strongroom.attacks.kept_rows import KeptRows
from strongroom.attacks.leaker import Progress
from strongroom.attacks.recite_guards import COARSE, FINE, GUARDS, ground_of, index_of
from strongroom.attacks.recite_models import BRIEF as BRIEF_PLAN
from strongroom.attacks.recite_models import MODELS, Models, Plan
from strongroom.attacks.rows import EvadedRow, OracleRow, Recited, RecitedRow, TrainedRow
from strongroom.core.errors import BadInput
from strongroom.engines.folder import make_folder

EVASIONS: Final = "evasions"
ORACLE: Final = "oracle"
BRIEF: Final = "brief"  # the bare engine and the gateway as it comes, of a model that is made in seconds
_FILTERS: Final = {"recall-stop": FINE, "recall-stop-coarse": COARSE}
_GUARDS: Final = {guard.name: guard for guard in GUARDS}
NAMES: Final = (*_GUARDS, EVASIONS, ORACLE)
_IN_BRIEF: Final = ("none", "recall-default")


def run(
    work: Path, *, only: Collection[str] = (), fresh: bool = False, progress: Progress, plan: Plan | None = None
) -> Recited:
    """Run the extraction through each guard (those named in `only`, or all), the evasions and the oracle.

    A row is kept in `work` as soon as it is there, so that a run which was cut short goes on.

    Args:
        work: a folder for models, some 30 MB, kept for the next run.
        only: names of guards, `evasions` or `oracle`; or `brief` alone, for a small model and two guards.
        fresh: make rows again that are kept.
        progress: told (what, done, in all).
        plan: how much of everything; without it, the whole attack.

    Raises:
        BadInput: a name that there is not.
        MissingExtra: torch, or what filters and indexes, is not installed.
        StoreUnavailable: a gateway does not come up, or the folder can't be written.

    """
    if list(only) == [BRIEF]:
        only, plan, work = _IN_BRIEF, BRIEF_PLAN, work / BRIEF
    wanted = _chosen(only)
    models = Models(work, plan or Plan(), progress)
    made = _Run(models, progress, fresh=fresh)
    rows, total = list[RecitedRow](), len(wanted)
    trained = dict[str, TrainedRow]()
    for at, name in enumerate(wanted):
        progress("guards", at, total)
        if name in _GUARDS:
            model = _GUARDS[name].model
            trained[model] = made.trained(model)
            rows += made.extracted(name)
    evaded = made.evaded() if EVASIONS in wanted else []
    oracle = made.oracle() if ORACLE in wanted else []
    progress("guards", total, total)
    return Recited(tuple([trained[one] for one in MODELS if one in trained]), tuple(rows), tuple(evaded), tuple(oracle))


class _Run:
    """One run: rows that are kept, and how the others are made."""

    def __init__(self, models: Models, progress: Progress, *, fresh: bool) -> None:
        self._models = models
        self._progress = progress
        self._index = cache(partial(index_of, models.corpus, models.work))
        work = make_folder(models.work / f"recital-{ground_of(models.corpus)}")
        self._trained = KeptRows(work / "recite-trained.jsonl", TrainedRow, lambda row: row.model, fresh=fresh)
        self._rows = KeptRows(work / "recite-rows.jsonl", RecitedRow, lambda row: (row.attack, row.guard), fresh=fresh)
        self._evaded = KeptRows(
            work / "recite-evaded.jsonl", EvadedRow, lambda row: (row.guard, row.evasion, row.what), fresh=fresh
        )
        self._oracle = KeptRows(
            work / "recite-oracle.jsonl", OracleRow, lambda row: (row.policy, row.way, row.what), fresh=fresh
        )

    def trained(self, model: str) -> TrainedRow:
        return self._trained.get(model, lambda: self._models.trained(model))

    def extracted(self, name: str) -> list[RecitedRow]:
        guard, attacks = _GUARDS[name], recite_extract.names(self._models)
        return self._rows.get_all(
            [(attack, name) for attack in attacks],
            lambda: recite_extract.extracted(self._models, guard, self._index),
        )

    def evaded(self) -> list[EvadedRow]:
        rows = list[EvadedRow]()
        for at, (guard, size) in enumerate(_FILTERS.items()):
            self._progress(EVASIONS, at, len(_FILTERS))
            names = [(guard, *one) for one in recite_evade.names()]
            make = partial(self._evade, guard, size)
            rows += self._evaded.get_all(names, make)
        return rows

    def oracle(self) -> list[OracleRow]:
        rows = list[OracleRow]()
        for at, policy in enumerate(recite_oracle.POLICIES):
            self._progress("oracle", at, len(recite_oracle.POLICIES))
            names = recite_oracle.names(policy)
            rows += self._oracle.get_all(names, partial(self._ask, policy))
        return rows

    def _evade(self, guard: str, size: tuple[int, int]) -> list[EvadedRow]:
        return recite_evade.evaded(self._models.corpus, self._index(size), guard)

    def _ask(self, policy: str) -> list[OracleRow]:
        return recite_oracle.oracle(self._models.corpus, self._index(), policy)


def _chosen(only: Collection[str]) -> list[str]:
    if unknown := [one for one in only if one not in NAMES]:
        raise BadInput(f"nothing is called {unknown[0]!r}; there are: {', '.join((*NAMES, BRIEF))}", where="only")
    return [one for one in NAMES if not only or one in only]
