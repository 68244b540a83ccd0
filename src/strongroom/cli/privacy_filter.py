"""``strongroom privacy filter``: a corpus without personal data, secrets and duplicates, and the report of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

from strongroom import __version__
from strongroom.cli.files import read_bounded
from strongroom.cli.frame import Call, Json, Place, common
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.privacy.filter.report import Report
from strongroom.privacy.filter.review import Share, read_sample, reviewed
from strongroom.privacy.windows.layout import read_sealed
from strongroom.wiring.corpus_index import Keeper, read_key
from strongroom.wiring.privacy import corpus_master, pseudonym_key
from strongroom.wiring.table import load

if TYPE_CHECKING:
    from strongroom.privacy.filter.gathered import Against

_RULES_LIMIT = 1 << 20  # bytes
_KEY = 32  # bytes, at least
_WHY = {
    "findings": "for what was found in them",
    "denied": "on the list",
    "repeated": "the same as an earlier one",
    "seen": "seen in the window index",
    "similar": "nearly the same as an earlier one",
}
_ACTIONS = ("drop", "mask", "pseudonymise")


class _How(TypedDict):
    """The options of ``filter``."""

    out: Path
    action: str
    rules: Path | None
    key_file: Path | None
    deny: Path | None
    text: str
    similarity: float
    keep_duplicates: bool
    seen: Path | None
    seen_share: float
    seen_key: Path | None
    jobs: int | None
    sample: int


@click.command("filter", epilog="Example: strongroom privacy filter corpus/ --out clean/ --action mask --jobs 8")
@click.argument("source", metavar="SRC", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, metavar="DST", type=Place(path_type=Path), help="The folder to make.")
@click.option("--action", type=click.Choice(_ACTIONS), default="mask", help="What becomes of a finding. Default: mask.")
@click.option(
    "--rules",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rules to add, change or disable (TOML).",
)
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key of pseudonyms: at least 32 bytes.",
)
@click.option(
    "--deny",
    metavar="FILE",
    type=click.Path(exists=True, path_type=Path),
    help="Documents to drop: a list of names, or a folder or file of texts.",
)
@click.option(
    "--text", default="text", metavar="MEMBER", help="The member of a record that holds its text. Default: text."
)
@click.option(
    "--similarity",
    type=click.FloatRange(0.5, 1),
    default=0.8,
    help="From which estimate on a document repeats another. Default: 0.8.",
)
@click.option(
    "--seen",
    metavar="INDEX",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A window index, of SRC or another corpus: drop documents that mostly repeat what it has.",
)
@click.option(
    "--seen-share",
    type=click.FloatRange(0.01, 1),
    default=0.5,
    help="The share of a document's words that --seen must have. Default: 0.5.",
)
@click.option(
    "--seen-key",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The key of --seen, where it is none of the home's.",
)
@click.option("--keep-duplicates", is_flag=True, help="Leave duplicates in.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=None,
    help="Processes at once. Default: as many as there are processors.",
)
@click.option(
    "--sample",
    type=click.IntRange(0, 100_000),
    default=100,
    help="Findings, and documents, to draw for review. Default: 100.",
)
@common
def filter_(call: Call, source: Path, **how: Unpack[_How]) -> None:
    """Filter SRC, a file or folder of JSON lines, parquet or text (gzip and zstd too), into the new folder DST.

    Personal data, secrets and duplicates go. DST/filter-report.json says how much of what was found, never the values.
    A run that was stopped goes on when it is repeated.
    """
    run, wanted_type, read_deny = load("corpus", "filter"), load("corpus", "wanted"), load("corpus", "deny")
    rules = read_bounded(how["rules"], _RULES_LIMIT, what="file of rules") if how["rules"] else b""
    wanted = wanted_type(
        source=source,
        out=how["out"],
        action=how["action"],
        rules=rules,
        text=how["text"],
        similarity=None if how["keep_duplicates"] else how["similarity"],
        deny=read_deny(how["deny"], text=how["text"]),
        against=_against(call, how),
        jobs=how["jobs"] or os.cpu_count() or 1,
        sample=how["sample"],
        version=__version__,
    )
    key = _key(call, how)
    with call.progress("filtering") as step:
        report = run(wanted, key, step)
    _tell(call, report, how["out"])


def _tell(call: Call, report: Report, out: Path) -> None:
    dropped = {name: getattr(report.dropped, name) for name in report.dropped.__struct_fields__}
    document: dict[str, Json] = {
        "documents": report.documents,
        "kept": report.kept,
        "findings": report.findings,
        "duplicates": report.dropped.repeated + report.dropped.similar,
        "changed": report.changed,
        "dropped": dropped,
        "bytes": report.bytes,
        "planted": {
            kind: {"found": one.found, "planted": one.planted, "low": one.low, "high": one.high}
            for kind, one in report.planted.items()
        },
        "report": str(out / "filter-report.json"),
    }
    gone = ", ".join(f"{count:,} {_WHY[why]}" for why, count in dropped.items() if count) or "none"
    lines = [
        f"{report.documents:,} documents read, {report.kept:,} kept, {report.changed:,} of them changed.",
        f"Dropped: {gone}.",
        *(f"  {kind}: {count:,}" for kind, count in sorted(report.findings.items(), key=lambda one: -one[1])),
        f"The report is {out / 'filter-report.json'}; where each finding stood is in {out / '.filter'}.",
    ]
    call.emit(document, "\n".join(lines))


def _against(call: Call, how: _How) -> Against | None:
    """Return the index that documents are compared with, and its key."""
    folder, file = how["seen"], how["seen_key"]
    if folder is None:
        return None
    keeper = Keeper(call.home, call.identity()) if file is None else Keeper(own=read_key(file))
    key = keeper.key(read_sealed(folder).header.id, "drop what a window index has seen")
    against: Callable[[Path, Secret, float], Against] = load("corpus", "against")
    return against(folder, key, how["seen_share"])


def _key(call: Call, how: _How) -> Secret | None:
    """Return the key of pseudonyms: that of the file, or the home's."""
    if how["action"] != "pseudonymise":
        return None
    if how["key_file"] is None:
        return pseudonym_key(corpus_master(call.home, call.identity(), "pseudonyms in a filtered corpus"))
    raw = read_bounded(how["key_file"], 4096, what="key")
    if len(raw) < _KEY:
        raise BadInput(f"the key has fewer than {_KEY} bytes", where="--key-file")
    return Secret(raw)


