"""A trace's report as one HTML page: no script, nothing fetched, every value escaped."""

from __future__ import annotations

from html import escape

from strongroom.cli.report_style import STYLE
from strongroom.cli.trace_words import words
from strongroom.lineage.traced import conclude
from strongroom.wiring.lineage_report import read_report


def page(raw: bytes) -> str:
    """Return the page of a signed report."""
    said = read_report(raw).said
    title = escape(f"Where {said.file} comes from")
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>"
        f"</head><body><h1>{title}</h1><pre>{escape(words(conclude(said.evidence)))}</pre></body></html>\n"
    )
