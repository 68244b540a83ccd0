"""What every page is made of: one HTML file, no script, nothing fetched, every value escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from strongroom.cli.frame import plain
from strongroom.cli.report_style import STYLE


def page(title: str, body: str) -> str:
    """Return the whole page; `title` and `body` are HTML already."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def header(title: str, said: str, tallies: Mapping[str, tuple[str, str]]) -> str:
    """Return the title, what is `said` first of all (HTML already), and tallies: what -> (kind, number)."""
    boxes = "".join(
        f"<div class='tally {kind}'><dd>{safe(number)}</dd><dt>{safe(label)}</dt></div>"
        for label, (kind, number) in tallies.items()
    )
    return (
        f"<header>\n<p class='brand'>Strongroom</p>\n<h1>{safe(title)}</h1>\n{said}\n"
        f"<dl class='tallies'>{boxes}</dl>\n</header>"
    )


def section(heading: str, note: str, body: str) -> str:
    """Return a section; `body` is HTML already."""
    return f"<section>\n<h2>{safe(heading)}</h2>\n<p class='note'>{safe(note)}</p>\n{body}\n</section>"


def table(heads: Sequence[str], rows: Sequence[str], *, caption: str = "", dense: bool = False) -> str:
    """Return a table that scrolls sideways by itself where the page is narrow; `rows` are HTML already."""
    named = f"<caption>{safe(caption)}</caption>\n" if caption else ""
    head = "".join(f"<th scope='col'>{safe(one)}</th>" for one in heads)
    body = "\n".join(rows) or f"<tr><td colspan='{len(heads)}'>Nothing.</td></tr>"
    looks = " class='dense'" if dense else ""
    whole = f"<table{looks}>\n{named}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return f"<div class='wide' tabindex='0'>{whole}</div>"


def safe(value: object) -> str:
    """Return a value as HTML that shows it: nothing in it is a tag, and nothing moves, hides or turns text around."""
    return escape(plain(value))


def row(first: object, *cells: object) -> str:
    """Return a row of a table that is named by its first cell."""
    rest = "".join(f"<td>{safe(one)}</td>" for one in cells)
    return f"<tr><th scope='row'>{safe(first)}</th>{rest}</tr>"


def pairs(some: Sequence[tuple[str, str]]) -> str:
    """Return pairs of (what, value) as a list."""
    items = "".join(f"<div><dt>{safe(what)}</dt><dd>{safe(value)}</dd></div>" for what, value in some)
    return f"<dl class='environment'>{items}</dl>"


def items(some: Sequence[str]) -> str:
    """Return sentences as a list."""
    return f"<ul>{''.join(f'<li>{safe(one)}</li>' for one in some)}</ul>"
