"""Keystreams: as written in the format, uniform, and the same from any place on."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.core.secrets import Secret
from strongroom.lineage.chips import Chips, Dither
from strongroom.lineage.keys import derive
from strongroom.lineage.keystream import Keystream
from tests.vectors import make_weight_mark_1

KEPT = json.loads((Path(__file__).parents[1] / "vectors" / "weight-mark-1" / "weights.json").read_text())
SECRET = Secret(bytes(range(32)))


def test_the_committed_vectors_are_made_anew_to_the_bit() -> None:
    assert json.loads(json.dumps(make_weight_mark_1.vectors())) == KEPT


def test_the_stream_is_the_one_in_the_format() -> None:
    """HKDF by hand, and the counter blocks encrypted one by one: no line shared with the code."""
    drawn = hmac.digest(b"strongroom/weight-mark@1", SECRET.reveal(), hashlib.sha256)
    key = hmac.digest(drawn, '["tensor","ü"]'.encode() + b"\x01", hashlib.sha256)
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - counter mode by hand
    stream = b"".join(encryptor.update(counter.to_bytes(16, "big")) for counter in range(8))
    assert Keystream(derive(SECRET, "tensor", "ü")).read(0, 128).tobytes() == stream
    bits = [stream[i >> 3] >> (i & 7) & 1 for i in range(1024)]
    assert Chips(SECRET).signs("ü", 0, 1024).tolist() == [2 * bit - 1 for bit in bits]
    words = [stream[2 * i] | stream[2 * i + 1] << 8 for i in range(64)]
    assert Dither(SECRET).words("ü", 0, 64).tolist() == words


@given(cuts=st.lists(st.integers(0, 3000), max_size=6))
@settings(max_examples=50, deadline=None)
def test_any_part_of_a_stream_can_be_made_alone(cuts: list[int]) -> None:
    chips, dither = Chips(SECRET), Dither(SECRET)
    ends = [0, *sorted(cuts), 3000]
    pieces = list(itertools.pairwise(ends))
    assert np.array_equal(np.concatenate([chips.signs("a", x, y - x) for x, y in pieces]), chips.signs("a", 0, 3000))
    assert np.array_equal(np.concatenate([dither.words("a", x, y - x) for x, y in pieces]), dither.words("a", 0, 3000))


def test_chips_and_dither_are_uniform() -> None:
    count = 1 << 22
    chips = Chips(SECRET).signs("a", 0, count)
    assert abs(chips.sum()) < 5 * count**0.5
    assert abs(np.dot(chips[1:], chips[:-1])) < 5 * count**0.5
    counts = np.bincount(Dither(SECRET).words("a", 0, count) >> 6, minlength=1024)
    chi_squared = ((counts - count / 1024) ** 2 / (count / 1024)).sum()
    assert abs(chi_squared - 1023) < 5 * (2 * 1023) ** 0.5


def test_tensors_and_secrets_have_streams_of_their_own() -> None:
    count = 1 << 20
    other = Secret(bytes(range(1, 33)))
    some = [Chips(SECRET).signs("a", 0, count), Chips(SECRET).signs("b", 0, count), Chips(other).signs("a", 0, count)]
    products = np.array(some) @ np.array(some).T
    assert np.abs(products - np.diag(np.diag(products))).max() < 5 * count**0.5
