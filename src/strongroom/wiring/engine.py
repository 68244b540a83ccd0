"""An engine over an opened sealed checkpoint: weights go into the engine's memory and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

from strongroom.custody.read import SealedReader
from strongroom.custody.tensors import SealedTensors
from strongroom.ports.engine import Engine
from strongroom.wiring.table import load


def load_engine(reader: SealedReader, *, progress: Callable[[int, int], None] | None = None) -> Engine:
    """Return the model in `reader`, ready to write; `progress` is told (tensors done, tensors in all).

    Raises:
        MissingExtra: torch or transformers is not installed.
        UntrustedCode: the checkpoint asks for code to be run.
        TamperError: a segment was altered.

    """
    make = load("tensors", "pt")
    engine: Engine = load("engine", "transformers").load(SealedTensors(reader, make), progress=progress)
    return engine
