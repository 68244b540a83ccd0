"""Real, repetitive, unmarked text that every machine has: the standard library's sources and its licence.

Tokens are words and single punctuation marks, numbered as they come: not a language model's tokenizer, but as
repetitive as one's tokens, and there without any download. benchmarks/watermark.py has the figures with a real one.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import numpy as np

from strongroom.core.secrets import Secret
from strongroom.watermark.keys import MarkKey, derive

MASTER = Secret(bytes(range(32)))
WINDOW = 200


def key(number: int) -> MarkKey:
    return derive(MASTER, f"account-{number}", "2026-11")


def documents(largest: int = 400) -> list[np.ndarray]:
    """Return the token ids of up to `largest` files, one array a file."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(one for one in folder.rglob("*.py") if "site-packages" not in one.parts and "test" not in one.parts)
    ids: dict[str, int] = {}
    made = []
    for file in [*folder.glob("LICENSE*"), *files][:largest]:
        words = re.findall(r"\w+|[^\w\s]", file.read_text(encoding="utf-8", errors="replace"))
        made.append(np.array([ids.setdefault(word, len(ids)) for word in words], np.int64))
    return made


def windows(whole: list[np.ndarray]) -> list[np.ndarray]:
    """Cut documents into texts of 200 tokens."""
    return [one[at : at + WINDOW] for one in whole for at in range(0, len(one) - WINDOW + 1, WINDOW)]
