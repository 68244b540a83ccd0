"""``strongroom attacks run``: the thefts, committed against models of one's own, with what each guard left standing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.progress import Progress, TaskID

from strongroom.attacks.rows import Row
from strongroom.cli.frame import Call, Group, Json, Place, common, table
from strongroom.wiring.table import load

attacks = Group("attacks", help="One attack per theft, each measuring the guard that it is for.")
run = Group("run", help="Run an attack, on models that it makes itself.")
attacks.add_command(run)


@run.command("collude", epilog="Example: strongroom attacks run collude --only q4_0,3-average --work ./attack")
@click.option("--only", metavar="NAME,…", default="", help="Only these rows; without it, all (about an hour).")
@click.option(
    "--work",
    type=Place(file_okay=False, path_type=Path),
    default=Path(".attacks"),
    show_default=True,
    help="The folder for models, some 3 GB; what is there is used again.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=0),
    default=16_384,
    show_default=True,
    help="Measure each result's perplexity on so many tokens; 0: not at all.",
)
@common
def collude(call: Call, *, only: str, work: Path, tokens: int) -> None:
    """Launder or combine marked copies of a real model, and see who is named. No home is needed or touched."""
    attack: Callable[..., Sequence[Row]] = load("attack", "collude")
    names = [one for one in only.split(",") if one]
    with Progress(console=call.err, transient=True, disable=not call.err.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        rows = attack(work, only=names, tokens=tokens, progress=progress)
    documents: list[Json] = [cast("Json", asdict(row)) for row in rows]
    call.emit({"rows": documents}, lambda out: _show(rows, out))


def _show(rows: Sequence[Row], out: Console) -> None:
    columns = ("attack", "perplexity", "named", "named blind", "innocent", "p", "p blind", "best innocent", "note")
    cells = [
        (
            row.attack,
            "" if row.perplexity is None else f"{row.perplexity:+.2%}",
            f"{len(row.named)} of {row.holders}",
            f"{len(row.named_blind)} of {row.holders}",
            row.innocent_named,
            f"10^{row.log10_p:.0f}",
            f"10^{row.log10_p_blind:.0f}",
            f"10^{row.best_innocent_log10_p:.1f}",
            row.note,
        )
        for row in rows
    ]
    out.print(table(*columns, rows=cells))
