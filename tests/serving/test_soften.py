"""Log probabilities on their way out: fewer, rounded, and with noise that is a function of context and token."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.ports.completions import TokenLogprob, Turn
from strongroom.serving.disclosure.tiers import TIERS, Tier
from strongroom.serving.soften import HIDDEN, Veil, normal

KEY = bytes(range(32))
TRUSTED, STANDARD = TIERS["trusted"], TIERS["standard"]


def token(text: str, *values: float) -> TokenLogprob:
    top = tuple(
        (f"t{at}" if at else text, tuple((f"t{at}" if at else text).encode()), one) for at, one in enumerate(values)
    )
    return TokenLogprob(text, tuple(text.encode()), values[0], top)


ONE = token("w", -0.123456, -1.234567, -2.345678, -3.5, -4.5, -5.5)


def test_without_noise_it_only_rounds_and_cuts() -> None:
    [shown] = Veil(KEY, STANDARD, top=2, prompt="p").soften([ONE])
    assert shown.logprob == -0.1235
    assert [value for _, _, value in shown.top] == [-0.1235, -1.2346]


def test_an_upstream_that_shows_more_than_was_asked_is_cut() -> None:
    assert Veil(KEY, STANDARD, top=0, prompt="p").soften([ONE])[0].top == ()
    assert len(Veil(KEY, STANDARD, top=99, prompt="p").soften([ONE])[0].top) == STANDARD.top_logprobs


@pytest.mark.parametrize("tier", [STANDARD, TRUSTED])
def test_a_token_that_is_none_of_the_likeliest_has_no_value(tier: Tier) -> None:
    """Else sampling at a high temperature reads the whole vocabulary in one place, without any bias."""
    likeliest = tuple((f"t{at}", (116, 48 + at), -1.0 - at) for at in range(40))
    for at, (text, raw, value) in enumerate(likeliest):
        one = TokenLogprob(text, raw, value, likeliest)
        for top in (0, 1, 20):
            [shown] = Veil(KEY, tier, top=top, turns=(Turn("user", "q"),)).soften([one])
            assert (shown.logprob == HIDDEN) is (at >= tier.top_logprobs)
            [older] = Veil(KEY, tier, top=top, prompt="p").soften([one])
            assert (older.logprob == HIDDEN) is (at >= 5)


def test_asking_again_teaches_nothing() -> None:
    def ask(prompt: str, key: bytes = KEY) -> list[float]:
        veil = Veil(key, TRUSTED, top=20, prompt=prompt)
        return [value for one in veil.soften([ONE, token("v", -1.0, -2.0), ONE]) for _, _, value in one.top]

    assert ask("p") == ask("p")
    assert ask("p") != ask("q")
    assert ask("p") != ask("p", KEY[::-1])
    first, last = ask("p")[:6], ask("p")[-6:]
    assert first != last  # the same values in another place


def test_a_context_has_one_noise_wherever_the_prompt_ends() -> None:
    words = [token(word, -1.0, -2.0, -3.0) for word in ("a", "b", "c")]
    whole = Veil(KEY, TRUSTED, top=20, prompt="p").soften(words)
    assert Veil(KEY, TRUSTED, top=20, prompt="pa").soften(words[1:]) == whole[1:]
    assert Veil(KEY, TRUSTED, top=20, prompt="pab").soften(words[2:]) == whole[2:]
    asked = (Turn("user", "q"),)
    talk = Veil(KEY, TRUSTED, top=20, turns=asked).soften(words)
    assert Veil(KEY, TRUSTED, top=20, turns=(*asked, Turn("assistant", "ab"))).soften(words[2:]) == talk[2:]
    system, developer = ((Turn(role, "s"), *asked) for role in ("system", "developer"))
    veils = [Veil(KEY, TRUSTED, top=20, turns=turns) for turns in (system, developer)]
    assert veils[0].soften(words) == veils[1].soften(words) != talk


@given(st.lists(st.floats(-30, 0), min_size=1, max_size=20).map(lambda them: sorted(them, reverse=True)))
def test_a_token_and_its_place_in_the_list_agree_and_the_list_is_in_order(values: list[float]) -> None:
    [shown] = Veil(KEY, TRUSTED, top=20, prompt="p").soften([token("w", *values)])
    found = [value for _, _, value in shown.top]
    assert found == sorted(found, reverse=True)
    assert all(value <= 0 for value in found)
    assert {text: value for text, _, value in shown.top}["w"] == shown.logprob
    assert all(abs(a - b) < 6 * TRUSTED.noise + 1e-3 for a, b in zip(found, values, strict=True))


def test_what_is_impossible_stays_so() -> None:
    [shown] = Veil(KEY, TRUSTED, top=1, prompt="p").soften([token("w", -math.inf)])
    assert shown.logprob == -math.inf


def test_the_noise_is_normal_and_has_no_memory() -> None:
    draws = [normal(KEY, str(at).encode()) for at in range(4000)]
    assert abs(statistics.fmean(draws)) < 4 / math.sqrt(4000)
    assert abs(statistics.pstdev(draws) - 1) < 0.05
    inside = sum(abs(one) < 1 for one in draws) / 4000
    assert abs(inside - 0.6827) < 0.03
    assert abs(statistics.correlation(draws[:-1], draws[1:])) < 0.06


def test_the_noise_is_pinned() -> None:
    """Or an update would draw anew, and two draws are an average."""
    [shown] = Veil(KEY, TRUSTED, top=20, prompt="pinned").soften([ONE])
    assert [value for _, _, value in shown.top] == PINNED


PINNED = [-0.1271, -1.2505, -2.3546, -3.5013, -4.502, -5.4762]
