"""Attribution: one test over all keys, corrected for how many, and a verdict that says what it does not say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strongroom.core.canonical import decode, encode
from strongroom.core.errors import BadInput
from strongroom.watermark.attribute import ALPHA, CAVEATS, FEW, Verdict, attribute
from strongroom.watermark.common import common_runs
from strongroom.watermark.detect import detect
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds
from strongroom.watermark.keys import MarkKey, derive
from tests.watermark.texts import MASTER, documents, key, windows

KEYS = [key(number) for number in range(1000)]


def _answer(owner: MarkKey, count: int = 200, *, start: int = 0) -> list[int]:
    generator = np.random.default_rng(count + start)
    marker, text = Marker(owner, fresh_seeds(start)), []
    for _ in range(count):
        text.append(int(choose(generator.normal(size=(1, 300)) * 4, np.array([marker.seed(text)[0]]))[0]))
    return text


def test_an_answer_is_traced_to_its_account() -> None:
    text = _answer(KEYS[617])
    found = attribute(text, KEYS)
    assert (found.verdict, found.account, found.epoch) == ("match", "account-617", "2026-11")
    alone = detect(text, KEYS[617])
    assert found.raw_p_value == pytest.approx(alone.p_value, rel=1e-9)
    assert found.log10_p == pytest.approx(alone.log10_p + 3, abs=1e-9)
    assert found.p_value <= ALPHA
    assert (found.scored, found.candidates) == (alone.scored, 1000)
    assert [one.account for one in found.accused] == ["account-617"]
    assert "account-617's mark is in the text" in found.reason


def test_a_verdict_is_a_record() -> None:
    found = attribute(_answer(KEYS[3]), KEYS[:10])
    assert decode(encode(found), Verdict, where="verdict") == found
    assert found.caveats == CAVEATS


def test_harmless_text_names_nobody() -> None:
    for text in windows(documents(40))[:40]:
        found = attribute(text, KEYS)
        assert found.verdict != "match"
        assert (found.account, found.epoch, found.accused) == (None, None, ())


def test_no_match_says_what_it_does_not_mean() -> None:
    found = attribute(np.random.default_rng(0).integers(0, 9999, 400), KEYS)
    assert found.verdict == "no_match"
    assert "does not show that the text comes from elsewhere" in found.reason
    assert 1e-2 < found.p_value <= 1.0


def test_too_little_text_is_inconclusive_unless_it_is_enough() -> None:
    found = attribute(np.random.default_rng(1).integers(0, 9999, FEW // 2), KEYS)
    assert found.verdict == "inconclusive"
    assert f"below {FEW}" in found.reason
    assert attribute(_answer(KEYS[5], 60), KEYS).verdict == "match"
    assert attribute([], KEYS).verdict == "inconclusive"


def test_between_the_thresholds_it_is_inconclusive() -> None:
    text = _answer(KEYS[5], 200)
    verdicts = {}
    for kept in range(5, 120, 3):
        found = attribute(text[:kept] + list(range(400, 600)), KEYS)
        verdicts[found.verdict] = found
        if found.verdict == "inconclusive":
            assert ALPHA < found.p_value <= 1e-2
            assert "find more text" in found.reason
    assert set(verdicts) == {"match", "no_match", "inconclusive"}


def test_two_accounts_marks_accuse_neither_alone() -> None:
    found = attribute(_answer(KEYS[8]) + _answer(KEYS[9], start=1), KEYS)
    assert (found.verdict, found.account) == ("inconclusive", None)
    assert {one.account for one in found.accused} == {"account-8", "account-9"}
    assert all(one.p_value <= ALPHA for one in found.accused)
    assert found.accused[0].log10_p <= found.accused[1].log10_p
    assert "mixes several sources" in found.reason


def test_one_account_in_two_epochs_is_one_account() -> None:
    later = derive(MASTER, "account-8", "2026-12")
    found = attribute(_answer(KEYS[8], 300) + _answer(later, start=1), [*KEYS, later])
    assert (found.verdict, found.account, found.epoch) == ("match", "account-8", "2026-11")
    assert len(found.accused) == 2


def test_one_key_may_be_all_that_is_tried() -> None:
    found = attribute(_answer(KEYS[4]), KEYS[4:5])
    assert (found.verdict, found.p_value) == ("match", found.raw_p_value)


def test_each_further_key_costs_its_correction() -> None:
    text = _answer(KEYS[1], 40)
    few, many = attribute(text, KEYS[:10]), attribute(text, KEYS)
    assert many.log10_p - few.log10_p == pytest.approx(math.log10(100), abs=1e-9)
    assert many.raw_p_value == few.raw_p_value


def test_common_runs_do_not_count() -> None:
    text = _answer(KEYS[2])
    found = attribute(text, KEYS, common=common_runs([text, text]))
    assert (found.scored, found.verdict) == (0, "inconclusive")


@pytest.mark.parametrize(("keys", "alpha"), [([], 1e-6), (KEYS[:1] * 2, 1e-6), (KEYS, 0.0), (KEYS, 0.02)])
def test_a_search_that_means_nothing_is_refused(keys: list[MarkKey], alpha: float) -> None:
    with pytest.raises(BadInput):
        attribute([1, 2, 3], keys, alpha=alpha)
