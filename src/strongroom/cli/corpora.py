"""``strongroom custody corpus``: what a checkpoint was trained on, and the class that follows."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypedDict, Unpack

import click
import msgspec

from strongroom.cli.files import read_bounded
from strongroom.cli.frame import Call, Group, Json, common, plain
from strongroom.core.errors import BadInput
from strongroom.core.ids import CheckpointName, check_name
from strongroom.custody.corpora import CLASSES, CONSENTS, Class, Classification, Consent, Corpus, Training
from strongroom.privacy.windows.layout import read_sealed

corpus = Group("corpus", help="What checkpoints were trained on: signed statements, and the class that follows.")
_REPORT_LIMIT = 64 << 20  # bytes


class _Said(TypedDict):
    """The options of ``add``."""

    corpus_name: str | None
    class_: Class | None
    licence: str | None
    consent: Consent | None
    jurisdiction: tuple[str, ...]
    report: Path | None
    index: Path | None


@corpus.command(
    "add",
    epilog="Example: strongroom custody corpus add chat:v2 --name support-2026 --class restricted --licence proprietary"
    " --consent contract --jurisdiction DE --report filtered/filter-report.json --parent chat:v1 --as carla",
)
@click.argument("name", metavar="NAME:TAG")
@click.option("--name", "corpus_name", metavar="CORPUS", help="What the corpus is called here.")
@click.option("--class", "class_", type=click.Choice(CLASSES), help="Its class; from the mildest to the strictest.")
@click.option("--licence", help="SPDX's identifier of its licence, or words.")
@click.option("--consent", type=click.Choice(CONSENTS), help="Of the people whose data is in it.")
@click.option("--jurisdiction", multiple=True, metavar="CODE", help="Where it was collected: DE, US-CA, …")
@click.option(
    "--report",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The filter's report; without one the class is confidential at least.",
)
@click.option("--index", metavar="INDEX", type=click.Path(exists=True, path_type=Path), help="Its window index.")
@click.option("--parent", multiple=True, metavar="NAME:TAG", help="What the checkpoint was made from. More than once.")
@common
def add(call: Call, name: str, *, parent: tuple[str, ...], **said: Unpack[_Said]) -> None:
    """Say that NAME:TAG was trained on a corpus as well, or made from another checkpoint. Signed, and in the ledger.

    Its class is the strictest of its corpora's and of what it was made from; a policy can demand more for a class.
    """
    title, who = CheckpointName.parse(name), call.identity()
    stated = None if said["corpus_name"] is None else _corpus(said, said["corpus_name"])
    if stated is None and not parent:
        raise BadInput("nothing is said: give --name and what it is, or --parent", where="--name")
    for one in parent:
        call.home.vault.registry.current(CheckpointName.parse(one))
    version = call.home.vault.registry.current(title).version
    found = call.home.corpora.add(who, title, version, corpus=stated, parents=parent)
    call.emit(_document(title, found, call.home.corpora.find(title)), _words(title, found))


def _corpus(said: _Said, name: str) -> Corpus:
    class_, licence, consent = said["class_"], said["licence"], said["consent"]
    if class_ is None or licence is None or consent is None or not said["jurisdiction"]:
        raise BadInput("a corpus has a --class, a --licence, a --consent and a --jurisdiction", where="--name")
    made = Corpus(
        name=check_name(name, what="corpus"),
        class_=class_,
        licence=licence[:200],
        consent=consent,
        jurisdictions=tuple(sorted(set(said["jurisdiction"]))),
    )
    if said["report"] is not None:
        made = _with_report(made, said["report"])
    if said["index"] is not None:
        header = read_sealed(said["index"]).header
        made = msgspec.structs.replace(made, index=header.id, corpus=header.corpus)
    return made


class _Report(msgspec.Struct):
    """What is taken over of a filter's report."""

    type: str
    documents: int
    findings: dict[str, int]


def _with_report(made: Corpus, file: Path) -> Corpus:
    raw = read_bounded(file, _REPORT_LIMIT, what="filter report")
    try:
        report = msgspec.json.decode(raw, type=_Report)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadInput("this is no filter report", where=str(file)) from None
    if report.type != "strongroom/filter-report@1":
        raise BadInput("this is no filter report", where=str(file))
    digest = hashlib.sha256(raw).hexdigest()
    return msgspec.structs.replace(made, report=digest, documents=report.documents, findings=report.findings)


@corpus.command("remove", epilog="Example: strongroom custody corpus remove chat:v2 support-2025 --as carla")
@click.argument("name", metavar="NAME:TAG")
@click.argument("named", metavar="CORPUS|NAME:TAG", nargs=-1, required=True)
@common
def remove(call: Call, name: str, named: tuple[str, ...]) -> None:
    """Take back corpora, or what NAME:TAG was made from. If its class gets milder, a second person agrees first."""
    title = CheckpointName.parse(name)
    found = call.home.corpora.remove(call.identity(), title, names=named)
    call.emit(_document(title, found, call.home.corpora.find(title)), _words(title, found))


@corpus.command("show", epilog="Example: strongroom custody corpus show chat:v2")
@click.argument("name", metavar="NAME:TAG")
@common
def show(call: Call, name: str) -> None:
    """Show what was said of NAME:TAG, and its class."""
    call.ask("registry.read")
    title = CheckpointName.parse(name)
    call.home.vault.registry.current(title)
    found, said = call.home.corpora.classification(title), call.home.corpora.find(title)
    lines = [_words(title, found)]
    for one in said.corpora if said else ():
        places, filtered = ", ".join(one.jurisdictions), "filtered" if one.report else "not filtered"
        lines.append(
            f"  corpus {one.name}: {one.class_}; licence {plain(one.licence)}; consent {one.consent}; {plain(places)};"
            f" {filtered}"
        )
    lines += [f"  made from {one}" for one in (said.parents if said else ())]
    call.emit(_document(title, found, said), "\n".join(lines))


def _document(title: CheckpointName, found: Classification, said: Training | None) -> dict[str, Json]:
    corpora: list[Json] = [msgspec.to_builtins(one) for one in said.corpora] if said else []
    parents: list[Json] = [*said.parents] if said else []
    return {
        "checkpoint": str(title),
        "classification": found.class_,
        "because": found.because,
        "complete": found.complete,
        "corpora": corpora,
        "parents": parents,
        "version": said.version if said else None,
    }


def _words(title: CheckpointName, found: Classification) -> str:
    if not found.class_:
        return f"Of {title} no training data was stated: it has no class."
    gap = "" if found.complete else " Of some of what it was made from nothing was stated."
    return f"{title} is {found.class_}, because of {found.because}.{gap}"
