"""Which files a process still holds open, without counting what is none of the test's business."""

from __future__ import annotations

import contextlib
from pathlib import Path


def still_open(folder: Path) -> list[Path]:
    """What this process holds open below `folder`; its other descriptors come and go with the garbage collector."""
    found: list[Path] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(link.readlink())
    return [path for path in found if path.is_relative_to(folder)]
