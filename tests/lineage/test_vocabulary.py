"""Vocabularies of every kind as byte-level strings; a hostile one is none."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.lineage.vocabulary import TOKENS_LIMIT, byte_level, tokens_of


def told(document: object) -> list[str] | None:
    found = tokens_of(json.dumps(document).encode())
    return None if found is None else list(found)


def test_the_three_kinds_say_the_same() -> None:
    byte_pairs = {"model": {"type": "BPE", "vocab": {"Ġthe": 0, "Ã©": 1, "Ċ": 2}, "merges": [["a", "b"]]}}
    pieces = {"model": {"type": "BPE", "vocab": {"▁the": 0, "é": 1, "<0x0A>": 2}}}
    unigram = {"model": {"type": "Unigram", "vocab": [["▁the", -1.5], ["é", -2], ["<0x0A>", 0]], "unk_id": 0}}
    assert told(byte_pairs) == told(pieces) == told(unigram) == ["Ġthe", "Ã©", "Ċ"]


def test_added_tokens_and_gaps() -> None:
    document = {"model": {"vocab": {"a": 0, "b": 4}}, "added_tokens": [{"id": 2, "content": "<s>", "special": True}]}
    assert told(document) == ["a", "", "<s>", "", "b"]
    assert told({"model": {"vocab": {"▁a": 0}}, "added_tokens": [{"id": 1, "content": "<s>"}]}) == ["Ġa", "<s>"]


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20))
def test_pieces_become_the_bytes_of_their_text(words: list[str]) -> None:
    """Read back by GPT-2's table of letters, which is rebuilt here from its definition."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(byte): byte for byte in plain}
    table |= {chr(256 + at): byte for at, byte in enumerate(byte for byte in range(256) if byte not in plain)}
    words = [word for word in words if not word.startswith("Ġ") and "▁" not in word]
    made = byte_level(["▁" + word for word in words])
    read = [bytes(table[letter] for letter in token).decode() for token in made]
    assert read == [" " + word for word in words]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 1000,
        b'{"model": 1}',
        b'{"model": {}}',
        b'{"model": {"vocab": {}}}',
        b'{"model": {"vocab": []}}',
        b'{"model": {"vocab": {"a": -1}}}',
        b'{"model": {"vocab": {"a": 1.5}}}',
        b'{"model": {"vocab": {"a": "b"}}}',
        b'{"model": {"vocab": {"a": %d}}}' % TOKENS_LIMIT,
        b'{"model": {"vocab": {"a": 99999999999999999999999}}}',
        b'{"model": {"vocab": [["a"]]}}',
        b'{"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1e300, "content": "x"}]}',
        b'{"model": {"vocab": {"a": 0}}, "added_tokens": 3}',
    ],
)
def test_what_is_no_vocabulary_is_none(document: bytes) -> None:
    assert tokens_of(document) is None


def test_bombs_are_counted_before_they_are_read() -> None:
    began = time.process_time()
    for bomb in (b"[" * 60_000_000, b'{"a":' * 2_000_000, b'{"model":{"vocab":[' + b'["a",1],' * 2_000_000 + b"]}}"):
        assert tokens_of(bomb) is None
    assert time.process_time() - began < 3


@given(st.binary(max_size=60))
def test_noise_is_none(noise: bytes) -> None:
    assert tokens_of(noise) is None
    tokens_of(b'{"model": {"vocab": {"' + noise + b'": 0}}}')
