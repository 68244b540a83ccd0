"""``strongroom privacy filter``: a corpus without personal data, secrets and duplicates, and the report of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypedDict, Unpack

import click

from strongroom import __version__
from strongroom.cli.files import read_bounded
from strongroom.cli.frame import Call, Json, Place, common
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.privacy.filter.report import Report
from strongroom.wiring.table import load

_RULES_LIMIT = 1 << 20  # bytes
_KEY = 32  # bytes, at least
_WHY = {
    "findings": "for what was found in them",
    "denied": "on the list",
    "repeated": "the same as an earlier one",
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
    jobs: int
    sample: int


@click.command("filter", epilog="Example: strongroom privacy filter corpus/ --out clean/ --action mask --jobs 8")
@click.argument("source", metavar="SRC", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, metavar="DST", type=Place(path_type=Path), help="The folder to make.")
@click.option("--action", type=click.Choice(_ACTIONS), default="mask", help="What becomes of a finding. Default: mask.")
@click.option("--rules", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Rules to add, change or disable (TOML).")
@click.option("--key-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The key of pseudonyms: at least 32 bytes.")
@click.option("--deny", metavar="FILE", type=click.Path(exists=True, path_type=Path), help="Documents to drop: a list of names, or a folder or file of texts.")
@click.option("--text", default="text", metavar="MEMBER", help="The member of a record that holds its text. Default: text.")
@click.option("--similarity", type=click.FloatRange(0.5, 1), default=0.8, help="From which estimate on a document repeats another. Default: 0.8.")
@click.option("--keep-duplicates", is_flag=True, help="Leave duplicates in.")
@click.option("--jobs", type=click.IntRange(1, 1024), default=None, help="Processes at once. Default: as many as there are processors.")
@click.option("--sample", type=click.IntRange(0, 100_000), default=100, help="Findings, and documents, to draw for review. Default: 100.")
@common
def filter_(call: Call, source: Path, **how: Unpack[_How]) -> None:
    """Filter SRC, a file or folder of JSON lines, parquet or text (gzip and zstd too), into the new folder DST.

    Personal data, secrets and duplicates go. DST/filter-report.json says what was found, and how often, never the values.
    A run that was stopped goes on where it was when it is repeated.
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
        jobs=how["jobs"] or os.cpu_count() or 1,
        sample=how["sample"],
        version=__version__,
    )
    with call.progress("filtering") as step:
        report = run(wanted, _key(how), step)
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


def _key(how: _How) -> Secret | None:
    """Return the key of pseudonyms."""
    if how["action"] != "pseudonymise":
        return None
    if how["key_file"] is None:
        raise BadInput("pseudonyms need a key: give --key-file FILE", where="--key-file")
    raw = read_bounded(how["key_file"], 4096, what="key")
    if len(raw) < _KEY:
        raise BadInput(f"the key has fewer than {_KEY} bytes", where="--key-file")
    return Secret(raw)
