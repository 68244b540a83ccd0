"""Copies that somebody has changed so that they may pass: what is promised is caught, and what is not is let through.

Modest in size; benchmarks/recall.py measures the same over more text and docs/recall.md has the table.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

import click
import pytest
import rich

from strongroom.core.secrets import Secret
from strongroom.core.words import words
from strongroom.engines.texts import source_texts
from strongroom.ports.completions import Piece
from strongroom.ports.recall import Windows
from strongroom.privacy.windows.reader import open_windows
from strongroom.serving.recall.answer import Filtered
from strongroom.serving.recall.own import Own
from strongroom.serving.recall.policy import Policy
from tests.gateway.windows import INDEX_KEY, built

WORDS = 120
SIZE = 30_000  # letters of a document of code
TOPICS = [topics[one] for one in sorted(topics)]
CODE = source_texts(1_500_000)
MEMBERS = TOPICS + [CODE[at : at + SIZE] for at in range(0, len(CODE), SIZE)]
# of other authors, so that what is found is no copy: this repository's pages, and packages that it needs
PLACES = [Path(__file__).parents[2] / "docs", Path(click.__file__).parent, Path(rich.__file__).parent]
STRANGERS = [one.read_text() for place in PLACES for one in sorted(place.rglob("*")) if one.suffix in {".md", ".py"}]


def passages(texts: list[str]) -> list[str]:
    found = list[str]()
    for text in texts:
        ends = [end for _, end in words(text)]
        found += [text[ends[at] : ends[at + WORDS]] for at in range(0, len(ends) - WORDS, 2 * WORDS)][:8]
    return found


INSIDE, OUTSIDE = passages(MEMBERS)[::4], passages(STRANGERS)


@pytest.fixture(scope="module", params=[(5, 4), (8, 8)], ids=["5,4", "8,8"])
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Windows:
    window, stride = request.param
    place = tmp_path_factory.mktemp("index") / "windows"
    return open_windows(built(place, MEMBERS, window=window, stride=stride), Secret(INDEX_KEY))


def stopped(index: Windows, text: str) -> bool:
    made = Filtered(index, Policy(), mine=Own(()), gather=lambda *_: False)
    for at in range(0, len(text), 4):
        made.feed(Piece(id="", text=text[at : at + 4], tokens=1), 1)
        if made.incident:
            return True
    made.end()
    return made.incident is not None


def share(index: Windows, change: Callable[[str], str], texts: list[str]) -> float:
    return sum(stopped(index, change(one)) for one in texts) / len(texts)


def edited(every: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        parts = re.split(r"(\w+)", text)
        return "".join("zebra" if at % 2 and at // 2 % every == every - 1 else one for at, one in enumerate(parts))

    return change


SAME: dict[str, Callable[[str], str]] = {
    "verbatim": lambda text: text,
    "upper": str.upper,
    "no punctuation": lambda text: re.sub(r"[^\w\s]+", " ", text),
    "other punctuation": lambda text: re.sub(r"\W+", ", ", text),
    "spacing": lambda text: "\n\n".join(text.split()),
    "look-alikes": lambda text: text.translate(str.maketrans("aeopcx", "\u0430\u0435\u043e\u0440\u0441\u0445")),
    "full width": lambda text: text.translate({at: at + 0xFEE0 for at in range(0x21, 0x7F)}),
    "zero width": "\u200b".join,
    "accents": lambda text: unicodedata.normalize("NFC", re.sub("([aeiou])", "\\1\u0301", text)),
}


@pytest.mark.parametrize("name", SAME)
def test_what_the_folding_undoes_is_caught(index: Windows, name: str) -> None:
    assert share(index, SAME[name], INSIDE) >= 0.98


def test_light_edits_are_caught(index: Windows) -> None:
    assert share(index, edited(12), INSIDE) >= 0.98
    seventh = share(index, edited(7), INSIDE)
    assert seventh >= 0.95 if index.window == 5 else seventh <= 0.2  # windows of eight words see none of it


def test_other_text_is_let_through(index: Windows) -> None:
    assert len(OUTSIDE) > 300
    assert sum(stopped(index, one) for one in OUTSIDE) <= 0.01 * len(OUTSIDE)


@pytest.mark.parametrize("change", [
    lambda text: base64.b64encode(text.encode()).decode(),
    " ".join,
    lambda text: " ".join(reversed(text.split())),
    edited(4),
])  # fmt: skip
def test_what_passes_is_known_to_pass(index: Windows, change: Callable[[str], str]) -> None:
    """The docs say so: whoever mends one of these mends that table, too."""
    assert share(index, change, INSIDE) <= 0.1
