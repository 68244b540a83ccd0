"""Whoever marks the copies of a house, and whoever measures what that costs: custody's ports, filled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.errors import BadInput
from strongroom.custody.copies import Copies
from strongroom.custody.housekeys import LINEAGE_MASTER, HouseKeys
from strongroom.custody.issue import Measure
from strongroom.custody.read import Progress, Reader
from strongroom.custody.tensors import SealedTensors
from strongroom.lineage.codes import Design
from strongroom.lineage.mark import WeightMark, WeightMarks
from strongroom.ports.marks import PerplexityCost, Tensors
from strongroom.wiring.table import load

_TEXTS_LIMIT: Final = 256 << 20  # bytes


class HouseMarks:
    """Marks by the house's master secret, which is obtained when a mark is prepared: by then two people have agreed."""

    def __init__(self, housekeys: HouseKeys, who: Identity, copies: Copies, *, design: Design) -> None:
        """Mark for `who`; the first copy of a checkpoint version settles the number of segments, by `design`."""
        self._housekeys = housekeys
        self._who = who
        self._copies = copies
        self._design = design

    def prepare(self, checkpoint: str, copy: str, weights: Tensors, *, progress: Progress | None = None) -> WeightMark:
        """Return the mark of a copy (`ports.marks.Marks`).

        Raises:
            NotPermitted: whoever issues may not have the master secret.
            NothingToMark, CoarseGrid, MarkTooWeak: the checkpoint can't carry a mark.

        """
        question = Question("lineage.decode", purpose=f"mark {copy}")
        master = self._housekeys.obtain(self._who, LINEAGE_MASTER, question)
        return WeightMarks(master, self._segments).prepare(checkpoint, copy, weights, progress=progress)

    def _segments(self, checkpoint: str) -> int:
        earlier = (one.mark.segments for one in self._copies.all() if one.checkpoint == checkpoint)
        return next(earlier, self._design.segments)


def measured(tokens: int, texts: Path | None) -> Measure:
    """Return what measures the cost of a mark on so many tokens of the file `texts`, or of those that are shipped.

    Raises:
        BadInput: the file can't be read, or is no text.
        MissingExtra: torch is not installed: a cost can't be measured without running the model.

    """
    text = None if texts is None else _text(texts)
    cost: Callable[..., PerplexityCost] = load("measure", "perplexity")
    make: Any = load("tensors", "pt")

    def measure(original: Reader, marked: Reader, progress: Progress | None) -> PerplexityCost:
        return cost(
            SealedTensors(original, make), SealedTensors(marked, make), tokens=tokens, texts=text, progress=progress
        )

    return measure


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(_TEXTS_LIMIT + 1)
        if len(raw) > _TEXTS_LIMIT:
            raise BadInput(f"over {_TEXTS_LIMIT} bytes of text", where=str(file))
        return raw.decode("utf-8")
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
    except UnicodeDecodeError:
        raise BadInput("this is no UTF-8 text", where=str(file)) from None
