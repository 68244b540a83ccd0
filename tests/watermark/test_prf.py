"""The words of the mark against published vectors, and against the committed ones in numpy and in torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.watermark.arrays import namespace
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds, noise, scores
from strongroom.watermark.prf import MASK, context_seed, context_seeds, signed, siphash24, uniforms, words
from tests.vectors import make_mark_1
from tests.watermark.texts import key

KEPT = json.loads((Path(__file__).parents[1] / "vectors" / "mark-1" / "mark.json").read_text())

# Aumasson and Bernstein's vectors_sip64: key 00 01 … 0f, messages of 0 to 63 bytes 00 01 …, as little-endian numbers
_TABLE = """
726fdb47dd0e0e31 74f839c593dc67fd 0d6c8009d9a94f5a 85676696d7fb7e2d cf2794e0277187b7 18765564cd99a68d cbc9466e58fee3ce
ab0200f58b01d137 93f5f5799a932462 9e0082df0ba9e4b0 7a5dbbc594ddb9f3 f4b32f46226bada7 751e8fbc860ee5fb 14ea5627c0843d90
f723ca908e7af2ee a129ca6149be45e5 3f2acc7f57c29bdb 699ae9f52cbe4794 4bc1b3f0968dd39c bb6dc91da77961bd bed65cf21aa2ee98
d0f2cbb02e3b67c7 93536795e3a33e88 a80c038ccd5ccec8 b8ad50c6f649af94 bce192de8a85b8ea 17d835b85bbb15f3 2f2e6163076bcfad
de4daaaca71dc9a5 a6a2506687956571 ad87a3535c49ef28 32d892fad841c342 7127512f72f27cce a7f32346f95978e3 12e0b01abb051238
15e034d40fa197ae 314dffbe0815a3b4 027990f029623981 cadcd4e59ef40c4d 9abfd8766a33735c 0e3ea96b5304a7d0 ad0c42d6fc585992
187306c89bc215a9 d4a60abcf3792b95 f935451de4f21df2 a9538f0419755787 db9acddff56ca510 d06c98cd5c0975eb e612a3cb9ecba951
c766e62cfcadaf96 ee64435a9752fe72 a192d576b245165a 0a8787bf8ecb74b2 81b3e73d20b49b6f 7fa8220ba3b2ecea 245731c13ca42499
b78dbfaf3a8d83bd ea1ad565322a1a0b 60e61c23a3795013 6606d7e446282b93 6ca4ecb15c5f91e1 9f626da15c9625f3 e51b38608ef25f57
958a324ceb064572
"""
SIPHASH = _TABLE.split()
SPLITMIX = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]


def _blocks(message: bytes) -> list[int]:
    whole = message + bytes(7 - len(message) % 8) + bytes([len(message)])
    return [int.from_bytes(whole[at : at + 8], "little") for at in range(0, len(whole), 8)]


@pytest.mark.parametrize("length", range(64))
def test_siphash_agrees_with_its_authors(length: int) -> None:
    words = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
    blocks = _blocks(bytes(range(length)))
    assert siphash24(words, blocks) == int(SIPHASH[length], 16)
    arrays = [np.array([block], np.uint64) for block in blocks]
    assert siphash24(tuple(np.array([word], np.uint64) for word in words), arrays)[0] == int(SIPHASH[length], 16)


def test_splitmix_agrees_with_the_published_stream() -> None:
    assert [int(word) & MASK for word in words(np.array([1234567]), np.arange(5))] == SPLITMIX


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), min_size=1, max_size=20))
def test_one_context_and_many_give_the_same_seeds(contexts: list[list[int]]) -> None:
    pair = key(1).words()
    many = context_seeds(np.array([pair], np.uint64), np.array(contexts, np.int64))
    assert many.tolist() == [context_seed(pair, context) for context in contexts]


def _unmix(word: int) -> int:
    """Return the state that SplitMix64's finaliser turns into `word`."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        word ^= word >> shift ^ word >> 2 * shift
        word = word * pow(factor, -1, 1 << 64) & MASK
    return word


@pytest.mark.parametrize("word", [0, 1, MASK, MASK - 1, 1 << 63])
def test_u_lies_strictly_between_0_and_1_even_at_the_ends(word: int) -> None:
    seed = np.array([signed((_unmix(word) - 0x9E3779B97F4A7C15) & MASK)])
    token = np.array([0])
    assert int(words(seed, token)[0]) & MASK == word
    xp = namespace(seed)
    assert 0 < uniforms(seed, token, xp)[0] < 1
    assert np.isfinite(noise(seed, token, xp)).all()
    assert -3.61 < noise(seed, token, xp)[0] < 36.74
    assert 0 < scores(seed, token, xp)[0] < 36.74


def test_the_committed_vectors_are_what_the_code_makes() -> None:
    made: dict[str, Any] = json.loads(json.dumps(make_mark_1.vectors()))
    exact = [name for name in KEPT if name not in {"scores", "evidence"}]
    assert {name: made[name] for name in exact} == {name: KEPT[name] for name in exact}
    _near(made["scores"], KEPT["scores"])
    assert made["evidence"]["scored"] == KEPT["evidence"]["scored"]
    ours, theirs = (float.fromhex(one["evidence"]["log10_p"]) for one in (made, KEPT))
    assert ours == pytest.approx(theirs, rel=1e-12)


def test_torch_makes_the_same_words_and_choices() -> None:
    torch = pytest.importorskip("torch")
    seeds, row = torch.tensor(KEPT["seeds"]).reshape(-1, 1), torch.tensor(KEPT["tokens"])
    assert words(seeds, row).tolist() == KEPT["words"]
    _near([[value.hex() for value in line] for line in scores(seeds, row, namespace(row)).tolist()], KEPT["scores"])
    marker, text = Marker(make_mark_1.derive(make_mark_1.MASTER, "acme", "2026-11"), fresh_seeds(7)), []
    for step, (token, marked) in enumerate(KEPT["answer"]):
        seed, is_marked = marker.seed(text)
        text.append(int(choose(torch.tensor(make_mark_1.logits(step % 5)), torch.tensor([seed]))[0]))
        assert (text[-1], is_marked) == (token, bool(marked))


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0, 300.0])
def test_torch_and_numpy_choose_alike_over_a_large_vocabulary(spread: float) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(8, 20_000)).astype(np.float32) * spread
    seeds = generator.integers(-(2**63), 2**63 - 1, size=8)
    ours = choose(logits, seeds)
    assert ours.tolist() == choose(torch.tensor(logits), torch.tensor(seeds)).tolist()
    assert ours.dtype == np.int64


def _near(one: list[list[str]], other: list[list[str]]) -> None:
    a, b = (np.array([[float.fromhex(value) for value in line] for line in rows]) for rows in (one, other))
    assert (np.abs(a - b) <= 2 * np.spacing(b)).all()
