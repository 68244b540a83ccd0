"""Words of texts: the same however a text is cut, and whatever its case, punctuation, spacing and look-alikes."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.words import LONGEST, WordStream, fold, words

TEXT = st.text(
    st.one_of(
        st.sampled_from("abcXYZ019_ .,-\n\t\u2019é\u0301ß東タ\u200b\u00adﬁ\u0430\u0391—Ⅷ𝒳"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=200,
)
LETTERS = set(b"0123456789_abcdefghijklmnopqrstuvwxyz") | set(range(0x80, 0x100))


def spelled(text: str) -> list[str]:
    return [word.decode() for word, _ in words(text)]


def test_case_punctuation_spacing_and_look_alikes_do_not_matter() -> None:
    plain = ["the", "cafe", "master", "key", "of", "strasse", "9", "is", "foo_bar"]
    for text in (
        "The Café: master-key of Straße 9 is foo_bar",
        "THE  CAFE\u0301\n(MASTER) “key”, of STRASSE…9 — is foo_bar!",
        "T\u3164he ca\u115ffe ma\uffa0ster key\u1160 of strasse 9 is foo_bar",
        "\uff34\uff48\uff45 c\u200baf\u00ade m\u0430st\u0435r k\u0435y \u043ef strasse ⑨ is FOO_BAR",
    ):
        assert spelled(text) == plain, text


def test_scripts_without_spaces_are_words_of_one_character() -> None:
    assert spelled("東京タワーの高さは333m") == ["東", "京", "タ", "ワ", "ー", "の", "高", "さ", "は", "333m"]


def test_nothing_waits_for_ever() -> None:
    stream = WordStream()
    found = stream.feed("a" * 1000)
    assert [len(word) for word, _ in found] == [LONGEST] * 15
    assert [end for _, end in found] == [64 * at for at in range(1, 16)]
    assert stream.feed("\u200b" * 100_000) == []
    assert stream.end() == [(b"a" * 40, 1000)]


@given(TEXT, st.lists(st.integers(1, 9), min_size=1))
def test_a_text_cut_anywhere_has_the_same_words(text: str, cuts: list[int]) -> None:
    stream, found, at, turn = WordStream(), [], 0, 0
    while at < len(text):
        size = cuts[turn % len(cuts)]
        found += stream.feed(text[at : at + size])
        at, turn = at + size, turn + 1
    assert found + stream.end() == words(text)


@given(TEXT)
def test_words_are_what_the_format_says(text: str) -> None:
    found = words(text)
    ends = [end for _, end in found]
    assert ends == sorted(ends)
    assert all(0 < len(word) <= LONGEST and set(word) <= LETTERS for word, _ in found)
    assert [one.group() for one in re.finditer(rb"[0-9a-z_\x80-\xff]{1,64}", fold(text).lower())] == [
        w for w, _ in found
    ]
