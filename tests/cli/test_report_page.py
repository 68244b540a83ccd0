"""The report page: one file, nothing fetched, hostile text stays text."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from strongroom.cli.report_page import Answer, LedgerRow, Report, Step, render

EVIL = "<script>alert(1)</script><img src=x onerror='a()'>\"&{STYLE}%BODY%</pre></style>"
SHOWN = 23  # texts of the report on the page: the title twice, and three of each step


def make_report(text: str) -> Report:
    step = Step(name=text, tried=text, outcome="refused", detail=text, seconds=0.25)
    row = LedgerRow(index=3, at=text, who=text, action=text, thing=text, outcome=text, why=text)
    return Report(
        title=text,
        made_at=text,
        steps=[step, replace(step, outcome="ok")],
        prompt=text,
        paragraph=text,
        answers=[Answer(who=text, prompt=text, text=text, found=text)],
        ledger=[row],
        proof=text,
        environment=[(text, text)],
    )


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_hostile_text_stays_text() -> None:
    plain, hostile = read(render(make_report("harmless"))), read(render(make_report(EVIL)))
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes
    assert sum(EVIL in text for text in hostile.text) == sum("harmless" in text for text in plain.text) == SHOWN


@pytest.mark.parametrize("text", ["harmless", EVIL])
def test_nothing_is_fetched_and_nothing_runs(text: str) -> None:
    page = render(make_report(text))
    reader = read(page)
    assert not {"script", "img", "link", "iframe", "object", "embed", "a", "form", "base", "svg"} & set(reader.tags)
    names = {name for name, _ in reader.attributes}
    assert not {"src", "href", "style", "srcset", "action", "background"} & names
    assert not [name for name in names if name.startswith("on")]
    style = page.split("<style>")[1].split("</style>")[0]
    assert not [word for word in ("url(", "@import", "http", "//") if word in style]
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


def test_the_verdict_counts_failures() -> None:
    report = make_report("x")
    assert "Every step ended as it should." in render(report)
    assert "1 of 2 steps failed." in render(
        replace(report, steps=[report.steps[0], replace(report.steps[1], outcome="failed")])
    )
    assert "Nothing was tried." in render(replace(report, steps=[]))
    assert "Nothing." in render(replace(report, ledger=[]))


def test_the_same_report_is_the_same_page() -> None:
    assert render(make_report("x")) == render(make_report("x"))
