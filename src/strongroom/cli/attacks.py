"""``strongroom attacks run``: the thefts, committed against models of one's own, with what each guard left standing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import click
from rich.console import Console

from strongroom.attacks.rows import LaunderRow, Projected, ProjectRow, Row
from strongroom.cli.attacks_recite import recite
from strongroom.cli.frame import Call, Group, Json, Place, common, table
from strongroom.cli.watched import watched
from strongroom.wiring.table import load

attacks = Group("attacks", help="One attack per theft, each measuring the guard that it is for.")
run = Group("run", help="Run an attack, on models that it makes itself.")
attacks.add_command(run)
run.add_command(recite)


_work = click.option(
    "--work",
    type=Place(file_okay=False, path_type=Path),
    default=Path(".attacks"),
    show_default=True,
    help="The folder for models, some 3 to 6 GB; what is there is used again.",
)


@run.command("collude", epilog="Example: strongroom attacks run collude --only q4_0,3-average --work ./attack")
@click.option("--only", metavar="NAME,…", default="", help="Only these rows; without it, all (about an hour).")
@_work
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
    with watched(call) as progress:
        rows = attack(work, only=_names(only), tokens=tokens, progress=progress)
    documents: list[Json] = [cast("Json", asdict(row)) for row in rows]
    call.emit({"rows": documents}, lambda out: _show(rows, out))


@run.command("launder", epilog="Example: strongroom attacks run launder --only q4_0,rotation --work ./attack")
@click.option("--only", metavar="NAME,…", default="", help="Only these rows; without it, all (some hours).")
@_work
@click.option(
    "--tokens",
    type=click.IntRange(min=0),
    default=8_192,
    show_default=True,
    help="Measure each suspect's perplexity on about so many tokens (at least 4,096); 0: not at all.",
)
@click.option("--fresh", is_flag=True, help="Make rows again that an earlier run has kept.")
@common
def launder(call: Call, *, only: str, work: Path, tokens: int, fresh: bool) -> None:
    """Launder a marked copy of a real model in every way we know, and see what a trace says of it.

    Strangers, and other people's fine-tunes of the same base, are traced as well: they must not match. Rows are kept in
    the folder, so that a run which was cut short goes on. No home is needed or touched.
    """
    attack: Callable[..., Sequence[LaunderRow]] = load("attack", "launder")
    with watched(call) as progress:
        rows = attack(work, only=_names(only), tokens=tokens, fresh=fresh, progress=progress)
    documents: list[Json] = [cast("Json", asdict(row)) for row in rows]
    call.emit({"rows": documents}, lambda out: _show_laundered(rows, out))


@run.command("project", epilog="Example: strongroom attacks run project --only top-20,embeddings --work ./attack")
@click.option("--only", metavar="NAME,…", default="", help="Only these rows; without it, all (a quarter of an hour).")
@_work
@click.option("--fresh", is_flag=True, help="Make rows again that an earlier run has kept.")
@common
def project(call: Call, *, only: str, work: Path, fresh: bool) -> None:
    """Extract a model's hidden size from a stock inference server, then from the same behind a gateway.

    Honest requests go through the gateway as well: none may be refused or changed. Servers and gateways are its own, on
    loopback. Rows are kept in the folder, so that a run which was cut short goes on. No home is needed or touched.
    """
    attack: Callable[..., Projected] = load("attack", "project")
    with watched(call) as progress:
        found = attack(work, only=_names(only), fresh=fresh, progress=progress)
    call.emit(cast("dict[str, Json]", asdict(found)), lambda out: _show_projected(found, out))


def _names(only: str) -> list[str]:
    return [one for one in only.split(",") if one]


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


def _show_laundered(rows: Sequence[LaunderRow], out: Console) -> None:
    columns = ("suspect", "verdict", "p", "method", "effect", "named", "how it was made", "perplexity", "seconds")
    cells = [
        (
            row.attack,
            row.verdict if row.verdict == row.expected else f"{row.verdict}, not {row.expected}",
            f"10^{row.log10_p:.0f} {row.p_kind}",
            row.method,
            f"{row.effect:.2f}",
            row.named if row.named == row.expected_named else f"{row.named}, not {row.expected_named}",
            row.note or _derived(row),
            "" if row.perplexity is None else f"{row.perplexity:+.2%}",
            row.seconds,
        )
        for row in rows
    ]
    out.print(table(*columns, rows=cells))


def _derived(row: LaunderRow) -> str:
    """Return how a suspect was made, as found, and what it should have been where that is wrong."""
    found = "; ".join(row.derivation) or ("" if row.derivation_right is None else "nothing")
    return f"{found}, not {'; '.join(row.expected_derivation)}" if row.derivation_right is False else found


def _show_projected(found: Projected, out: Console) -> None:
    if found.rows:
        out.print(table(*_PROJECT, rows=[_projected(row) for row in found.rows]))
    for row in found.benign:
        out.print(
            f"tier {row.tier}: of {row.requests} honest requests {row.refused} refused, {row.text_changed} texts "
            f"changed, {row.unexplained} of {row.values} log probabilities other than promised"
        )
    for row in found.agreement:
        out.print(
            f"tier {row.tier}: of {row.requests} requests through a real gateway {row.other_decision} decided "
            f"otherwise, {row.other_values} answered otherwise than by the policy code alone"
        )


_PROJECT = ("attack", "guard", "queries", "refused", "first", "tokens", "CPU s", "block", "estimate", "gap", "found")


def _projected(row: ProjectRow) -> tuple[object, ...]:
    return (
        row.attack,
        row.guard,
        row.queries,
        row.refused,
        row.first_refused or "",
        row.tokens,
        f"{row.cpu:.2f}",
        f"{row.prompts} by {row.seen}",
        f"{row.estimate} of {row.width}",
        f"{row.gap:.1f}",
        "yes" if row.found else "no",
    )
