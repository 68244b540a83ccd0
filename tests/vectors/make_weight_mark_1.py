"""Write the vectors of weight-mark-1 anew, from fixed keys: what it writes must be what is committed, to the bit.

The sections here are those of the weights: keystreams, the deal, and marked words of each dtype.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from strongroom.core.secrets import Secret
from strongroom.lineage.embed import Embedding, Streams
from strongroom.lineage.keys import checkpoint_keys
from strongroom.lineage.projections import find_projections
from strongroom.lineage.segments import deal
from strongroom.ports.marks import TensorInfo

MASTER = Secret(bytes(range(32)))
KEYS = checkpoint_keys(MASTER, "ckpt-1")
NAMES = ["model.layers.0.mlp.up_proj.weight", 'Ünïcode|,".weight']
STARTS = [0, 5, 128, 1_000_003, 2**40 + 1]
DEALS = [(10, 3), (17, 17), (46080, 2810)]
UP, DOWN = "h.0.mlp.up_proj.weight", "h.0.mlp.down_proj.weight"
WORDS = {  # 3 units of 4: ordinary weights, one at a power of two, both zeros, the least and the largest, no numbers
    "BF16": [0x3D4C, 0xBD4C, 0x3C00, 0x3BFF, 0x0000, 0x8000, 0x0001, 0x7F7F, 0xFF7F, 0x7F80, 0xFFC1, 0x3F80],
    "F16": [0x2A66, 0xAA66, 0x2000, 0x1FFF, 0x0000, 0x8000, 0x0001, 0x7BFF, 0xFBFF, 0x7C00, 0xFE01, 0x03FF],
    "F32": [0x3D4CCCCD, 0xBD4CCCCD, 0x3C000000, 0x3BFFFFFF, 0, 0x80000000, 1, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000,
            0xFFC00001, 0x3F800000],
}  # fmt: skip
SIGMA = [0.05, 0.0, 3.0]
AMPLITUDES = [0.0078125, 0.5, -0.001]


def streams() -> list[dict[str, object]]:
    """Return pieces of keystreams: 16 chips as signs, and four words of dither."""
    of = Streams.of(KEYS)
    return [
        {
            "tensor": name,
            "first": first,
            "chips": of.chips.signs(name, first, 16).astype(int).tolist(),
            "dither": of.dither.words(name, first, 4).tolist(),
        }
        for name in NAMES
        for first in STARTS
    ]


def marked(dtype: str, name: str) -> str:
    """Return the words of a tiny projection, marked, as hexadecimal bytes."""
    shape = {UP: (3, 4), DOWN: (4, 3)}
    where = find_projections({one: TensorInfo(dtype=dtype, shape=shape[one]) for one in shape})
    sigma = dict.fromkeys(shape, np.array(SIGMA, np.float32))
    embedding = Embedding(where, sigma, units=np.array(AMPLITUDES), streams=Streams.of(KEYS))
    words = np.array(WORDS[dtype], "<u4" if dtype == "F32" else "<u2")
    embedding.apply(name, 0, memoryview(words.view(np.uint8)))
    return words.tobytes().hex()


def vectors() -> dict[str, object]:
    """Return the document."""
    return {
        "format": "strongroom/weight-mark@1",
        "master": MASTER.reveal().hex(),
        "checkpoint": "ckpt-1",
        "streams": streams(),
        "deals": [
            {"units": units, "segments": segments, "first": deal(KEYS.segments, units, segments)[:10].tolist()}
            for units, segments in DEALS
        ],
        "sigma": SIGMA,
        "amplitudes": AMPLITUDES,
        "words": WORDS,
        "marked": {dtype: {name: marked(dtype, name) for name in (UP, DOWN)} for dtype in WORDS},
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(vectors(), indent=1) + "\n")
