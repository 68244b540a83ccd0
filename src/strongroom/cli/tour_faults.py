"""The faults that the demo plants in a sealed folder, each taken back afterwards."""

from __future__ import annotations

import mmap
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_HEADER, _SEGMENT = 74, 1 << 20  # docs/formats/sealed-1.md: bytes before the first segment, bytes of a segment
_WINDOWS, _WINDOW = 16, 64  # pieces of the plain weights that are looked for in the sealed copy, and their bytes


@contextmanager
def flipped_bit(sealed: Path) -> Generator[int]:
    """Flip one bit in the middle of a sealed file; yield where."""
    place = sealed.stat().st_size // 2
    with sealed.open("r+b") as file, mmap.mmap(file.fileno(), 0) as area:
        area[place] ^= 1
        try:
            yield place
        finally:
            area[place] ^= 1


@contextmanager
def swapped_segments(sealed: Path) -> Generator[None]:
    """Swap the second and the third segment of a sealed file."""
    with sealed.open("r+b") as file, mmap.mmap(file.fileno(), 0) as area:
        _swap(area)
        try:
            yield
        finally:
            _swap(area)


@contextmanager
def put_in_place(other: Path, folder: Path) -> Generator[None]:
    """Put another sealed folder in place of `folder`."""
    aside = folder.with_name(f".{folder.name}-aside")
    folder.rename(aside)
    shutil.copytree(other, folder)
    try:
        yield
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)


def plain_pieces(weights: Path, sealed: Path) -> tuple[int, int]:
    """Look for random pieces of the plain `weights` in a sealed folder; return (found, looked for)."""
    size = weights.stat().st_size
    with weights.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as plain:
        starts = [secrets.randbelow(size - _WINDOW) for _ in range(_WINDOWS)]
        pieces = [plain[start : start + _WINDOW] for start in starts]
    return sum(_holds(payload, piece) for piece in pieces for payload in sorted(sealed.glob("*.sealed"))), len(pieces)


def _holds(payload: Path, piece: bytes) -> bool:
    with payload.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as area:
        return area.find(piece) >= 0


def _swap(area: mmap.mmap) -> None:
    first, second = (slice(_HEADER + at * _SEGMENT, _HEADER + (at + 1) * _SEGMENT) for at in (1, 2))
    area[first], area[second] = area[second], area[first]
