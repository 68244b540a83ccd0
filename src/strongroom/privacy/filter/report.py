"""What the filter did, in numbers: strongroom/filter-report@1. It holds no value and no text.

The report names the lists beside it by their digests: positions of all findings, duplicates, and a random sample.
docs/formats/filter-report-1.md has the form of each.
"""

from __future__ import annotations

from typing import Final, Literal

from strongroom.core.canonical import Record
from strongroom.privacy.filter.actions import Action

TYPE: Final = "strongroom/filter-report@1"
BESIDE: Final = ".filter"  # the folder of the lists; hidden, so that it is no part of the corpus
SAMPLE: Final = "sample.jsonl"
Stratum = Literal["finding", "clean", "changed"]


class Filtered(Record, frozen=True, kw_only=True):
    """A file: what was read, and what was written in its place."""

    name: str
    bytes: int  # as stored
    sha256: str
    written: str | None  # SHA-256 of the file of the same name; None: all of it was dropped
    documents: int
    kept: int


class Dropped(Record, frozen=True, kw_only=True):
    """How many documents were dropped, and why."""

    findings: int = 0
    denied: int = 0
    repeated: int = 0
    similar: int = 0
    seen: int = 0  # by the window index


class How(Record, frozen=True, kw_only=True):
    """What was asked for."""

    action: Action
    rules: str  # digest of the rules in force
    rules_file: str | None  # SHA-256
    text: str  # the member of a record that holds its text
    similarity: float | None  # None: duplicates stay
    seen: tuple[str, float] | None  # a window index's id, and the share of words from which a document is dropped
    deny: str | None  # SHA-256 of the list, or of the names and bytes of its files


class Planted(Record, frozen=True, kw_only=True):
    """How many made-up values, put into documents of the corpus, were found: an upper bound of recall."""

    found: int
    planted: int
    low: float  # 95 %, Wilson
    high: float


class Report(Record, frozen=True, kw_only=True):
    """The whole."""

    type: Literal["strongroom/filter-report@1"] = TYPE
    version: str  # of Strongroom
    how: How
    documents: int
    kept: int
    bytes: int  # of text read
    findings: dict[str, int]  # by kind
    rules: dict[str, int]  # by rule
    changed: int  # documents that are written with something replaced
    dropped: Dropped
    files: tuple[Filtered, ...]
    planted: dict[str, Planted]  # by kind
    lists: dict[str, str]  # SHA-256 of each list beside the report


class Position(Record, frozen=True, kw_only=True):
    """A finding: characters `start` to `end` of a record's text, as it was read. A line of ``findings.jsonl``."""

    file: str
    record: int
    start: int
    end: int
    kind: str
    rule: str


class Repeat(Record, frozen=True, kw_only=True):
    """A document that was dropped for another. A line of ``duplicates.jsonl``."""

    file: str
    record: int
    of_file: str | None  # None: a text of the list of what is denied
    of_record: int | None
    why: Literal["repeated", "similar", "denied"]
    similarity: float


class Sampled(Record, frozen=True, kw_only=True):
    """A finding, or a document, that somebody should look at. A line of ``sample.jsonl``."""

    stratum: Stratum
    file: str
    record: int
    finding: Position | None
