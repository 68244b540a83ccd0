"""The draw: unbiased, the same pruned and not; the marker: what is marked and what is not."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.watermark import gumbel
from strongroom.watermark.arrays import namespace
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds, noise, scores
from strongroom.watermark.prf import context_seed
from tests.watermark.texts import key


def test_choices_follow_the_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05, 0.0], np.float64, copy=True) + 0.0, where=np.arange(5) < 4,
                    out=np.full(5, -np.inf))  # fmt: skip
    draws = 40_000
    seeds = np.array([fresh() for fresh in [fresh_seeds(1)] for _ in range(draws)])
    counts = np.bincount(choose(np.tile(logits, (draws, 1)), seeds), minlength=5)
    expected = draws * np.array([0.5, 0.3, 0.15, 0.05])
    assert counts[4] == 0
    assert ((counts[:4] - expected) ** 2 / expected).sum() < 21.1  # chi-squared with 3 degrees of freedom, 1e-4


@pytest.mark.parametrize("left", [1, 2, 50, 2500, 5000])
def test_leaving_out_what_cannot_win_changes_nothing(left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(left)
    logits = generator.normal(size=(6, 5000)) * 12
    logits[np.argsort(np.argsort(logits, axis=1), axis=1) < 5000 - left] = -np.inf
    seeds = generator.integers(-(2**63), 2**63 - 1, size=6)
    full = np.argmax(logits + noise(seeds[:, None], np.arange(5000)[None, :], namespace(seeds)), axis=1)
    assert choose(logits, seeds).tolist() == full.tolist()
    monkeypatch.setattr(gumbel, "_is_on_cpu", lambda _: False)  # the way an accelerator goes
    assert choose(logits, seeds).tolist() == full.tolist()


@pytest.mark.parametrize(
    "logits", [np.full((1, 3), -np.inf), np.array([[0.0, np.nan]]), np.array([[0.0, np.inf]]), np.zeros(3)]
)
def test_logits_that_cannot_be_drawn_from_are_refused(logits: np.ndarray) -> None:
    with pytest.raises(BadInput):
        choose(logits, np.zeros(1, np.int64))


def test_the_chosen_token_scores_high_under_its_seed_only() -> None:
    generator = np.random.default_rng(3)
    seeds = generator.integers(-(2**63), 2**63 - 1, size=500)
    chosen = choose(generator.normal(size=(500, 1000)), seeds)
    xp = namespace(seeds)
    assert scores(seeds, chosen, xp).mean() > 4
    assert scores(seeds + 1, chosen, xp).mean() == pytest.approx(1, abs=0.25)


def test_the_first_four_tokens_are_not_marked_and_the_prompt_is_never_context() -> None:
    marker = Marker(key(1), fresh_seeds(None))
    text = [11, 12, 13, 14, 15, 16]
    marked = [marker.seed(text[:length])[1] for length in range(7)]
    assert marked == [False] * 4 + [True] * 3
    seed, _ = Marker(key(1), fresh_seeds(None)).seed(text)
    assert seed == context_seed(key(1).words(), text[-4:])


def test_a_context_marks_once_in_a_request_and_again_in_the_next() -> None:
    loop = [1, 2] * 10
    marker = Marker(key(1), fresh_seeds(9))
    assert [marker.seed(loop[:n])[1] for n in range(4, 20)] == [True, True] + [False] * 14
    assert Marker(key(1), fresh_seeds(9)).seed(loop[:4])[1]


def test_without_a_key_nothing_is_marked() -> None:
    marker = Marker(None, fresh_seeds(2))
    assert not any(marker.seed(list(range(n)))[1] for n in range(50))


@given(st.integers())
def test_a_request_s_seed_gives_the_same_stream_again(seed: int) -> None:
    one, other = fresh_seeds(seed), fresh_seeds(seed)
    drawn = [one() for _ in range(5)]
    assert drawn == [other() for _ in range(5)]
    assert len(set(drawn)) == 5
    assert all(-(2**63) <= value < 2**63 for value in drawn)


def test_streams_differ_by_seed_and_without_one() -> None:
    firsts = {fresh_seeds(seed)() for seed in (0, 1, -1, 2**64, 2**200, None, None)}
    assert len(firsts) == 7


def test_a_seed_costs_little_however_long_the_answer() -> None:
    marker, text = Marker(key(1), fresh_seeds(1)), list(range(100_000))
    start = time.process_time()
    for length in range(99_000, 100_000):
        marker.seed(_Tail(text, length))
    assert (time.process_time() - start) / 1000 < 200e-6  # 8 us on a quiet machine, 40 us is the aim


class _Tail(list[int]):
    """A long text that fails the test if more than its end is read."""

    def __init__(self, text: list[int], length: int) -> None:
        super().__init__()
        self._text, self._length = text, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, at: slice) -> list[int]:  # type: ignore[override]
        assert at == slice(-4, None)
        return self._text[self._length - 4 : self._length]

    def __iter__(self) -> None:  # type: ignore[override]
        raise AssertionError("the whole answer was read")
