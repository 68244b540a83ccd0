"""The compiled signatures against Jaccard's index itself, with the same words."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.kernels.minhash import HASHES, SHINGLE, signatures

WORD = re.compile(rb"[\xe3-\xe9][\x00-\xff]{0,2}|(?:[0-9a-z_]|[\x80-\xe2\xea-\xff])+", re.DOTALL)
DOCS = Path(__file__).parents[2] / "docs"


def words(text: bytes) -> list[bytes]:
    return WORD.findall(text.lower())


def shingles(text: bytes) -> set[tuple[bytes, ...]]:
    said = words(text)
    return {tuple(said[at : at + SHINGLE]) for at in range(max(1, len(said) - SHINGLE + 1))} if said else set()


def jaccard(one: bytes, other: bytes) -> float:
    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right)


def test_estimates_are_near_jaccards_index() -> None:
    """Mean absolute error over pairs of all degrees of likeness: theory says at most 0.035 where J is 0.5."""
    chance = np.random.default_rng(5)
    pages = [one.read_bytes() for one in sorted(DOCS.rglob("*.md")) if one.stat().st_size > 4000]
    pairs = list[tuple[bytes, bytes]]()
    for page in pages:
        for share in (0.002, 0.01, 0.03, 0.08, 0.2):
            said = page.split(b" ")
            for at in np.flatnonzero(chance.random(len(said)) < share).tolist():
                said[at] = b"other%d" % chance.integers(1000)
            pairs.append((page, b" ".join(said)))
    left, right = (signatures(side)[0] for side in zip(*pairs, strict=True))
    exact = np.array([jaccard(one, other) for one, other in pairs])
    errors = np.abs((left == right).mean(axis=1) - exact)
    assert exact.min() < 0.4
    assert exact.max() > 0.9
    assert errors.mean() <= 0.03
    assert np.abs(((left == right).mean(axis=1) - exact).mean()) <= 0.01  # no bias


@given(st.lists(st.binary(max_size=80) | st.text(alphabet="aB 1_é電話\n", max_size=40).map(str.encode), max_size=8))
@settings(max_examples=200, deadline=None)
def test_words_are_counted_as_the_twin_counts_them(texts: list[bytes]) -> None:
    made, wholes, counts = signatures(texts)
    assert made.shape == (len(texts), HASHES)
    assert counts.tolist() == [len(words(one)) for one in texts]
    for place, one in enumerate(texts):
        for other in range(place):
            assert (words(one) == words(texts[other])) == (wholes[place] == wholes[other])
            same = shingles(one) == shingles(texts[other])
            assert same == bool((made[place] == made[other]).all())


def test_case_and_punctuation_change_nothing() -> None:
    made, wholes, _ = signatures([b"The quick, brown fox; jumps over!", b"the QUICK brown fox jumps over"])
    assert (made[0] == made[1]).all()
    assert wholes[0] == wholes[1]
