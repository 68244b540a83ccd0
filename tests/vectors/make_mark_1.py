"""Write the vectors of mark-1 anew, from fixed keys: what it writes must be what is committed (scores: to 2 ulp)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from strongroom.core.secrets import Secret
from strongroom.watermark.arrays import namespace
from strongroom.watermark.detect import detect
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds, scores
from strongroom.watermark.keys import commitment, derive
from strongroom.watermark.prf import context_seed, words

MASTER = Secret(bytes(range(32)))
VOCABULARY = 101
CONTEXTS = [[0, 0, 0, 0], [1, 2, 3, 4], [4, 3, 2, 1], [49151, 151935, 262143, 7], [0xFFFFFFFF] * 4]
TOKENS = [0, 1, 2, 49151, 262143, 0xFFFFFFFF]


def logits(step: int) -> np.ndarray:
    """Return (1, V) logits that any language can make: multiples of 1/8, a third of them ruled out."""
    tokens = np.arange(VOCABULARY)
    row = ((tokens * 37 + step * 11) % 64) / 8.0
    row[(tokens + step) % 3 == 0] = -np.inf
    return row[None, :]


def answer() -> list[list[int]]:
    """Return the [token, whether marked] of a 60-token answer of the first account, drawn from `logits`."""
    marker, text, made = Marker(derive(MASTER, "acme", "2026-11"), fresh_seeds(7)), [], []
    for step in range(60):
        seed, marked = marker.seed(text)
        text.append(int(choose(logits(step % 5), np.array([seed]))[0]))
        made.append([text[-1], int(marked)])
    return made


def vectors() -> dict[str, object]:
    """Return the document: every number of the format, from the key to the evidence."""
    keys = [derive(MASTER, account, epoch) for account, epoch in (("acme", "2026-11"), ('Ünïcode|,"', "2026-12"))]
    seeds = [[context_seed(key.words(), context) for context in CONTEXTS] for key in keys]
    column, row = np.array(seeds).reshape(-1, 1), np.array(TOKENS)
    drawn = answer()
    evidence = detect([token for token, _ in drawn], keys[0])
    return {
        "format": "strongroom/mark@1",
        "master": MASTER.reveal().hex(),
        "keys": [
            {"account": key.account, "epoch": key.epoch, "key": key.raw.reveal().hex(), "commitment": commitment(key)}
            for key in keys
        ],
        "contexts": CONTEXTS,
        "tokens": TOKENS,
        "seeds": seeds,
        "words": words(column, row).tolist(),
        "scores": [[value.hex() for value in line] for line in scores(column, row, namespace(row)).tolist()],
        "answer": drawn,
        "evidence": {"score": evidence.score.hex(), "scored": evidence.scored, "log10_p": evidence.log10_p.hex()},
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(vectors(), indent=1) + "\n")
