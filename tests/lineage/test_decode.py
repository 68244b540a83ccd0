"""Verdicts: the guilty are named, all of them, and nobody else."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from strongroom.core.errors import ProofInvalid
from strongroom.core.secrets import Secret
from strongroom.lineage import evidence
from strongroom.lineage.codes import Design, own_code
from strongroom.lineage.decode import Candidate, Reading, Verdict, decode, scheme_of
from strongroom.lineage.keys import checkpoint_keys, derive
from tests.lineage.simulated import Book, book, leaked, unmarked

WAYS = ("average", "pick", "majority", "noise")


@pytest.fixture(scope="module")
def codes() -> Book:
    return book(1)


def names(found: Verdict) -> set[str]:
    return {one.recipient for one in found.colluders} | ({found.recipient} if found.recipient else set())


def test_one_leaker_is_named(codes: Book) -> None:
    found = decode(
        leaked(np.random.default_rng(1), codes.codes([7]), "average"), codes.scheme, codes.candidates, tried=1000
    )
    assert (found.verdict, found.recipient, found.copy, found.colluders) == ("match", "r7", "copy-7", ())
    assert found.log10_p < -200
    assert found.checkpoint_log10_p < -30
    assert found.p_kind == "exact"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [2, 3, 5])
def test_blind_all_colluders_are_named_and_nobody_else(codes: Book, way: str, count: int) -> None:
    rng = np.random.default_rng(count)
    guilty = [int(one) for one in rng.choice(1000, count, replace=False)]
    blind, _ = leaked(rng, codes.codes(guilty), way)
    found = decode([blind], codes.scheme, codes.candidates, tried=1000)
    assert names(found) == {f"r{one}" for one in guilty}
    assert all(one.log10_p <= -6 for one in found.colluders)
    assert found.verdict == "match"


@pytest.mark.parametrize("way", ["average", "majority", "noise"])
def test_eight_colluders_are_found_against_the_original(codes: Book, way: str) -> None:
    rng = np.random.default_rng(8)
    guilty = [int(one) for one in rng.choice(1000, 8, replace=False)]
    found = decode(leaked(rng, codes.codes(guilty), way, noise=0.1), codes.scheme, codes.candidates, tried=1000)
    assert found.verdict == "match"
    assert names(found) <= {f"r{one}" for one in guilty}
    assert len(names(found)) >= 6


def test_unmarked_and_unknown_files_name_nobody(codes: Book) -> None:
    rng = np.random.default_rng(2)
    nothing = decode(unmarked(rng, 2811), codes.scheme, codes.candidates, tried=1000)
    assert (nothing.verdict, nothing.recipient, nothing.colluders) == ("no_match", None, ())
    other = book(99)
    elsewhere = decode(leaked(rng, other.codes([1]), "average"), codes.scheme, codes.candidates, tried=1000)
    assert elsewhere.verdict == "no_match"
    # a copy of this checkpoint that is none of the candidates: its checkpoint is told, nobody is named
    unknown = decode(leaked(rng, codes.codes([500]), "average"), codes.scheme, codes.candidates[:400], tried=1000)
    assert (unknown.verdict, unknown.recipient) == ("inconclusive", None)
    assert unknown.checkpoint_log10_p < -30
    assert "own mark" in unknown.reason


def test_a_crowd_too_large_is_inconclusive_not_innocent(codes: Book) -> None:
    rng = np.random.default_rng(5)
    found = decode(leaked(rng, codes.codes(range(100)), "noise", noise=0.3), codes.scheme, codes.candidates, tried=1000)
    assert found.verdict == "inconclusive"
    assert names(found) == set()


def test_little_of_a_file_is_inconclusive(codes: Book) -> None:
    rng = np.random.default_rng(6)
    blind, _ = unmarked(rng, 2811)
    found = decode([replace(blind, share=0.4)], codes.scheme, codes.candidates, tried=1000)
    assert (found.verdict, found.covered) == ("inconclusive", 0.4)
    assert "40%" in found.reason
    empty = decode([Reading("blind", np.full(2811, math.nan), 0.0)], codes.scheme, codes.candidates, tried=1000)
    assert (empty.verdict, empty.log10_p, empty.covered) == ("inconclusive", 0.0, 0.0)
    assert decode([blind], codes.scheme, [], tried=0).candidates == 0


def test_the_original_itself_is_called_so(codes: Book) -> None:
    blind, _ = unmarked(np.random.default_rng(6), 2811)
    found = decode([blind, Reading("original", np.full(2811, math.nan))], codes.scheme, codes.candidates, tried=1000)
    assert found.verdict == "no_match"
    assert "original" in found.reason


def test_every_copy_ever_issued_is_corrected_for(codes: Book) -> None:
    readings = leaked(np.random.default_rng(7), codes.codes([3]), "average")
    few = decode(readings, codes.scheme, codes.candidates[:10], tried=10)
    many = decode(readings, codes.scheme, codes.candidates[:10], tried=100_000, versions=100)
    assert math.isclose(many.log10_p - few.log10_p, 4, abs_tol=1e-9)
    assert math.isclose(many.checkpoint_log10_p - few.checkpoint_log10_p, 2, abs_tol=1e-9)


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────────
MASTER = Secret(bytes(range(32)))
DESIGN = Design(10, 2, 1e-6)


def accused() -> tuple[tuple[Reading, Reading], Verdict, dict[str, evidence.Made]]:
    keys = checkpoint_keys(MASTER, "ckpt-1")
    scheme = scheme_of(keys.biases, keys.common, segments=DESIGN.segments)
    made = {
        f"copy-{at}": evidence.committed(MASTER, "ckpt-1", f"copy-{at}", segments=DESIGN.segments) for at in range(4)
    }
    candidates = [Candidate(copy, f"of {copy}", own_code(derive(MASTER, "code", copy), scheme.bias)) for copy in made]
    whole = np.concatenate([scheme.common, candidates[2].code])[None].astype(float)
    readings = leaked(np.random.default_rng(4), whole, "average")
    return readings, decode(readings, scheme, candidates, tried=4), made


def ledger(made: dict[str, evidence.Made]) -> dict[str, evidence.Commitment]:
    return {
        copy: evidence.Commitment(one[0].digest(), f"of {copy}", "ckpt-1", DESIGN.segments)
        for copy, one in made.items()
    }


def test_a_stranger_recomputes_the_verdict() -> None:
    readings, found, made = accused()
    assert found.recipient == "of copy-2"
    shown = evidence.disclose(found, readings, made)
    again = evidence.replay(shown, ledger(made))
    assert (again.verdict, again.copy, again.recipient) == ("match", "copy-2", "of copy-2")
    assert math.isclose(again.log10_p, found.log10_p, rel_tol=1e-12)
    with pytest.raises(ProofInvalid, match="not the one in the ledger"):
        evidence.replay(shown, {})
    known = ledger(made)["copy-2"]
    for other in (replace(known, digest="0" * 64), replace(known, checkpoint="ckpt-2"), replace(known, segments=300)):
        with pytest.raises(ProofInvalid):
            evidence.replay(shown, {"copy-2": other})


def test_the_same_copy_is_not_accused_twice() -> None:
    readings, found, made = accused()
    shown = evidence.disclose(found, readings, made)
    twice = evidence.Evidence(shown.readings, shown.accused * 2, shown.tried, shown.versions)
    with pytest.raises(ProofInvalid, match="different copies"):
        evidence.replay(twice, ledger(made))


def test_secrets_are_shown_to_an_expert_only() -> None:
    readings, found, made = accused()
    plain = evidence.disclose(found, readings, made)
    assert set(plain.accused[0].shown) == {"biases", "common", "code"}
    assert evidence.shown_keys(plain) is None
    keys, shown = (
        checkpoint_keys(MASTER, "ckpt-1"),
        evidence.shown_keys(evidence.disclose(found, readings, made, expert=True)),
    )
    assert shown is not None
    assert shown.chips.reveal() == keys.chips.reveal()
    assert shown.segments.reveal() == keys.segments.reveal()


@pytest.mark.parametrize("part", ["biases", "common", "code"])
def test_another_code_than_the_committed_one_is_refused(part: evidence.Part) -> None:
    readings, found, made = accused()
    shown = evidence.disclose(found, readings, made)
    [one] = shown.accused
    opening = one.shown[part]
    for bad in (
        {**one.shown, part: evidence.Opening(bytes(32), opening.salt)},
        {**one.shown, part: evidence.Opening(opening.value, bytes(32))},
        {name: each for name, each in one.shown.items() if name != part},
    ):
        forged = evidence.Evidence(
            shown.readings, (evidence.Disclosure(one.committed, bad),), shown.tried, shown.versions
        )
        with pytest.raises(ProofInvalid):
            evidence.replay(forged, ledger(made))


def test_readings_of_another_length_do_not_fit() -> None:
    readings, found, made = accused()
    shown = evidence.disclose(found, readings, made)
    short = (evidence.Values("blind", readings[0].values[:-1].tobytes()),)
    with pytest.raises(ProofInvalid, match="number of segments"):
        evidence.replay(evidence.Evidence(short, shown.accused, shown.tried, shown.versions), ledger(made))
