"""Distinct sets of biases are counted, by prompt and by day, however the prompt is spelt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.ports.completions import Turn
from strongroom.serving.disclosure.bias_sets import BiasSets, bias_digest, prompt_digest
from strongroom.serving.disclosure.tiers import TIERS

VEIL = bytes(range(32))
TIER = TIERS["standard"]
DAY = "2026-11-23"


def digest(text: str, *, role: str = "user") -> bytes:
    return prompt_digest(VEIL, (Turn(role, text),), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other", ["hello  world", " HELLO World\n", "\uff28ello world", "hello\u00a0world", "hello\tworld "]
)
def test_spellings_count_together(other: str) -> None:
    assert digest(other) == digest("hello world")


def test_the_longest_prompts_are_evened_out_at_their_beginning_only() -> None:
    long = "\ufdfa " * 300_000
    began = time.process_time()
    one = digest(long)
    assert time.process_time() - began < 0.5
    assert one == digest(long)
    assert one != digest(long + "x")
    assert digest("A" * 20_000) == digest("a" + "A" * 19_999)
    assert digest("A" * 20_000) != digest("A" * 19_999 + "a")


def test_what_differs_counts_apart() -> None:
    assert digest("helloworld") != digest("hello world")
    assert digest("x", role="developer") == digest("x", role="system") != digest("x")
    one, two = (Turn("user", "a b"),), (Turn("user", "a"), Turn("user", "b"))
    assert prompt_digest(VEIL, one, None) != prompt_digest(VEIL, two, None)
    assert prompt_digest(VEIL, one, None) != prompt_digest(VEIL[::-1], one, None)


@given(st.lists(st.tuples(st.binary(max_size=1), st.integers(0, 6)), max_size=150))
def test_neither_the_prompt_s_nor_the_day_s_count_is_passed(asked: list[tuple[bytes, int]]) -> None:
    sets = BiasSets()
    let: dict[bytes, set[int]] = {}
    for prompt, bias in asked:
        distinct = set[int]().union(*let.values())
        seen = let.setdefault(prompt, set())
        admitted = sets.admit("a", DAY, prompt=prompt, bias=bias_digest([(bias, 1.0)]), tier=TIER)
        room = len(seen) < TIER.bias_sets and (bias in distinct or len(distinct) < TIER.bias_sets_a_day)
        assert admitted == (bias in seen or room)
        if admitted:
            seen.add(bias)


def test_one_set_beside_many_prompts_is_one_of_the_day_s_and_an_account_fills_its_own_share_alone() -> None:
    sets = BiasSets()
    bias = bias_digest([(1, -100.0)])
    let = [sets.admit("a", DAY, prompt=b"%d" % at, bias=bias, tier=TIER) for at in range(40_000)]
    assert let == [True] * (1 << 15) + [False] * (40_000 - (1 << 15))
    assert sets.admit("b", DAY, prompt=b"0", bias=bias, tier=TIER)


def test_days_and_accounts_are_apart_and_nothing_is_kept_of_other_days() -> None:
    sets = BiasSets()

    def take(account: str, day: str, many: int) -> list[bool]:
        digests = [bias_digest([(at, 1.0)]) for at in range(many)]
        return [sets.admit(account, day, prompt=b"p", bias=one, tier=TIER) for one in digests]

    assert take("a", DAY, 5) == [True] * 4 + [False]
    assert take("b", DAY, 5) == [True] * 4 + [False]
    assert take("a", "2026-11-24", 5) == [True] * 4 + [False]
    sets.forget(DAY)
    assert sets._all == 4
    assert take("b", DAY, 5) == [True] * 4 + [False]
    sets.forget("2026-11-24")
    assert sets._all == 0


def test_a_full_memory_lets_no_new_set_in() -> None:
    sets = BiasSets(most=2)
    digests = [bias_digest([(at, 1.0)]) for at in range(3)]
    said = [sets.admit(f"a{at}", DAY, prompt=b"p", bias=one, tier=TIER) for at, one in enumerate(digests)]
    assert said == [True, True, False]
    assert sets.admit("a0", DAY, prompt=b"p", bias=digests[0], tier=TIER)


def test_the_rank_grows_with_what_is_shown_beside_one_prompt() -> None:
    sets = BiasSets()
    assert sets.rank("a", DAY) == 0
    for prompt in (b"p", b"q"):
        sets.shown("a", DAY, top=5, prompt=prompt)
    assert sets.rank("a", DAY) == 5  # other prompts add rows, no columns
    for at in range(3):
        sets.admit("a", DAY, prompt=b"p", bias=bias_digest([(at, 1.0)]), tier=TIER)
        sets.shown("a", DAY, top=5, prompt=b"p")
    assert sets.rank("a", DAY) == 20
    sets.embedded("a", DAY, width=256)
    assert sets.rank("a", DAY) == 276
    assert sets.rank("a", "2026-11-24") == 0
