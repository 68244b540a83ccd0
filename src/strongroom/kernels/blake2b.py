"""BLAKE2b (RFC 7693) for loops that hash millions of short strings with one key. Its twin is `hashlib.blake2b`."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.kernels.compiled import compiled, inlined

Words = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Four = tuple[np.uint64, np.uint64, np.uint64, np.uint64]

BLOCK: Final = 128  # bytes
DIGEST: Final = 8  # bytes
_IV: Final = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    dtype=np.uint64,
)  # fmt: skip
_SIGMA: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_ROUNDS: Final = 12
_LAST: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


def keyed(key: bytes, person: bytes) -> Words:
    """Return the state behind the block that holds the key, for 8-byte digests: 8 words that `hashed` goes on from.

    `key` has up to 64 bytes, `person` (the personalisation) up to 16.
    """
    parameters = bytearray(64)
    parameters[:4] = bytes((DIGEST, len(key), 1, 1))
    parameters[48 : 48 + len(person)] = person
    state: Words = _IV ^ np.frombuffer(bytes(parameters), dtype="<u8")
    compress(state, np.frombuffer(key.ljust(BLOCK, b"\0"), dtype="<u8").copy(), (np.uint64(BLOCK), np.uint64(0)))
    return state


@inlined
def _mix(four: Four, x: np.uint64, y: np.uint64) -> Four:
    """G of RFC 7693, section 3.1."""
    a, b, c, d = four
    a = a + b + x
    d ^= a
    d = (d >> np.uint64(32)) | (d << np.uint64(32))
    c += d
    b ^= c
    b = (b >> np.uint64(24)) | (b << np.uint64(40))
    a = a + b + y
    d ^= a
    d = (d >> np.uint64(16)) | (d << np.uint64(48))
    c += d
    b ^= c
    b = (b >> np.uint64(63)) | (b << np.uint64(1))
    return a, b, c, d


@compiled
def compress(h: Words, m: Words, counts: tuple[np.uint64, np.uint64]) -> None:
    """Take a block `m` (16 words) into the state `h` (8). `counts`: bytes so far, and all ones for the last block.

    F of RFC 7693, section 3.2, its sixteen words in variables of their own: three times as fast as in an array.
    """
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ counts[0], _IV[5], _IV[6] ^ counts[1], _IV[7]
    for turn in range(_ROUNDS):
        s = _SIGMA[turn % 10]
        v0, v4, v8, v12 = _mix((v0, v4, v8, v12), m[s[0]], m[s[1]])
        v1, v5, v9, v13 = _mix((v1, v5, v9, v13), m[s[2]], m[s[3]])
        v2, v6, v10, v14 = _mix((v2, v6, v10, v14), m[s[4]], m[s[5]])
        v3, v7, v11, v15 = _mix((v3, v7, v11, v15), m[s[6]], m[s[7]])
        v0, v5, v10, v15 = _mix((v0, v5, v10, v15), m[s[8]], m[s[9]])
        v1, v6, v11, v12 = _mix((v1, v6, v11, v12), m[s[10]], m[s[11]])
        v2, v7, v8, v13 = _mix((v2, v7, v8, v13), m[s[12]], m[s[13]])
        v3, v4, v9, v14 = _mix((v3, v4, v9, v14), m[s[14]], m[s[15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@compiled
def hashed(state: Words, data: Bytes, scratch: Words) -> np.uint64:
    """Return the digest, a number, of `data` (not empty) behind the key in `state`. `scratch`: 24 words."""
    h, m = scratch[:8], scratch[8:]
    h[:] = state
    size = len(data)
    for start in range(0, size, BLOCK):
        m[:] = 0
        end = min(start + BLOCK, size)
        for at in range(start, end):
            m[(at - start) >> 3] |= np.uint64(data[at]) << np.uint64(((at - start) & 7) << 3)
        compress(h, m, (np.uint64(BLOCK + end), _LAST if end == size else np.uint64(0)))
    return h[0]
