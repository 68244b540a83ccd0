"""``strongroom lineage trace``, ``compare``, ``base`` and ``replay``: where a file of weights comes from."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, Unpack

import click

from strongroom.cli.files import read_bounded, write_private
from strongroom.cli.frame import Call, Group, Json, Place, common, moment, table
from strongroom.cli.ledger import read_vkey
from strongroom.cli.trace_page import render
from strongroom.cli.trace_words import document, made_again, words
from strongroom.core.errors import AlreadyExists, BadInput
from strongroom.lineage.traced import conclude
from strongroom.wiring.lineage_report import LIMIT, Files, Replayed, replay_report, write_report
from strongroom.wiring.mark_evidence import Trust
from strongroom.wiring.trace import add_base, bases_of, compare_files, trace_file

base = Group("base", help="Public models that checkpoints may descend from.")

_PATH = click.Path(exists=True, path_type=Path)


@click.command("trace", epilog="Example: strongroom lineage trace leaked.gguf --as carla")
@click.argument("path", type=_PATH)
@click.option(
    "--report",
    metavar="FILE.json",
    type=Place(path_type=Path),
    help="Where the signed report goes, and FILE.html beside it. [default: reports/ in the home]",
)
@click.option(
    "--disclose", is_flag=True, help="Show the codes of named copies in the report, so that it can be replayed."
)
@common
def trace(call: Call, path: Path, *, report: Path | None, disclose: bool) -> None:
    """Say which checkpoint PATH was made from, whose copy it is, how it was made, and how sure that is. Logged.

    PATH is safetensors, GGUF, a PyTorch file (nothing in it is run), a folder of them, a LoRA adapter, or a part of
    any. The verdict is match, no_match, common_ancestor or inconclusive.
    """
    if report is not None:
        _check_place(report)
    who = call.identity()
    with _watched(call) as watch:
        found = trace_file(call.home, who, path, watch=watch)
        watch("writing the report")
        raw = write_report(call.home, who, found, path=path, disclose=disclose)
    place, vkey = report or _place(call, found.suspect), call.home.ledger.vkey
    page = render(replay_report(raw, Trust(vkey)), vkey=vkey, report=place.name).encode()
    write_private(place, raw, what="report")
    write_private(place.with_suffix(".html"), page, what="report")
    told = conclude(found.evidence)
    call.emit(document(told) | {"report": str(place)}, f"{words(told)}\n  report: {place}, {place.stem}.html")


@click.command("compare", epilog="Example: strongroom lineage compare ours.safetensors theirs.gguf")
@click.argument("ours", type=_PATH)
@click.argument("theirs", type=_PATH)
@common
def compare(call: Call, ours: Path, theirs: Path) -> None:
    """Say whether THEIRS was made from OURS, and how: two files or folders, registered or not. No home is needed."""
    with _watched(call) as watch:
        found = conclude(compare_files(ours, theirs, watch=watch))
    call.emit(document(found), words(found))


@base.command("add", epilog="Example: strongroom lineage base add smollm2 ./SmolLM2-135M --as carla")
@click.argument("name")
@click.argument("path", type=_PATH)
@common
def add(call: Call, name: str, path: Path) -> None:
    """Register a public model, so that whoever shares it with us is not taken for a thief. It stays where it is."""
    made = add_base(call.home, call.identity(), name, path=path)
    document: dict[str, Json] = {"base": made.name, "path": str(made.path), "digest": made.digest}
    call.emit(document, f"{made.name} is a public base: {made.path}\n  digest {made.digest}")


@base.command("ls", epilog="Example: strongroom lineage base ls")
@common
def ls(call: Call) -> None:
    """List the public bases."""
    call.ask("registry.read")
    every = bases_of(call.home).all()
    rows = [(one.name, one.path, one.digest[:16]) for one in every]
    shown = table("base", "path", "digest", rows=rows)
    documents: list[Json] = [{"base": one.name, "path": str(one.path), "digest": one.digest} for one in every]
    call.emit({"bases": documents}, lambda out: out.print(shown))


class _Given(TypedDict):
    """The options of ``replay``."""

    vkey: str | None
    issuer: str | None
    witness: tuple[str, ...]
    suspect: Path | None
    against: Path | None


@click.command("replay", epilog="Example: strongroom lineage replay report.json --vkey log.vkey --suspect leaked.gguf")
@click.argument("file", metavar="REPORT", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--vkey", help="The log's verifier key, or a file that holds it: then the ledger's proofs are checked.")
@click.option("--issuer", metavar="FINGERPRINT", help="Whose deeds of copies alone count: 64 hexadecimal digits.")
@click.option("--witness", multiple=True, metavar="VKEY", help="A witness that must have cosigned. May be given again.")
@click.option("--suspect", type=_PATH, help="The file that was traced: its digest is compared.")
@click.option("--against", type=_PATH, help="The checkpoint's own files: with --suspect, the tests are made again.")
@common
def replay(call: Call, file: Path, **given: Unpack[_Given]) -> None:
    """Make the verdict of a report again from its figures, offline: no home is needed.

    With the suspect and the checkpoint's files the figures are taken again, too. What was not looked at is told.
    """
    vkey, files = given["vkey"], Files(given["suspect"], given["against"])
    if files.against is not None and files.suspect is None:
        raise BadInput("the tests take both files: give --suspect too", where="--against")
    trust = None if vkey is None else Trust(read_vkey(vkey), given["witness"], given["issuer"])
    call.emit(*_replayed(replay_report(read_bounded(file, LIMIT, what="report"), trust, files=files)))


def _replayed(found: Replayed) -> tuple[Mapping[str, Json], str]:
    """Return a replay as JSON, and in words."""
    said, looked = found.said, found.looked
    entries: list[Json] = [
        {"index": one.index, "at": one.event.at, "action": one.event.action} for one in found.entries
    ]
    notes: list[Json] = [*found.notes]
    tracer = said.tracer.keys.fingerprint()
    told = document(found.trace) | {
        "tracer": {"name": said.tracer.name, "fingerprint": tracer},
        "made": said.made,
        "suspect": said.figures.suspect,
        "entries": entries,
        "made_again": {
            "p_values": True,
            "ledger": looked.ledger,
            "marks": looked.marks,
            "suspect": looked.suspect,
            "tests": looked.tests,
        },
        "notes": notes,
    }
    lines = [words(found.trace), f"  traced by {said.tracer.name} ({tracer}), {moment(said.made)}"]
    lines += [f"  entry {one.index}: {one.event.action}, {moment(one.event.at)}" for one in found.entries]
    lines.append(f"  made again: {', '.join(made_again(looked))}")
    return told, "\n".join([*lines, *(f"  - {one}" for one in found.notes)])


@contextmanager
def _watched(call: Call) -> Generator[Callable[[str], None]]:
    """Say what is being done, on a terminal."""
    if not call.err.is_terminal:
        yield lambda _what: None
        return
    with call.err.status("") as status:
        yield status.update


def _place(call: Call, digest: str) -> Path:
    """Return where a report goes by itself: one of the same suspect gets a number."""
    folder = call.home_path / "reports"
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(1, 10_000):
        place = folder / f"{digest[:12]}-{number}.json"
        if not place.exists():
            return place
    raise AlreadyExists("10,000 reports of this suspect are there", where=str(folder))


def _check_place(report: Path) -> None:
    """Return if a report can go there: nobody traces for minutes, and then has nowhere to put it.

    Raises:
        AlreadyExists: something stands there, or where the page goes.
        BadInput: there is no such folder, or the page would be the report.

    """
    beside = report.with_suffix(".html")
    if beside == report:
        raise BadInput("the page goes into the .html beside it: name it otherwise", where=str(report))
    if report.exists() or beside.exists():
        raise AlreadyExists("something stands there", where=str(report if report.exists() else beside))
    if not report.parent.is_dir():
        raise BadInput("there is no such folder", where=str(report.parent))
