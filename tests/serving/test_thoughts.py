"""What a model thinks aloud is taken out of what it says, however the tags are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.ports.completions import Piece, TokenLogprob
from strongroom.serving.disclosure.tiers import TIERS
from strongroom.serving.shown import Shown
from strongroom.serving.thoughts import Thoughts, ThoughtTokens, after_lone_end, spelling
from strongroom.serving.wire import Wanted, read_text

CASES = {
    "plain": ("hello", "hello"),
    "thought": ("<think>secret</think>answer", "answer"),
    "spaced": ("\n<think>\nsecret\n</think>\n\nanswer\n", "\nanswer\n"),
    "upper": ("<THINK>secret</Think>answer", "answer"),
    "unclosed": ("a<think>secret", "a"),
    "unclosed, cut": ("a<think>secret</thi", "a"),
    "two": ("<think>s</think>a <thinking>s</thinking>b", "a b"),
    "no tag": ("a < b <thin> <thi", "a < b <thin> <thi"),
    "not at the end": ("1 <", "1 <"),
    "inside another": ("<think>x<think>y</think>answer", "answer"),
    "other words": ("<reasoning>secret</reasoning><b>bold</b>", "<b>bold</b>"),
}


@pytest.mark.parametrize("name", CASES)
@given(data=st.data())
def test_thoughts_are_left_out_wherever_the_text_is_cut(name: str, data: st.DataObject) -> None:
    text, shown = CASES[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    thoughts = Thoughts()
    assert "".join([*(thoughts.feed(piece) for piece in pieces), thoughts.end()]) == shown


@given(st.lists(st.sampled_from(["<", "think", ">", "</", "a", " ", "<think>", "</think>", "i"]), max_size=20))
def test_what_is_held_back_is_never_lost_and_tokens_are_told_as_the_text_is(pieces: list[str]) -> None:
    thoughts, spelled = Thoughts(), ThoughtTokens()
    text = "".join([*(thoughts.feed(piece) for piece in pieces), thoughts.end()])
    whole = Thoughts()
    assert text == whole.feed("".join(pieces)) + whole.end()
    tokens = [TokenLogprob(piece, tuple(piece.encode()), -1.0) for piece in pieces]
    shown = [one for each in tokens for one in spelled.feed([each])] + spelled.end()
    if "<think>" not in "".join(pieces):
        assert shown == tokens
    else:
        kept = iter(pieces)
        assert all(one.token in kept for one in shown)  # in order, and none that was not there
        letters = iter(text)
        assert all(letter in letters for letter in "".join(one.token for one in shown).replace(" ", ""))


def test_a_thought_that_the_template_has_begun() -> None:
    assert after_lone_end("secret</think>\n\nanswer") == "answer"
    assert after_lone_end("answer") == "answer"


@given(st.lists(st.sampled_from(["<", "a", " b", "<thi", "x<", ">"]), max_size=12))
def test_what_only_looks_like_a_tag_counts_as_no_thought(pieces: list[str]) -> None:
    wanted = read_text(b'{"model":"m","prompt":"p"}')
    assert isinstance(wanted, Wanted)
    shown = Shown(wanted, TIERS["standard"], bytes(32))
    texts = [shown.piece(Piece(id="r", text=one, tokens=1)).text for one in pieces]
    last = shown.end()
    assert "".join(texts) + (last.text if last else "") == "".join(pieces)
    assert shown.reasoning_tokens == 0


def test_tokens_of_thoughts_are_counted_as_far_as_they_are_told() -> None:
    wanted = read_text(b'{"model":"m","prompt":"p"}')
    assert isinstance(wanted, Wanted)
    pieces = [
        Piece(id="r", text="<think>", tokens=1),
        Piece(id="r", text="seven", tokens=7),
        Piece(id="r", text="</think>half", tokens=3),
        Piece(id="r", text="", reasoning="two", tokens=2),
        Piece(id="r", text="said", tokens=1),
    ]
    counts = {}
    for name, tier in TIERS.items():
        shown = Shown(wanted, tier, bytes(32))
        for one in pieces:
            shown.piece(one)
        counts[name] = shown.reasoning_tokens
    assert counts == {"closed": 0, "standard": 12, "trusted": 2}


def listed(*tokens: str) -> tuple[TokenLogprob, ...]:
    return tuple(TokenLogprob(one, tuple(one.encode()), -0.1, ((one, tuple(one.encode()), -0.1),)) for one in tokens)


@pytest.mark.parametrize(("tier", "kept"), [("standard", "answer é"), ("trusted", "secret thought</think>answer é")])
def test_a_whole_answer_s_log_probabilities_do_not_spell_the_thought_before_it(tier: str, kept: str) -> None:
    wanted = read_text(b'{"model":"m","prompt":"p","logprobs":5}')
    assert isinstance(wanted, Wanted)
    tokens = listed("secret ", "thought", "</think>", "answer", " é")
    piece = Piece(id="r", text="answer é", tokens=5, logprobs=tokens, reasoning="secret thought")
    shown = Shown(wanted, TIERS[tier], bytes(32)).piece(piece)
    assert "".join(one.token for one in shown.logprobs) == kept


@given(st.lists(st.sampled_from(["a", "b", " ", "é", "ab"]), max_size=6), st.text("ab é", max_size=6))
def test_the_tokens_that_are_kept_spell_the_text_or_there_are_none(tokens: list[str], text: str) -> None:
    kept = spelling(text, listed(*tokens))
    assert "".join(one.token for one in kept) in {text, ""}
    ends = ["".join(tokens[at:]) for at in range(len(tokens) + 1)]
    assert bool(kept) == (text in ends and text != "")
