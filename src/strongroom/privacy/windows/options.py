"""How an index is ordered by whoever has it built. Apart from what builds it, which is optional and slow to import."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict


class Options(TypedDict):
    """The choices of `privacy index build`."""

    window: int  # words
    stride: int  # words
    common_documents: int
    leave_out: Path | None
    text: str
    no_values: bool
    jobs: int
