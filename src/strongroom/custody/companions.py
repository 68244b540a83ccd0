"""The files that leave with marked weights and carry no mark: only such as whoever opens a model needs, and small ones.

Everything that is no ``.safetensors`` file is copied byte for byte, so the same weights in another format would leave
unmarked beside the marked ones. A name says little of what a file holds; docs/custody.md says what passes all the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

from strongroom.core.errors import BadInput
from strongroom.custody.formats import Content

SUFFIXES: Final = frozenset({
    *(".json", ".jsonl", ".txt", ".md", ".model", ".jinja", ".py", ".yaml", ".yml", ".toml"),
    *(".tiktoken", ".vocab", ".merges"),
})  # fmt: skip
NAMES: Final = ("LICENSE", "NOTICE", "README", "COPYING")  # and what begins so, without a suffix
MOST: Final = 64 << 20  # bytes, of one
TOTAL: Final = 256 << 20  # of all
_REMEDY: Final = "Seal a folder without it, and issue that."


def check_companions(files: Iterable[Content]) -> None:
    """Return if every file that carries no mark may leave beside the marked weights.

    Raises:
        BadInput: one has another name than configuration, tokenizers and licences have, or more than 64 MiB; or all
            together have more than 256.

    """
    total = 0
    for entry in files:
        if entry.kind == "safetensors":
            continue
        total += entry.size
        if not _is_companion(entry.path):
            raise BadInput("it would leave in a copy without a mark", where=entry.path, remedy=_REMEDY)
        if entry.size > MOST or total > TOTAL:
            raise BadInput(
                f"{entry.size:,} bytes would leave in a copy without a mark: {MOST:,} at most, and {TOTAL:,} in all",
                where=entry.path,
                remedy=_REMEDY,
            )


def _is_companion(path: str) -> bool:
    name = PurePosixPath(path)
    if name.suffix:
        return name.suffix in SUFFIXES
    return name.name == ".gitattributes" or name.name.startswith(NAMES)
