"""``strongroom attacks run recite``: what a model that learnt by heart gives away, guard by guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, cast

import click
from rich.console import Console

from strongroom.attacks.rows import EvadedRow, Left, OracleRow, Recited, RecitedRow, TrainedRow
from strongroom.cli.frame import Call, Json, Place, common, table
from strongroom.cli.watched import watched
from strongroom.wiring.table import load

_FOLDER: Final = Path(".attacks")


@click.command("recite", epilog="Example: strongroom attacks run recite --only none,recall-stop --work ./attack")
@click.option(
    "--only", metavar="NAME,…", default="", help="Only these guards, or evasions, oracle, or brief; without it, all."
)
@click.option(
    "--work",
    type=Place(file_okay=False, path_type=Path),
    default=_FOLDER,
    show_default=True,
    help="The folder for models, some 30 MB; what is there is used again.",
)
@click.option("--fresh", is_flag=True, help="Make rows again that an earlier run has kept.")
@common
def recite(call: Call, *, only: str, work: Path, fresh: bool) -> None:
    """Get planted secrets and documents back out of a small model that learnt them by heart, guard by guard.

    A clean corpus (filter, dedup), the gateway and its output filter are tried one by one and together; then what
    passes the output filter in other dresses, and what its refusals tell of the corpus. All takes about ten minutes.
    Models, servers and gateways are its own, on loopback. Rows are kept in the folder, so that a run which was cut
    short goes on. No home is needed or touched.
    """
    attack: Callable[..., Recited] = load("attack", "recite")
    names = [one for one in only.split(",") if one]
    with watched(call) as progress:
        found = attack(work, only=names, fresh=fresh, progress=progress)
    call.emit(cast("dict[str, Json]", asdict(found)), lambda out: _show(found, out))


def _show(found: Recited, out: Console) -> None:
    if found.trained:
        out.print(table(*_TRAINED, rows=[_trained(row) for row in found.trained]))
    if found.rows:
        out.print(table("guard", *_attacks(found.rows), "stopped", rows=_by_guard(found.rows)))
        out.print(
            "Recited of texts that were planted once / four times / sixteen times / sixteen times in edited copies."
        )
    if found.evaded:
        out.print(table(*_EVADED, rows=[_evaded(row) for row in found.evaded]))
    if found.oracle:
        out.print(table(*_ORACLE, rows=[_asked(row) for row in found.oracle]))


_TRAINED: Final = ("trained on", "texts", "bytes", "secrets in it", "documents in it", "masked", "duplicates dropped")


def _trained(row: TrainedRow) -> tuple[object, ...]:
    return (row.model, row.texts, row.bytes, row.values, row.documents, row.findings, row.duplicates)


def _attacks(rows: Sequence[RecitedRow]) -> list[str]:
    return list(dict.fromkeys(row.attack for row in rows))


def _by_guard(rows: Sequence[RecitedRow]) -> list[list[object]]:
    cells = dict[str, list[object]]()
    for row in rows:
        cells.setdefault(row.guard, [row.guard]).append(" / ".join([_left(one) for one in row.left]))
    stopped = {guard: sum(row.stopped for row in rows if row.guard == guard) for guard in cells}
    return [[*own, stopped[guard]] for guard, own in cells.items()]


def _left(one: Left) -> str:
    return f"{one.out} of {one.planted}"


_EVADED: Final = ("said", "what", "output filter", "stopped", "false alarms", "recited", "run", "share")


def _evaded(row: EvadedRow) -> tuple[object, ...]:
    documents = row.what == "document"
    return (
        row.evasion,
        row.what,
        row.guard,
        f"{row.stopped} of {row.asked}",
        f"{row.others_stopped} of {row.others}",
        row.out,
        f"{row.longest:.1f}" if documents else "",
        f"{row.share:.0%}" if documents else "",
    )


_ORACLE: Final = ("policy", "way", "what", "members", "others", "advantage", "95 %", "shut out after")


def _asked(row: OracleRow) -> tuple[object, ...]:
    return (
        row.policy,
        row.way,
        row.what,
        f"{row.members_told} of {row.members}",
        f"{row.others_told} of {row.others}",
        f"{row.advantage:.2f}",
        f"{row.low:.2f} to {row.high:.2f}",
        row.locked or "",
    )
