"""The null bank that is shipped: who is in it, and that its p-values hold for models that it has not seen."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest

from strongroom.core.tails import log_binomial_tail
from strongroom.lineage.bank import Bank, bank_digest, calibrated, effects, null_bank
from strongroom.lineage.compare import Method, Outcome
from strongroom.lineage.verdict import EXACT_LIMIT, MATCHINGS, judge

LEVELS = (0.1, 0.01, 0.001)


def families() -> list[list[int]]:
    """Models, whole ones, in two halves, again and again: what is tested and what it is calibrated on."""
    count = len(null_bank().models)
    return [np.random.default_rng(seed).permutation(count)[: count // 2].tolist() for seed in range(20)]


def test_enough_models_are_in_it_small_ones_and_two_large() -> None:
    bank = null_bank()
    names = [one.name for one in bank.models]
    assert len(names) == len(set(names))
    assert sum(one.width < 200 for one in bank.models) >= 24
    assert {one.width for one in bank.models if one.width >= 200} == {576, 640}  # SmolLM2-135M and Gemma 3 270M
    alike = [one for one in bank.models if one.name.startswith("same-order")]
    assert len(alike) >= 4  # the same text in the same order: strangers could not be more alike
    every = len(names) * (len(names) - 1) // 2
    assert len(bank.pairs["exact"]) == len(bank.pairs["matching-anchored"]) == every >= 200
    assert {tuple(sorted(pair[:2])) for pair in bank.pairs["exact"]} == set(
        itertools.combinations(range(len(names)), 2)
    )


@pytest.mark.parametrize("method", MATCHINGS)
@pytest.mark.parametrize("level", LEVELS)
def test_p_values_are_super_uniform_on_models_held_out(method: Method, level: float) -> None:
    """At most `level` of them are below it, to within three standard errors that know of the models in each pair."""
    bank = null_bank()
    pairs = bank.pairs[method]
    rates: list[float] = []
    errors: list[float] = []
    for held in families():
        null = effects(bank, method, without=frozenset(held))
        tested = [(one, other, effect) for one, other, effect in pairs if one in held and other in held]
        below = np.array([calibrated(null, effect).log10_p <= math.log10(level) + 1e-12 for _, _, effect in tested])
        rate = float(below.mean())
        by_model = np.zeros(len(bank.models))
        for (one, other, _), hit in zip(tested, below, strict=True):
            by_model[[one, other]] += hit - rate
        rates.append(rate)
        errors.append(float(np.sqrt((by_model**2).sum())) / len(tested))
    assert np.mean(rates) <= level + 3 * np.mean(errors) + 1 / len(pairs)


@pytest.mark.parametrize("level", [*LEVELS, 10**EXACT_LIMIT])
def test_exact_p_values_are_super_uniform_on_all_pairs(level: float) -> None:
    """They are a bound, so that far fewer are small than might be."""
    found = np.array([log10_p for _, _, log10_p in null_bank().pairs["exact"]])
    assert (found <= math.log10(level)).mean() <= level


def without(bank: Bank, models: frozenset[int]) -> Bank:
    pairs = {method: tuple(pair for pair in some if not models & set(pair[:2])) for method, some in bank.pairs.items()}
    return msgspec.structs.replace(bank, pairs=pairs)


def test_no_unrelated_pair_is_called_related() -> None:
    """Each pair is judged by a bank that holds neither of its models; the bound is Clopper and Pearson's."""
    bank = null_bank()
    tests: dict[tuple[int, int], list[Outcome]] = {}
    for method in MATCHINGS:
        for one, other, effect in bank.pairs[method]:
            tests.setdefault((one, other), []).append(Outcome(method=method, effect=effect))
    verdicts = [judge(tuple(some), without(bank, frozenset(pair)), tried=1).related for pair, some in tests.items()]
    assert "yes" not in verdicts
    assert min(log10_p for _, _, log10_p in bank.pairs["exact"]) > EXACT_LIMIT
    count = len(verdicts)
    bound = 1 - 0.05 ** (1 / count)  # the upper end of the one-sided 95 % interval, none of `count` being wrong
    assert math.isclose(math.exp(log_binomial_tail(1, count, bound)), 0.95, rel_tol=1e-6)
    print(f"0 of {count} unrelated pairs called related; rate below {bound:.2%} with 95 % confidence")  # noqa: T201
    assert verdicts.count("doubt") <= 0.05 * count


def test_nothing_is_smaller_than_the_bank_supports() -> None:
    null = effects(null_bank(), "matching")
    far = calibrated(null, 1.0)
    assert far.log10_p == pytest.approx(-math.log10(len(null) + 1))
    assert far.at_floor
    assert far.log10_tail < -20
    assert not calibrated(null, float(np.median(null))).at_floor
    assert calibrated(null, 0.0).log10_p == 0.0


def test_an_empty_bank_supports_nothing() -> None:
    assert calibrated(np.empty(0), 1.0).log10_p == 0.0


def test_the_tail_is_no_smaller_than_what_is_in_the_bank() -> None:
    """An exponential fitted to the largest tenth must not make the largest few of them look rarer than they are."""
    for method in MATCHINGS:
        null = np.sort(effects(null_bank(), method))
        for place in (-1, -2, -5):
            share = (null >= null[place]).mean()
            assert calibrated(null, float(null[place])).log10_tail >= math.log10(share) - 1.0


def test_reports_name_the_bank_by_its_digest() -> None:
    assert bank_digest(null_bank()) == bank_digest(null_bank())
    assert bank_digest(null_bank()) != bank_digest(without(null_bank(), frozenset({0})))
