"""Logits of a real model, kept by prompt, and what an inference server makes of them: biases, likeliest, named tokens.

A bias changes a few logits, so the log probabilities after it follow from those before: with p the probabilities and b
the biases, the new normaliser is the old one times 1 + Σ pᵢ·expm1(bᵢ). That is the field's grouped formula; it is
exact, and takes microseconds where the softmax of a whole vocabulary takes a millisecond.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bias = Sequence[tuple[int, float]]

_KEPT: Final = 384  # likeliest tokens of a row that are kept in order
_LOST: Final = 1e-6  # a normaliser that shrinks below this part of the old one has lost its digits


class Places:
    """Rows of logits. A row is a place in a text: what follows a prompt; the rows after it follow what was written."""

    def __init__(
        self, logits: npt.NDArray[np.float32], states: npt.NDArray[np.float32], *, names: list[str], prompts: list[str]
    ) -> None:
        """Take logits (rows, vocabulary), states (rows, width), the tokens' strings, and each row's prompt."""
        self.logits = logits
        self.states = states
        self.names = names
        self.prompts = prompts
        self._rows = {text: row for row, text in enumerate(prompts)}
        self._kept = lru_cache(maxsize=None)(self._read)

    @classmethod
    def at(cls, folder: Path) -> Places:
        """Open a folder as `engines.last_places` makes it."""
        names: list[str] = json.loads((folder / "names.json").read_text(encoding="utf-8"))
        prompts: list[str] = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
        return cls(
            np.load(folder / "logits.npy", mmap_mode="r"), np.load(folder / "states.npy"), names=names, prompts=prompts
        )

    @property
    def width(self) -> int:
        """The model's hidden size: what attackers are after."""
        return self.states.shape[1]

    def row(self, text: str, step: int = 0) -> int:
        """Return the row of a text, or of the `step`th token after it. An unknown text has some row, ever the same."""
        row = self._rows.get(text)
        if row is None:
            row = int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest())
        return (row + step) % len(self.prompts)

    def known(self, text: str) -> int | None:
        """Return the row of a prompt, if it is one of ours."""
        return self._rows.get(text)

    def likeliest(self, row: int, bias: Bias, count: int) -> list[tuple[int, float]]:
        """Return the `count` likeliest tokens after `bias`, likeliest first, with their log probabilities (nats)."""
        norm, order, values = self._kept(row)
        if not bias:
            return [(token, value - norm) for token, value in zip(order[:count], values, strict=False)]
        total = 1.0
        logits = self.logits[row]
        raised = list[tuple[int, float]]()
        for token, added in bias:
            value = float(logits[token])
            total += math.exp(value - norm) * math.expm1(added)
            raised.append((token, value + added))
        if total < _LOST or len(bias) + count > len(order):
            return self._explicit(row, bias, count)
        norm += math.log(total)
        moved = {token for token, _ in bias}
        rest = count + len(bias)
        raised += [(token, value) for token, value in zip(order[:rest], values, strict=False) if token not in moved]
        raised.sort(key=_value, reverse=True)
        return [(token, value - norm) for token, value in raised[:count]]

    def named(self, row: int, tokens: Sequence[int]) -> list[float]:
        """Return the log probabilities of tokens by number."""
        norm = self._kept(row)[0]
        return [float(self.logits[row, token]) - norm for token in tokens]

    def whole(self, row: int) -> Floats:
        """Return the log probabilities of the whole vocabulary."""
        return self.logits[row].astype(np.float64) - self._kept(row)[0]

    def _explicit(self, row: int, bias: Bias, count: int) -> list[tuple[int, float]]:
        logits = self.logits[row].astype(np.float64)
        for token, added in bias:
            logits[token] += added
        logits -= _norm(logits)
        order = np.argsort(-logits, kind="stable")[:count]
        return [(int(token), float(logits[token])) for token in order]

    def _read(self, row: int) -> tuple[float, list[int], list[float]]:
        """Return a row's log normaliser, and its likeliest tokens in order with their logits."""
        logits = self.logits[row].astype(np.float64)
        most = min(_KEPT, len(logits))
        some = np.argpartition(-logits, most - 1)[:most]
        order = some[np.argsort(-logits[some], kind="stable")]
        return _norm(logits), order.tolist(), logits[order].tolist()


def _norm(logits: Floats) -> float:
    most = float(logits.max())
    return most + math.log(float(np.exp(logits - most).sum()))


def _value(one: tuple[int, float]) -> float:
    return one[1]
