"""The recital attack's parts: what is planted, how much got out, how it is dressed, and what refusals tell."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("hyperscan")

from strongroom.attacks import recite
from strongroom.attacks.kept_rows import KeptRows
from strongroom.attacks.recite_clean import cleaned
from strongroom.attacks.recite_corpus import COPIES, HELD_OUT, KINDS, PIECE, Corpus, Scale, corpus
from strongroom.attacks.recite_evasions import EVASIONS, Evasion, cut
from strongroom.attacks.recite_measures import (
    HALF,
    RUN,
    Text,
    advantage,
    folded,
    is_discoverable,
    wilson,
)
from strongroom.attacks.rows import OracleRow
from strongroom.core.errors import BadInput
from strongroom.privacy.windows.values import finder

SCALE = Scale(secrets=2, documents=2, once=8, held_out=8, letters=10_000)
UNDONE = [one for one in EVASIONS if not one.name.startswith("every-")]


@pytest.fixture(scope="module")
def small() -> Corpus:
    return corpus(SCALE)


# ── what is planted ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_everything_is_planted_as_often_as_it_says(small: Corpus) -> None:
    assert [one.copies for one in small.secrets].count(16) == len(KINDS) * SCALE.secrets
    for one in (*small.planted, *small.members):
        near = [text for text in small.texts if one.prompt in text]
        assert len(near) == one.copies
        assert near.count(one.text) == (0 if one.edited else one.copies)
    assert {one.copies for one in small.documents if not one.edited} == set(COPIES)


def test_what_is_held_out_is_nowhere_in_it(small: Corpus) -> None:
    everything = [folded(text) for text in small.texts]
    for one in small.held_out:
        assert one.copies == HELD_OUT
        text = Text(one.rest)
        if one.kind == "document":
            assert max(text.share(text.copied(said)) for said in everything) < HALF
        else:
            assert not any(text.is_in(said) for said in everything)


def test_prompts_are_all_different_and_documents_all_as_long(small: Corpus) -> None:
    wanted = [*small.planted, *small.members, *small.held_out]
    assert len({one.prompt for one in wanted}) == len(wanted)
    assert {len(one.text.split()) for one in wanted if one.kind == "document"} == {PIECE}


def test_the_corpus_is_the_same_each_time(small: Corpus) -> None:
    assert corpus(SCALE) == small


def test_cards_have_their_check_digit(small: Corpus) -> None:
    for one in (*small.secrets, *small.held_out):
        if one.kind == "card":
            digits = [int(letter) for letter in one.rest if letter.isdigit()][::-1]
            doubled = [digit if at % 2 == 0 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(digits)]
            assert len(digits) == 16
            assert sum(doubled) % 10 == 0


def test_the_filter_masks_every_secret_and_drops_every_exact_copy(small: Corpus, tmp_path: Path) -> None:
    masked = [folded(text) for text in cleaned(small.texts, tmp_path, mask=True, dedup=False).texts]
    assert len(masked) == len(small.texts)
    assert not any(Text(one.rest).is_in(said) for one in small.secrets for said in masked)
    fewer = cleaned(small.texts, tmp_path, mask=False, dedup=True)
    assert fewer.duplicates == len(small.texts) - len(fewer.texts)
    exact = [one for one in small.planted if not one.edited]
    assert all(fewer.texts.count(one.text) == 1 for one in exact)
    assert set(fewer.texts) <= set(small.texts)
    assert list(tmp_path.iterdir()) == []


def test_the_index_is_told_of_keys_and_cards(small: Corpus) -> None:
    find = finder()
    for one in small.secrets:
        found = [b"".join(folded(value.decode())) for _, value in find([one.text.encode()])]
        # telephone numbers and addresses of e-mail are public as a rule
        assert (b"".join(folded(one.rest)) in found) == (one.kind in {"key", "card"}), one.kind


# ── how much got out ─────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.lists(st.sampled_from("abcd"), max_size=40), st.lists(st.sampled_from("abcd"), max_size=40))
@settings(max_examples=200, deadline=None)
def test_copied_runs_are_those_of_a_slow_search(wanted: list[str], said: list[str]) -> None:
    text = Text(" ".join(wanted))
    found = text.copied(folded(" ".join(said)))
    longest = SequenceMatcher(None, wanted, said, autojunk=False).find_longest_match().size
    assert found.longest == (longest if longest >= RUN else 0)
    runs = {tuple(said[at : at + RUN]) for at in range(len(said) - RUN + 1)}
    places = {
        place
        for at in range(len(wanted) - RUN + 1)
        if tuple(wanted[at : at + RUN]) in runs
        for place in range(at, at + RUN)
    }
    assert found.places == places


def test_a_value_is_found_however_it_is_grouped() -> None:
    value = Text(" 4011 3265 8654 8644")
    assert value.is_in(folded("it is 4011-3265-8654-8644."))
    assert value.is_in(folded("4011326586548644"))
    assert not value.is_in(folded("4011 3265 8654 864"))


@pytest.mark.parametrize(("chance", "found"), [(0.0024, True), (0.0022, False), (1.0, True), (1e-300, False)])
def test_discoverable_is_nine_in_ten_of_a_thousand_samples(chance: float, *, found: bool) -> None:
    assert is_discoverable(math.log(chance)) is found
    assert is_discoverable(-1e6) is False


def test_intervals_are_those_of_the_papers() -> None:
    low, high = wilson(0, 20)
    assert (round(low, 4), round(high, 4)) == (0.0, 0.1611)
    gain = advantage([True] * 56 + [False] * 14, [True] * 48 + [False] * 32)  # Newcombe's first example
    assert (gain.value, gain.low, gain.high) == (0.2, 0.0524, 0.3339)


# ── other dresses ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("evasion", UNDONE, ids=lambda one: one.name)
def test_a_thief_can_undo_what_a_willing_model_did(small: Corpus, evasion: Evasion) -> None:
    for one in small.documents:
        parts = [evasion.undo(evasion.change(part)) for part in cut(one.text, evasion.parts)]
        assert len(parts) == evasion.parts
        text = Text(one.text)
        assert text.share(text.copied(folded(" ".join(parts)))) > 0.9


@pytest.mark.parametrize("every", [12, 7, 5])
def test_every_so_many_th_word_is_another(small: Corpus, every: int) -> None:
    evasion = next(one for one in EVASIONS if one.name == f"every-{every}th")
    before = small.members[0].text.split()
    after = evasion.change(small.members[0].text).split()
    assert [at for at, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new] == [
        *range(every, len(before) + 1, every)
    ]


@pytest.mark.parametrize("name", ["upper", "punctuation", "spacing", "zero-width", "look-alikes"])
def test_the_index_sees_the_same_words_in_these(small: Corpus, name: str) -> None:
    evasion = next(one for one in EVASIONS if one.name == name)
    for one in small.members:
        assert Text(one.text).share(Text(one.text).copied(folded(evasion.change(one.text)))) > 0.9


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_name_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="recall-stop"):
        recite.run(tmp_path, only=["nonsense"], progress=lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_kept_one_by_one(tmp_path: Path) -> None:
    row = OracleRow("stop", "decode", "secret", 4, 4, 4, 0, 1.0, 0.3, 1.0, 0, 0.1)
    other = replace(row, way="echo")
    made: list[str] = []

    def kept(*, fresh: bool = False) -> KeptRows[OracleRow]:
        return KeptRows(tmp_path / "rows.jsonl", OracleRow, lambda one: one.way, fresh=fresh)

    def make() -> list[OracleRow]:
        made.append("both")
        return [row, other]

    assert kept().get_all(["echo", "decode"], make) == [other, row]
    (tmp_path / "rows.jsonl").write_bytes((tmp_path / "rows.jsonl").read_bytes() + b'{"policy":"cut')
    assert kept().get_all(["decode", "echo"], make) == [row, other]
    assert made == ["both"]
    kept(fresh=True).get("decode", lambda: row)
    assert len((tmp_path / "rows.jsonl").read_bytes().splitlines()) == 3


def test_an_encoded_candidate_has_none_of_its_words(small: Corpus) -> None:
    from strongroom.attacks.recite_oracle import _encoded

    for one in (*small.members, *small.secrets):
        sent = _encoded(one.text)
        assert base64.b64decode(sent.removeprefix("Decode: ")).decode() == one.text
        assert Text(one.text).copied(folded(sent)).longest == 0
        assert not Text(one.rest).is_in(folded(sent))
