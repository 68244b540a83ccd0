"""Codes: drawn from secrets alone, with the biases they promise, the same for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.lineage.codes import COMMON, I8, Design, biases, common_code, own_code
from strongroom.lineage.keys import checkpoint_keys, derive
from strongroom.lineage.keystream import Keystream

MASTER = Secret(bytes(range(32)))
GOLDEN_BIAS = [11354, 53517, 47046, 52551, 24464, 61317]
GOLDEN_BIASES = "cdca219e8a1c308ff5f0c3e9cd6a1d80d33454c03f49258c22e471f59f5ce6e4"
GOLDEN_COMMON = "d9241c1a04facaa50c98e332a2703bb20beca2c439d778cbfdacb2520105607d"
GOLDEN_OWN = "2fddd196b761aeb8d251993fb208ae835960158552c099bc09bd6ceb9618db45"


def packed(code: I8) -> bytes:
    return np.packbits(code > 0, bitorder="little").tobytes()


def test_the_stream_is_aes_256_in_counter_mode() -> None:
    # the zero block under the key 00 01 … 1f, by AES-256 alone
    key = Secret(bytes(range(32)))
    stream = Keystream(key)
    assert stream.read(0, 16).tobytes().hex() == "f29000b62a499fd0a9f39a6add2e7780"
    assert int(stream.words(2)[0]) == int.from_bytes(stream.read(0, 8).tobytes(), "little")


@given(st.integers(0, 200), st.integers(0, 200))
def test_any_range_of_the_stream_is_the_same_bytes(start: int, size: int) -> None:
    stream = Keystream(MASTER)
    assert stream.read(start, size).tobytes() == stream.read(0, start + size).tobytes()[start:]


def test_codes_are_what_they_have_always_been() -> None:
    keys = checkpoint_keys(MASTER, "ckpt-golden")
    bias = biases(keys.biases, 500)
    assert bias[:6].tolist() == GOLDEN_BIAS
    assert hashlib.sha256(bias.astype("<u2").tobytes()).hexdigest() == GOLDEN_BIASES
    assert packed(common_code(keys.common)).hex() == GOLDEN_COMMON
    assert hashlib.sha256(packed(own_code(derive(MASTER, "code", "copy-golden"), bias))).hexdigest() == GOLDEN_OWN


def test_secrets_differ_by_use_and_by_id() -> None:
    keys = checkpoint_keys(MASTER, "a")
    raw = {one.reveal() for one in (keys.chips, keys.dither, keys.segments, keys.biases, keys.common)}
    assert len(raw | {derive(MASTER, "code", "a").reveal(), checkpoint_keys(MASTER, "b").chips.reveal()}) == 7
    assert "\\x" not in repr(keys)
    with pytest.raises(BadInput):
        derive(Secret(b"short"), "code", "a")


def test_a_code_is_as_long_as_its_enemies_are_many() -> None:
    assert [Design(1000, c, 1e-6).own for c in (3, 5, 8)] == [920, 2555, 6539]
    assert Design().segments == COMMON + 2555
    for bad in ((1, 5, 1e-6), (1000, 0, 1e-6), (1000, 17, 1e-6), (1000, 5, 0.5), (1000, 5, 0.0)):
        with pytest.raises(BadInput):
            Design(*bad)


def test_bits_come_as_often_as_their_biases_say() -> None:
    bias = biases(checkpoint_keys(MASTER, "c").biases, 200)
    codes = np.array([own_code(derive(MASTER, "code", f"copy-{at}"), bias) for at in range(4000)])
    share, wanted = (codes > 0).mean(axis=0), bias / 65536
    spread = np.sqrt(wanted * (1 - wanted) / 4000)
    assert np.abs((share - wanted) / spread).max() < 4.5  # of 200: beyond once in 750 by chance
    assert 0.019 < wanted.min() < 0.05
    assert 0.95 < wanted.max() < 0.981
    arcsine = np.abs(wanted - 0.5) > 0.35  # two fifths of it lie near the edges
    assert 0.35 < arcsine.mean() < 0.65
