"""Where a text comes from: which stretches of it a corpus has, and in which documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from strongroom.core.words import Word, words
from strongroom.privacy.windows.reader import WindowIndex

_RUN: Final = 3  # windows' worth of words in a row that make a match
_COVERAGE: Final = 0.5  # of a text's words, or these


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text that a corpus has."""

    start: int  # characters
    end: int
    words: int
    owner: int  # the number of a document that has its beginning


@dataclass(frozen=True, slots=True)
class Found:
    """What a corpus has of a text."""

    verdict: Literal["match", "no_match", "inconclusive"]
    words: int
    coverage: float  # of these, in windows that the corpus has
    longest_run: int  # words in a row
    spans: tuple[Span, ...]
    values: tuple[Span, ...]  # keys, numbers of cards and accounts of the corpus that are in the text
    by_chance: float  # windows that are expected to be found though the corpus lacks them


def check(text: str, index: WindowIndex) -> Found:
    """Compare a text with a corpus.

    *match*: a value of the corpus, a run of three windows' words, or half of all words; *inconclusive*: less, but
    something, or the text is too short for anything to be certain of being found; else *no_match*. A match says that
    these words stand in the corpus, not who wrote them first.
    """
    said = words(text)
    spans = tuple(_spans(text, said, index))
    values = tuple(_values(text, said, index))
    covered = sum(one.words for one in spans)
    longest = max((one.words for one in spans), default=0)
    share = covered / len(said) if said else 0.0
    if values or longest >= _RUN * index.window or (longest > index.window and share >= _COVERAGE):
        verdict = "match"
    else:
        certain = len(said) >= index.window + index.stride - 1
        verdict = "inconclusive" if spans or not certain else "no_match"
    table = index.header.windows
    return Found(
        verdict=verdict,
        words=len(said),
        coverage=share,
        longest_run=longest,
        spans=spans,
        values=values,
        by_chance=max(0, len(said) - index.window + 1) * table.entries / 2.0 ** (table.bits + 32),
    )


def _spans(text: str, said: Sequence[Word], index: WindowIndex) -> list[Span]:
    """Return the stretches that windows of the corpus cover, those that touch taken together."""
    found = list[tuple[int, int, int]]()  # first word, last, owner
    spelled = [word for word, _ in said]
    for first in range(len(said) - index.window + 1):
        owner = index.find(b" ".join(spelled[first : first + index.window]))
        if owner < 0:
            continue
        last = first + index.window - 1
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], last, found[-1][2])
        else:
            found.append((first, last, owner))
    return [_span(text, said, one) for one in found]


def _values(text: str, said: Sequence[Word], index: WindowIndex) -> list[Span]:
    spelled = [word for word, _ in said]
    found = list[Span]()
    for last in range(len(said)):
        owner = index.find_value(spelled[max(0, last - 7) : last + 1])
        if owner >= 0:
            found.append(_span(text, said, (last, last, owner)))
    return found


def _span(text: str, said: Sequence[Word], stretch: tuple[int, int, int]) -> Span:
    first, last, owner = stretch
    end = said[last][1]
    start = said[first - 1][1] if first else 0
    while start < end and not (text[start].isalnum() or text[start] == "_"):
        start += 1  # past what separates it from the word before
    return Span(start=start, end=end, words=last - first + 1, owner=owner)
