"""The words that a mark is made of: format ``strongroom/mark@1``, docs/formats/mark-1.md.

One 64-bit seed per context of four tokens comes from SipHash-2-4 under the account's key (Aumasson and Bernstein, 2012:
a pseudo-random function, so that seeds of one context say nothing about another's). One 64-bit word per token of the
vocabulary comes from the seed by SplitMix64's finaliser (Steele, Lea and Flood, 2014): a counter mix, cheap enough for
every token of a vocabulary, without state. Whoever learnt one seed would know one context's words, not the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.watermark.arrays import Array, Namespace

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_State = tuple[Array, Array, Array, Array]

MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_LENGTH_BLOCK: Final = 16 << 56  # SipHash's last block: the message is always 16 bytes, and ends on a block's edge

# SplitMix64's constants, as signed numbers: torch has no full uint64, and products wrap to the same bits
_GAMMA: Final = 0x9E37_79B9_7F4A_7C15 - (1 << 64)
_MIX1: Final = 0xBF58_476D_1CE4_E5B9 - (1 << 64)
_MIX2: Final = 0x94D0_49BB_1331_11EB - (1 << 64)


def siphash24(key: tuple[Array, Array], blocks: Sequence[Array]) -> Array:
    """Return SipHash-2-4 of `blocks` under `key`: numpy uint64 arrays that broadcast, or Python integers.

    The key is two little-endian 64-bit words. `blocks` are the message's, the padded one with the length in its top
    byte included. Masks keep Python's integers to 64 bits, and change nothing in an array's.
    """
    k0, k1 = key
    state = (k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573)
    for block in blocks:
        v0, v1, v2, v3 = _rounds((*state[:3], state[3] ^ block), 2)
        state = (v0 ^ block, v1, v2, v3)
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), 4)
    return v0 ^ v1 ^ v2 ^ v3


def _rounds(state: _State, count: int) -> _State:
    """Return the state after `count` SipRounds."""
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & MASK
        v2 = (v2 + v3) & MASK
        v1 = ((v1 << 13) & MASK | v1 >> 51) ^ v0
        v3 = ((v3 << 16) & MASK | v3 >> 48) ^ v2
        v0 = (v0 << 32) & MASK | v0 >> 32
        v2 = (v2 + v1) & MASK
        v0 = (v0 + v3) & MASK
        v1 = ((v1 << 17) & MASK | v1 >> 47) ^ v2
        v3 = ((v3 << 21) & MASK | v3 >> 43) ^ v0
        v2 = (v2 << 32) & MASK | v2 >> 32
    return v0, v1, v2, v3


def context_seed(key: tuple[int, int], context: Sequence[int]) -> int:
    """Return the seed, a signed 64-bit number, of one `context` of four token ids under the `key`'s two words."""
    a, b, c, d = context
    blocks = cast("tuple[Array, ...]", (a | b << 32, c | d << 32, _LENGTH_BLOCK))
    return signed(int(siphash24(cast("tuple[Array, Array]", key), blocks)))


def context_seeds(keys: U64, contexts: npt.NDArray[np.integer]) -> I64:
    """Return the seeds of `contexts` (…, 4) under `keys` (…, 2), as int64 (…): leading axes, at least one, broadcast.

    The hashed message is the four ids as little-endian uint32, 16 bytes. The same seeds as `context_seed`.
    """
    halves = np.ascontiguousarray(contexts, "<u4").view("<u8").astype(np.uint64, copy=False)
    blocks = (halves[..., 0], halves[..., 1], np.full((1,) * (halves.ndim - 1), _LENGTH_BLOCK, np.uint64))
    hashed = siphash24(cast("tuple[Array, Array]", (keys[..., 0], keys[..., 1])), cast("tuple[Array, ...]", blocks))
    return cast("U64", hashed).view(np.int64)


def signed(word: int) -> int:
    """Return the 64-bit `word` as a signed number, as numpy and torch hold it."""
    return word - (1 << 64) if word >> 63 else word


def words(seeds: Array, tokens: Array) -> Array:
    """Return output number `tokens` (from 0) of the SplitMix64 stream whose state is `seeds`: int64, broadcast.

    Shifts are arithmetic in int64 and masked to be logical, so that numpy and torch, on any device, give the same bits.
    """
    z = seeds + (tokens + 1) * _GAMMA
    z = (z ^ (z >> 30 & (1 << 34) - 1)) * _MIX1
    z = (z ^ (z >> 27 & (1 << 37) - 1)) * _MIX2
    return z ^ (z >> 31 & (1 << 33) - 1)


def uniforms(seeds: Array, tokens: Array, xp: Namespace) -> Array:
    """Return u = ((word >>> 12) + 1/2) · 2^-52 for each (seed, token), float64, broadcast.

    52 bits, not 53: every such u is exact in float64 and lies strictly between 0 and 1. With 53 bits the half is
    rounded away in the upper half of the range: the largest word would give u = 1, infinite noise, an infinite score.
    """
    return (xp.astype(words(seeds, tokens) >> 12 & (1 << 52) - 1, xp.float64) + 0.5) * 2.0**-52
