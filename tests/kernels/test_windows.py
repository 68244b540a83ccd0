"""Compiled fingerprints against `hashlib`, sorting and probing against numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the privacy extra is not installed")

from strongroom.core.words import fold, words
from strongroom.kernels.blake2b import hashed, keyed
from strongroom.kernels.tables import distinct, probe, sort_pairs
from strongroom.kernels.windows import fingerprints

PERSON = b"strongroom-win"
TEXT = st.text(st.sampled_from("abC9_ .\n\u2019é東\u200b—"), max_size=300)
STEPS = st.integers(1, 9)
UNHURRIED = settings(deadline=None)  # the first call compiles


def plain(texts: Sequence[str], key: bytes, window: int, stride: int) -> list[tuple[int, int]]:
    """Return what the format says, in plain Python."""
    found = []
    for number, text in enumerate(texts):
        said = [word for word, _ in words(text)]
        for first in range(0, len(said) - window + 1, stride):
            raw = b" ".join(said[first : first + window])
            digest = hashlib.blake2b(raw, digest_size=8, key=key, person=PERSON).digest()
            found.append((int.from_bytes(digest, "little"), number))
    return found


def compiled(texts: Sequence[str], key: bytes, window: int, stride: int) -> list[tuple[int, int]]:
    raw = [fold(one) for one in texts]
    prints, owners = fingerprints(
        np.frombuffer(b"".join(raw), dtype=np.uint8),
        np.cumsum([len(one) for one in raw], dtype=np.int64),
        window=window,
        stride=stride,
        state=keyed(key, PERSON),
    )
    return list(zip(prints.tolist(), owners.tolist(), strict=True))


@UNHURRIED
@given(st.binary(min_size=1, max_size=400), st.binary(min_size=1, max_size=64), st.binary(max_size=16))
def test_blake2b_is_hashlibs(data: bytes, key: bytes, person: bytes) -> None:
    found = hashed(keyed(key, person), np.frombuffer(data, dtype=np.uint8), np.empty(24, dtype=np.uint64))
    assert int(found).to_bytes(8, "little") == hashlib.blake2b(data, digest_size=8, key=key, person=person).digest()


@settings(max_examples=200)
@given(
    st.lists(TEXT, min_size=1, max_size=5), st.binary(min_size=32, max_size=32), st.integers(1, 9), st.integers(1, 9)
)
def test_fingerprints_are_those_of_the_format(texts: list[str], key: bytes, window: int, stride: int) -> None:
    assert compiled(texts, key, window, stride) == plain(texts, key, window, stride)


def test_long_words_and_long_windows() -> None:
    texts = ["x" * 1000 + " y", "", "a b", " ".join("word" * (at % 7 + 1) for at in range(500))]
    assert compiled(texts, bytes(32), 20, 3) == plain(texts, bytes(32), 20, 3)


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 5), st.integers(0, 2**32 - 1)), max_size=200))
def test_sorting_keeps_the_order_of_equals(pairs: list[tuple[int, int]]) -> None:
    prints = np.array([one for one, _ in pairs], dtype=np.uint64)
    owners = np.array([one for _, one in pairs], dtype=np.uint32)
    order = np.argsort(prints, kind="stable")
    found, whose = sort_pairs(prints, owners)
    assert found.tolist() == prints[order].tolist()
    assert whose.tolist() == owners[order].tolist()


def test_what_many_documents_have_is_dropped_and_copies_count_once() -> None:
    # documents 0 to 4, of which 3 and 4 are copies of 0
    first = np.array([0, 1, 2, 0, 0], dtype=np.uint32)
    rows = [(7, 0), (7, 0), (7, 3), (7, 4), (8, 0), (8, 1), (8, 2), (9, 2), (9, 4)]
    prints = np.array([one for one, _ in rows], dtype=np.uint64)
    owners = np.array([one for _, one in rows], dtype=np.uint32)
    kept = distinct(prints, owners, first=first, common=3)
    assert list(zip(prints[:kept].tolist(), owners[:kept].tolist(), strict=True)) == [(7, 0), (9, 2)]


def test_copies_count_even_where_the_first_lacks_the_window() -> None:
    first = np.arange(12, dtype=np.uint32) // 2 * 2  # each odd document is a version of the one before
    prints = np.full(6, 7, dtype=np.uint64)
    for common, kept in ((6, 0), (7, 1)):
        owners = np.arange(1, 12, 2, dtype=np.uint32)
        assert distinct(prints.copy(), owners, first=first, common=common) == kept
    owners = np.array([1, 1, 2, 3, 3, 3], dtype=np.uint32)  # of two documents alone
    assert distinct(prints.copy(), owners, first=first, common=3) == 1


@pytest.mark.parametrize("bits", [0, 1, 9, 20])
def test_probing_finds_all_that_is_there_and_nothing_else(bits: int) -> None:
    chance = np.random.default_rng(bits)
    prints = np.unique(chance.integers(0, 2**64, 3000, dtype=np.uint64))
    buckets = (prints >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(prints), dtype=np.int64)
    starts = np.zeros((1 << bits) + 1, dtype=np.uint32)
    np.add.at(starts, buckets + 1, np.uint32(1))
    starts = np.cumsum(starts).astype(np.uint32)
    rest = (prints >> np.uint64(32 - bits)).astype(np.uint32)
    assert probe(prints, (starts, rest, bits)).tolist() == list(range(len(prints)))
    strangers = np.setdiff1d(chance.integers(0, 2**64, 3000, dtype=np.uint64), prints)
    assert (probe(strangers, (starts, rest, bits)) < 0).all()