@click.command("review", epilog="Example: strongroom privacy review clean/ --missed 1 --wrong 3")
@click.argument("folder", metavar="DST", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--missed", type=click.IntRange(0), required=True, help="Documents of stratum 'clean' with something in them."
)
@click.option("--wrong", type=click.IntRange(0), required=True, help="Findings in the sample that were none.")
@common
def review(call: Call, folder: Path, *, missed: int, wrong: int) -> None:
    """Say what your reading of a filter's sample (DST/.filter/sample.jsonl) means for the whole corpus.

    Read all of the sample: each finding at its place in SRC, and each document of stratum 'clean' in DST.
    """
    report, sample = read_sample(folder)
    said = reviewed(report, sample, missed=missed, wrong=wrong)
    document: dict[str, Json] = {
        "verdict": said.verdict,
        "recall": _share(said.recall),
        "precision": _share(said.precision),
        "documents": said.documents,
        "findings": said.findings,
    }
    words = (
        f"{said.verdict}: of the documents that hold something, {said.recall.estimate:.1%} had something found"
        f" (95 % interval {said.recall.low:.1%} to {said.recall.high:.1%}).\n"
        f"Of the findings, {said.precision.estimate:.1%} were right"
        f" ({said.precision.low:.1%} to {said.precision.high:.1%})."
    )
    call.emit(document, words)


def _share(one: Share) -> dict[str, Json]:
    return {"estimate": round(one.estimate, 4), "low": round(one.low, 4), "high": round(one.high, 4)}
