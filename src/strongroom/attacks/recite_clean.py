"""A corpus as the filter leaves it: with what was found in it masked, without near-duplicates, or both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.privacy.corpus.documents import files, read
from strongroom.privacy.filter.builtin import RULES
from strongroom.privacy.filter.rules import INNER
from strongroom.privacy.filter.run import Wanted, filter_corpus

_SIMILARITY: Final = 0.8  # as the command has it


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A corpus after the filter."""

    texts: tuple[str, ...]
    findings: Mapping[str, int]  # masked, by kind
    duplicates: int  # texts that were left out


def cleaned(texts: Sequence[str], work: Path, *, mask: bool, dedup: bool) -> Cleaned:
    """Filter `texts`, with files in `work` that are gone afterwards; with neither, they stay as they are.

    Raises:
        MissingExtra: what filters is not installed.
        StorageError: the disk said no.

    """
    if not (mask or dedup):
        return Cleaned(tuple(texts), {}, 0)
    source, out = work / "unfiltered.jsonl", work / "filtered"
    shutil.rmtree(out, ignore_errors=True)
    source.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts), encoding="utf-8")
    disabled = json.dumps([*(one.name for one in RULES if one.name != "number"), *INNER])
    wanted = Wanted(
        source=source,
        out=out,
        rules=b"" if mask else f"disable = {disabled}".encode(),
        similarity=_SIMILARITY if dedup else None,
        sample=0,
    )
    report = filter_corpus(wanted, None, lambda _done, _total: None)
    left = tuple([document.text for file in files(out) if file.kind == "jsonl" for document in read(file)])
    shutil.rmtree(out)
    source.unlink()
    return Cleaned(left, report.findings, report.dropped.repeated + report.dropped.similar)
