"""Detection: exact p-values on real repetitive text, averaged and for each key; and that the mark is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.tails import log_binomial_tail, log_gamma_tail
from strongroom.watermark import common, detect
from strongroom.watermark.calibrate import Calibration, calibrate
from strongroom.watermark.common import common_runs
from strongroom.watermark.detect import Evidence, detect_many
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds, scores
from strongroom.watermark.prf import context_seed
from tests.watermark.texts import documents, key, windows

KEYS = 24


def _plainly(tokens: list[int], number: int) -> tuple[float, int]:
    """Return score and count as the format's text says them, in a loop."""
    pairs = {tuple(tokens[at - 4 : at + 1]) for at in range(4, len(tokens))}
    pair_scores = [
        scores(np.array([context_seed(key(number).words(), one[:4])]), np.array([one[4]]), np)[0] for one in pairs
    ]
    return math.fsum(pair_scores), len(pairs)


@given(st.lists(st.lists(st.integers(0, 3) | st.integers(0, 2**32 - 1), max_size=30), max_size=6))
def test_many_texts_at_once_give_what_one_by_one_gives(texts: list[list[int]]) -> None:
    found = detect_many(texts, key(1))
    assert len(found) == len(texts)
    for text, evidence in zip(texts, found, strict=True):
        score, scored = _plainly(text, 1)
        assert (evidence.score, evidence.scored) == (pytest.approx(score, rel=1e-12), scored)
        assert evidence.log10_p == pytest.approx(float(log_gamma_tail(scored, score)) / math.log(10), rel=1e-9)
        assert detect.detect(text, key(1)).score == pytest.approx(evidence.score, rel=1e-12)


def test_many_long_texts_cross_every_block() -> None:
    generator = np.random.default_rng(1)
    texts = [generator.integers(0, 9, size) for size in (0, 3, 4, 5, 9000, 300_000, 17, 20_000)]
    for text, evidence in zip(texts, detect_many(texts, key(2)), strict=True):
        alone = detect.detect(text, key(2))
        assert (alone.scored, alone.score) == (evidence.scored, pytest.approx(evidence.score, rel=1e-11))
        assert evidence.scored == len(set(map(tuple, np.lib.stride_tricks.sliding_window_view(text, 5).tolist()))
                                      if len(text) > 4 else ())  # fmt: skip


def test_a_text_too_short_says_nothing() -> None:
    assert detect.detect([1, 2, 3, 4], key(1)) == Evidence(0.0, 0, 0.0, 1.0)


def test_a_p_value_is_never_0() -> None:
    text, _ = _marked(3000, 1, spread=0.1)
    found = detect.detect(text, key(1))
    assert found.log10_p < -1000
    assert 0 < found.p_value < 1e-300


@pytest.mark.parametrize("tokens", [[-1], [2**32], [1.5], ["a"], [[1, 2]], [[1], [1, 2]], [None], [2**70]])
def test_what_is_no_text_is_refused(tokens: list[object]) -> None:
    with pytest.raises(BadInput):
        detect.detect(tokens, key(1))


def test_a_text_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "LIMIT", 10)
    with pytest.raises(InputTooLarge):
        detect.detect(range(11), key(1))


@pytest.fixture(scope="module")
def real() -> tuple[list[np.ndarray], list[np.ndarray]]:
    whole = documents(600)
    return whole, windows(whole)


@pytest.fixture(scope="module")
def plain(real: tuple[list[np.ndarray], list[np.ndarray]]) -> Calibration:
    return calibrate([key(number) for number in range(KEYS)], real[1])


def test_p_values_hold_on_real_text_averaged_over_keys(plain: Calibration) -> None:
    assert plain.texts > 5000
    for level, rate in zip(plain.levels, plain.averaged, strict=True):
        # texts that share runs are not independent under one key: the bound is for a fifth as many tests
        tests = plain.texts * KEYS // 5
        assert log_binomial_tail(round(rate * tests), tests, level) > math.log(1e-4)
        assert log_binomial_tail(tests - round(rate * tests), tests, 1 - level) > math.log(1e-4)


def test_p_values_hold_for_every_key_once_shared_runs_are_left_out(
    real: tuple[list[np.ndarray], list[np.ndarray]], plain: Calibration
) -> None:
    # the windows are the texts here: none of what is left is in two of them, so they are independent under any key
    found = calibrate([key(number) for number in range(KEYS)], real[1], common=common_runs(real[1]))
    assert found.texts > 5000
    assert min(found.excess_p) > 1e-4
    assert max(found.worst) < 0.02
    assert found.worst[1] < plain.worst[1]


def test_without_leaving_out_repeats_the_p_values_do_not_hold(
    real: tuple[list[np.ndarray], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "firsts", lambda marks: np.arange(len(marks)))
    found = calibrate([key(number) for number in range(4)], real[1])
    assert found.averaged[2] > 20 * found.levels[2]
    assert max(found.excess_p) < 1e-9


def test_a_calibration_of_nothing_is_refused() -> None:
    for keys, texts, levels in (([], [range(9)], (0.1,)), ([key(1)], [[1]], (0.1,)), ([key(1)], [range(9)], (0.0,))):
        with pytest.raises(BadInput):
            calibrate(keys, texts, levels=levels)


def test_common_runs_are_those_of_two_texts_and_are_left_out() -> None:
    one, other = [1, 2, 3, 4, 5, 6, 7], [9, 9, 2, 3, 4, 5, 6, 8]
    shared = common_runs([one, other, one[:3]])
    assert shared.size == 1
    assert detect.detect(one, key(1), common=shared).scored == detect.detect(one, key(1)).scored - 1
    assert common_runs([]).size == common_runs([one]).size == 0
    assert common_runs([one, one, other], at_least=3).size == 1


def _marked(count: int, number: int, *, spread: float) -> tuple[list[int], float]:
    """Return a text drawn with a key from made-up logits, and the mean entropy of its draws in nats."""
    generator = np.random.default_rng(number)
    marker, text, entropy = Marker(key(number), fresh_seeds(number)), [], 0.0
    for _ in range(count):
        logits = generator.normal(size=(1, 500)) * spread
        p = np.exp(logits - logits.max())
        p /= p.sum()
        entropy -= float((p * np.log(np.maximum(p, 1e-300))).sum())
        seed, _ = marker.seed(text)
        text.append(int(choose(logits, np.array([seed]))[0]))
    return text, entropy / count


def test_the_mark_is_found_at_one_nat_a_token_and_only_under_its_key() -> None:
    found, wrong = [], []
    for number in range(40):
        text, entropy = _marked(200, number, spread=6.0)
        assert 0.7 < entropy < 1.4
        found.append(detect.detect(text, key(number)).log10_p)
        wrong.append(detect.detect(text, key(number + 1000)).log10_p)
    # 1e-6 over 1,000 accounts is a raw 1e-9
    assert sum(one < -9 for one in found) == 40
    assert min(wrong) > -4


def test_substitutions_weaken_the_mark_as_expected() -> None:
    text = np.array(_marked(200, 7, spread=3.0)[0])
    generator = np.random.default_rng(0)
    clean = detect.detect(text, key(7)).log10_p
    for share, left in ((0.1, 0.3), (0.3, 0.02)):
        swapped = np.where(generator.random(200) < share, generator.integers(0, 500, 200), text)
        assert clean < detect.detect(swapped, key(7)).log10_p < left * clean
