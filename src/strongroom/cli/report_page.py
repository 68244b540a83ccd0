"""The demo's report as one HTML page: no script, nothing fetched, every value escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from strongroom.cli.page import header, page, pairs, section, table

Outcome = Literal["ok", "refused", "failed"]

_ALLOWED = {"granted", "done"}
_PROOF_NOTE = "The log's signed checkpoint and the path from one entry to it. It can be checked offline, by anybody."
_MARK_NOTE = "Each text carries its account's mark: no reader sees it, and the mark's key finds it."
_WORDS: dict[Outcome, str] = {"ok": "Done", "refused": "Refused, as it should be", "failed": "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of the summary: what was tried, and what came of it."""

    name: str
    tried: str
    outcome: Outcome
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a customer asked, what the served model wrote, and whose the text was found to be."""

    who: str
    prompt: str
    text: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One entry of the ledger, as the story tells it."""

    index: int
    at: str
    who: str
    action: str
    thing: str
    outcome: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that the page shows. `environment` is (what, value) pairs."""

    title: str
    made_at: str
    steps: Sequence[Step]
    prompt: str
    paragraph: str
    answers: Sequence[Answer]
    ledger: Sequence[LedgerRow]
    proof: str
    environment: Sequence[tuple[str, str]]


def render(report: Report) -> str:
    """Return the page as HTML text."""
    parts = [
        _header(report),
        section("What was tried", "Every step ran for real, in this order.", _steps(report.steps)),
        section("What the model wrote", "Opened from its sealed copy, straight into memory.", _model(report)),
        section(
            "What customers were served", "Each text carries its account's mark. Nobody sees it.", _answers(report)
        ),
        section("The ledger's story", "Every act, allowed or refused, in the order it was recorded.", _ledger(report)),
        section("A proof to take away", _PROOF_NOTE, f"<pre tabindex='0'>{escape(report.proof)}</pre>"),
        section("Where it ran", "Times depend on the machine.", pairs(report.environment)),
    ]
    return page(escape(report.title), "\n".join(parts))


def _header(report: Report) -> str:
    """Return the title, the verdict in one line and the tallies."""
    count = {word: sum(step.outcome == word for step in report.steps) for word in _WORDS}
    verdict = _verdict(len(report.steps), count["failed"])
    tallies = {
        "steps done": ("ok", str(count["ok"])),
        "attempts refused": ("refused", str(count["refused"])),
        "failed": ("failed" if count["failed"] else "none", str(count["failed"])),
        "ledger entries": ("none", str(len(report.ledger))),
        "seconds in all": ("none", f"{sum(step.seconds for step in report.steps):.1f}"),
    }
    said = f"<p class='verdict'>{verdict} <span class='made'>{escape(report.made_at)}</span></p>"
    return header(report.title, said, tallies)


def _verdict(steps: int, failed: int) -> str:
    """Return the whole outcome in a sentence."""
    if not steps:
        return "Nothing was tried."
    return f"{failed} of {steps} steps failed." if failed else "Every step ended as it should."


def _steps(steps: Sequence[Step]) -> str:
    """Return the summary table."""
    rows = [
        f"<tr><th scope='row'>{escape(step.name)}</th><td>{escape(step.tried)}</td>"
        f"<td><span class='badge {step.outcome}'>{_WORDS[step.outcome]}</span></td>"
        f"<td class='detail'>{escape(step.detail)}</td><td class='number'>{step.seconds:.2f}</td></tr>"
        for step in steps
    ]
    return table(["Step", "What was tried", "Outcome", "Detail", "Seconds"], rows)


def _ledger(report: Report) -> str:
    """Return the ledger's table."""
    rows = [
        f"<tr class='{'denied' if row.outcome not in _ALLOWED else 'allowed'}'><td class='number'>{row.index}</td>"
        f"<td class='at'>{escape(row.at)}</td><td>{escape(row.who)}</td><td><code>{escape(row.action)}</code></td>"
        f"<td class='thing'>{escape(row.thing)}</td><td class='outcome'>{escape(row.outcome)}</td>"
        f"<td class='detail'>{escape(row.why)}</td></tr>"
        for row in report.ledger
    ]
    return table(["#", "When", "Who", "Action", "Object", "Outcome", "Why"], rows)


def _model(report: Report) -> str:
    """Return the prompt and what the model wrote."""
    return _figure(f"Asked: {report.prompt}", report.paragraph)


def _answers(report: Report) -> str:
    """Return what each customer asked and got."""
    return (
        "\n".join(_figure(f"{one.who} asked: {one.prompt}", one.text, f"Found: {one.found}") for one in report.answers)
        or "<p>Nothing.</p>"
    )


def _figure(caption: str, text: str, verdict: str = "") -> str:
    below = f"<p class='note'>{escape(verdict)}</p>" if verdict else ""
    return f"<figure><figcaption>{escape(caption)}</figcaption><blockquote>{escape(text)}</blockquote>{below}</figure>"
