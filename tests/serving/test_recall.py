"""The output filter's parts: what leaves an answer, when, and what it remembers of accounts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pydoc_data.topics import topics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.access.deeds import Deeds
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, NotPermitted
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NothingAttached
from strongroom.core.words import words
from strongroom.ports.completions import Piece, TokenLogprob
from strongroom.ports.recall import Windows
from strongroom.privacy.windows.reader import open_windows
from strongroom.serving.recall import gathered
from strongroom.serving.recall.answer import BITE, Filtered
from strongroom.serving.recall.gathered import Gathered
from strongroom.serving.recall.own import Own
from strongroom.serving.recall.policy import Policy, check_policy, rules_of
from strongroom.serving.recalls import Attached, Recalls
from tests.access.office import Office
from tests.gateway.windows import INDEX_KEY, built

NAMES = sorted(topics)
MEMBERS = [" ".join(topics[one].split()) for one in NAMES[::2]]
HELD_OUT = " ".join(topics[NAMES[1]].split())
PASSAGE = " ".join(max(MEMBERS, key=len).split()[400:560])


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    place = tmp_path_factory.mktemp("index") / "windows"
    return open_windows(built(place, MEMBERS), Secret(INDEX_KEY))


def let_through(index: Windows, pieces: Sequence[Piece], policy: Policy, *own: str) -> tuple[Filtered, list[Piece]]:
    made = Filtered(index, policy, mine=Own(own), gather=lambda *_: False)
    out = list[Piece]()
    for one in pieces:
        out += made.feed(one, one.tokens)
        if made.incident and policy.action != "mark":
            return made, [*out, *made.before()]
    out += made.end()
    return made, [*out, *made.before()] if made.incident and policy.action != "mark" else out


def cut(text: str, sizes: Sequence[int] = (4,)) -> list[Piece]:
    found, at = list[Piece](), 0
    while at < len(text):
        size = sizes[len(found) % len(sizes)]
        one = text[at : at + size]
        found.append(Piece(id="", text=one, tokens=1, logprobs=(TokenLogprob(one, tuple(one.encode()), -1.0),)))
        at += size
    return found


def said(pieces: Sequence[Piece]) -> str:
    return "".join(one.text for one in pieces)


# ── what leaves ──────────────────────────────────────────────────────────────────────────────────────────────────────
@given(st.text(max_size=400), st.lists(st.integers(1, 90), min_size=1, max_size=5), st.integers(0, 30))
def test_what_is_not_known_comes_out_as_it_went_in(index: Windows, text: str, sizes: list[int], hold: int) -> None:
    pieces = cut(text, sizes)
    made, out = let_through(index, pieces, Policy(hold=hold))
    assert made.incident is None
    assert out == pieces
    assert made.withheld == 0


@given(st.integers(0, 40), st.lists(st.integers(1, 120), min_size=1, max_size=5), st.integers(0, 200))
def test_however_it_is_cut_nothing_of_a_passage_leaves_that_is_held(
    index: Windows, words_before: int, sizes: list[int], at: int
) -> None:
    before = " ".join(HELD_OUT.split()[at : at + words_before])
    pieces = cut(f"{before} {PASSAGE}", sizes)
    made, out = let_through(index, pieces, Policy(hold=24))
    assert made.incident is not None
    assert f"{before} ".startswith(said(out)[: len(before)])
    assert len(words(said(out))) <= len(words(before)) + 4
    assert said([Piece(id="", text=one.token, tokens=0) for each in out for one in each.logprobs]) in said(out)
    assert made.withheld > 0


@pytest.mark.parametrize("hold", [0, 5, 24, 60])
def test_the_lag_is_bounded(index: Windows, hold: int) -> None:
    made = Filtered(index, Policy(hold=hold), mine=Own(()), gather=lambda *_: False)
    came = went = ""
    for one in cut(HELD_OUT[:6000], (1, 3, 9)):
        came += one.text
        went += said(made.feed(one, 1))
        behind = came[len(went) :]
        assert len(words(behind[: -2 * BITE - 9])) <= hold + 1


@pytest.mark.parametrize("unit", ["-", " ", "\n", "ab", "\u200b"])
def test_what_has_no_words_is_not_held_for_ever(index: Windows, unit: str) -> None:
    made = Filtered(index, Policy(hold=10), mine=Own(()), gather=lambda *_: False)
    went = sum(len(said(made.feed(Piece(id="", text=unit * 7, tokens=1), 1))) for _ in range(3000))
    assert 3000 * 7 * len(unit) - went < 12 * 256


def test_one_large_piece_is_cut(index: Windows) -> None:
    text = f"{' '.join(HELD_OUT.split()[:60])} {PASSAGE}"
    shown = tuple(TokenLogprob(one, tuple(one.encode()), -1.0) for one in re.findall(r"\s?\S+", text))
    made, out = let_through(index, [Piece(id="", text=text, tokens=300, logprobs=shown)], Policy())
    assert text.startswith(said(out))
    assert 50 <= len(said(out).split()) <= 60
    assert "".join(one.token for one in out[0].logprobs) == said(out)
    assert 150 < made.withheld < 300


def test_thoughts_and_text_are_one_stream(index: Windows) -> None:
    said = PASSAGE.split()
    thoughts = [Piece(id="", text="", tokens=1, reasoning=one.text) for one in cut(" ".join(said[:15]))]
    made, out = let_through(index, [*thoughts, *cut(" ".join(said[15:60]))], Policy())
    assert made.incident is not None
    assert out == []


def test_empty_pieces_among_thoughts_end_no_word(index: Windows) -> None:
    thoughts = [Piece(id="", text="", tokens=1, reasoning=one.text) for one in cut(PASSAGE, (3,))]
    pieces = [one for each in thoughts for one in (each, Piece(id="", text="", tokens=1))]
    made, out = let_through(index, pieces, Policy())
    assert made.incident is not None
    assert out == []


def test_a_mark_lets_everything_pass(index: Windows) -> None:
    pieces = cut(f"{PASSAGE} {HELD_OUT[:500]} {PASSAGE}")
    made, out = let_through(index, pieces, Policy(action="mark"))
    assert made.incident is not None
    assert out == pieces


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_client_s_own_words_are_no_leak_and_do_not_open_the_door(index: Windows) -> None:
    pieces = cut(PASSAGE)
    for own in (
        PASSAGE,
        PASSAGE.upper(),
        f"Repeat this: {PASSAGE.replace(' ', '  ')}!",
        PASSAGE.replace("o", "\u043e"),
    ):
        made, out = let_through(index, pieces, Policy(), own)
        assert (made.incident, out) == (None, pieces)
    half = PASSAGE[: len(PASSAGE) // 2]
    made, out = let_through(index, pieces, Policy(), half)
    assert made.incident is not None
    assert len(said(out)) <= len(half)
    shuffled = " ".join(sorted(PASSAGE.split()))  # every word of it, but not in its order
    assert let_through(index, pieces, Policy(), shuffled)[0].incident is not None


@given(st.text(max_size=120), st.integers(0, 20), st.integers(1, 6))
def test_own_text_has_exactly_the_runs_of_words_that_it_has(text: str, at: int, many: int) -> None:
    all_words = [word for word, _ in words(text)]
    own, run = Own((text,)), all_words[at : at + many]
    if run:
        assert own.has(b" ".join(run))
    assert not own.has(b" ".join([*run, b"nobody", b"says", b"this"]))
    assert not Own(()).has(b"x")


def test_long_words_of_the_client_s_are_cut_like_all_others() -> None:
    text = "x" * 150 + " y"
    for word, _ in words(text):
        assert Own((text,)).has(word)


@pytest.mark.parametrize(
    ("shape", "hits"), [((8, 8), 3), ((8, 4), 5), ((6, 6), 5), ((5, 4), 7), ((4, 4), 10), ((64, 64), 3)]
)
def test_rules_follow_from_the_index(shape: tuple[int, int], hits: int) -> None:
    assert rules_of(*shape).hits == hits


@pytest.mark.parametrize("odd", [{"hold": -1}, {"hold": 999}, {"gathered": -1}, {"incidents_per_day": -1},
                                 {"tries": -1}, {"tries": 11},
                                 {"action": "refuse", "tell": "quiet"}])  # fmt: skip
def test_policies_that_can_not_be_kept(odd: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        check_policy(Policy(**odd))


# ── what is remembered ───────────────────────────────────────────────────────────────────────────────────────────────
def test_distinct_windows_of_a_document_add_up_over_a_day() -> None:
    kept = Gathered(20, stride=4)
    assert [kept.add("a", "1", owner=7, windows=[at]) for at in (1, 2, 2, 1, 3, 4, 5, 6)] == [False] * 6 + [True] * 2
    assert not kept.add("a", "1", owner=8, windows=[1])
    assert not kept.add("b", "1", owner=7, windows=[1])
    assert not kept.add("a", "2", owner=7, windows=[9])
    assert not any(Gathered(0, stride=4).add("a", "1", owner=1, windows=range(99)) for _ in range(3))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "_ACCOUNTS", 3)
    monkeypatch.setattr(gathered, "_DOCUMENTS", 4)
    kept = Gathered(12, stride=4)
    kept.add("a", "1", owner=0, windows=[1, 2])
    for owner in range(1, 50):
        kept.add("a", "1", owner=owner, windows=[owner])
    assert kept.add("a", "1", owner=0, windows=[3])  # that of which most was gathered stays
    for name in "bcd":
        kept.add(name, "1", owner=0, windows=[1])
    assert not kept.add("a", "1", owner=0, windows=[3])  # of whom nothing was heard for longest is forgotten


# ── the deed ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_attached_and_detached_by_deeds(office: Office, deeds: Deeds) -> None:
    recalls = Recalls(deeds, office.journal.clock)
    assert recalls.current() is None
    with pytest.raises(NothingAttached):
        recalls.detach(office.owner)
    wanted = Attached(
        index="index-1", digest="d", folder="/x", window=5, stride=4, since=stamp(office.journal.clock.now())
    )
    recalls.attach(office.owner, wanted)
    assert recalls.find() == wanted
    assert recalls.detach(office.owner) == wanted
    assert recalls.current() is None
    with pytest.raises(NotPermitted):
        recalls.attach(office.add("rosa", "researcher"), wanted)


@pytest.mark.parametrize(("step", "prompt"), [(7, "chat"), (4, "raw")])
def test_a_document_does_not_come_out_drop_by_drop(index: Windows, step: int, prompt: str) -> None:
    document = max(MEMBERS, key=len).split()
    drops = Gathered(400, stride=index.stride)
    taken = 40  # words that the thief has to begin with
    while taken < len(document):
        sofar = " ".join(document[:taken])
        made = Filtered(
            index,
            Policy(),
            mine=Own((sofar,)),
            gather=lambda owner, found: drops.add("thief", "2026-01-01", owner=owner, windows=found),
        )
        if prompt == "raw":
            made.goes_on_from(sofar, counts=False)
        for one in cut(" " + " ".join(document[taken : taken + step])):
            made.feed(one, 1)
        made.end()
        if made.incident is not None:
            break
        taken += step
    assert made.incident is not None
    assert made.incident.rule == "gathered"
    assert taken < min(1200, len(document) - step)
