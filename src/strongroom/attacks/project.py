"""Theft two: the hidden size of a model out of what an API gives away beside text (Carlini et al., arXiv 2403.06634).

The guard is the gateway's disclosure policy. Every way of asking is tried against a bare stock server first, then
against the same server behind a gateway, by a thief who goes on with whatever is let through until he has asked ten
times as often. A small trained model is attacked over sockets to the end; SmolLM2 with its real logits, through the
same policy code, for a live attack would take hours. Only servers of its own, on loopback, are asked (rule 13).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.attacks.kept_rows import KeptRows
from strongroom.attacks.leaker import Progress
from strongroom.attacks.project_agreement import agreement
from strongroom.attacks.project_benign import benign
from strongroom.attacks.project_lab import ATTACKS, BRIEF, DEMO, SMALL, Attack, Lab
from strongroom.attacks.rows import AgreementRow, BenignRow, Projected, ProjectRow
from strongroom.core.errors import BadInput
from strongroom.engines.folder import make_folder
from strongroom.engines.last_places import brief_places, demo_places, small_places

GUARDS: Final = ("none", "standard", "trusted")
FACTOR: Final = 10  # times the queries of the attack without a guard
HONEST: Final = "benign"
LIVE: Final = "agreement"
_MODELS: Final = {SMALL: (small_places, 1024), BRIEF: (brief_places, 256), DEMO: (demo_places, 640)}


def run(work: Path, *, only: Collection[str] = (), fresh: bool = False, progress: Progress) -> Projected:
    """Run the attacks (those named in `only`, or all), without and with the guard: three rows each.

    Beside them, honest requests through the guard (`benign`), and whether the guard over sockets does what the policy
    code does without (`agreement`). A row is kept in `work` as soon as it is there, so that a run which was cut short
    goes on.

    Args:
        work: a folder for models: some 0.4 GB, kept for the next run.
        only: names of attacks, `benign` or `agreement`.
        fresh: make rows again that are kept.
        progress: told (what, done, in all).

    Raises:
        BadInput: a name that there is not.
        MissingExtra: torch or the demo's model is not installed.
        StoreUnavailable: a server or gateway does not come up.

    """
    wanted = _chosen(only)
    labs = _Labs(make_folder(work), progress)
    attacked = KeptRows(work / "project-rows.jsonl", ProjectRow, lambda row: (row.attack, row.guard), fresh=fresh)
    rows = list[ProjectRow]()
    for at, attack in enumerate(wanted):
        progress("attacks", at, len(wanted))
        rows += _rows(attacked, labs, attack)
    progress("attacks", len(wanted), len(wanted))
    honest = KeptRows(work / "project-benign.jsonl", BenignRow, lambda row: row.tier, fresh=fresh)
    same = KeptRows(work / "project-agreement.jsonl", AgreementRow, lambda row: row.tier, fresh=fresh)
    tiers = GUARDS[1:]
    return Projected(
        tuple(rows),
        tuple(honest.get(tier, partial(_benign, labs, tier)) for tier in tiers if not only or HONEST in only),
        tuple(same.get(tier, partial(_agreement, labs, tier)) for tier in tiers if not only or LIVE in only),
    )


def _rows(kept: KeptRows[ProjectRow], labs: _Labs, attack: Attack) -> list[ProjectRow]:
    bare = kept.get((attack.name, GUARDS[0]), lambda: labs.get(attack.model).row(attack, GUARDS[0], None))
    most = bare.queries * FACTOR

    def guarded(guard: str) -> ProjectRow:
        return kept.get((attack.name, guard), lambda: labs.get(attack.model).row(attack, guard, most))

    return [bare, *(guarded(guard) for guard in GUARDS[1:])]


def _benign(labs: _Labs, tier: str) -> BenignRow:
    return benign(labs.get(SMALL), tier)


def _agreement(labs: _Labs, tier: str) -> AgreementRow:
    return agreement(labs.get(DEMO), tier)


class _Labs:
    """One lab a model, made when it is asked for."""

    def __init__(self, work: Path, progress: Progress) -> None:
        self._work = work
        self._progress = progress
        self._made: dict[str, Lab] = {}

    def get(self, model: str) -> Lab:
        if model not in self._made:
            make, prompts = _MODELS[model]
            folder = make(self._work, prompts, partial(self._progress, f"making {model}"))
            self._made[model] = Lab(folder, model)
        return self._made[model]


def _chosen(only: Collection[str]) -> list[Attack]:
    names = [*(one.name for one in ATTACKS), HONEST, LIVE]
    if unknown := [one for one in only if one not in names]:
        raise BadInput(f"no attack {unknown[0]!r}; there are: {', '.join(names)}", where="only")
    return [one for one in ATTACKS if not only or one.name in only]
