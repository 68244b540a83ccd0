"""A small real mark: a keyed unit in the last place on every weight of the MLP, found again beside the original."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from strongroom.core.copy_errors import MarkTooWeak, NothingToMark
from strongroom.ports.marks import MarkReport, Progress, TensorInfo, Tensors

BLOCK = 4096  # elements that one draw of the key covers
PIECE = 1 << 18  # elements in memory at a time
_BITS = {"F16": np.dtype("<u2"), "BF16": np.dtype("<u2"), "F32": np.dtype("<u4")}


@dataclass
class UlpMark:
    """The mark of one copy."""

    key: bytes
    weights: Tensors
    infos: Mapping[str, TensorInfo]
    commitment: str = ""
    least: float = 0.99
    seen: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.commitment = hashlib.sha256(b"commit" + self.key).hexdigest()

    def names(self) -> Collection[str]:
        return self.infos.keys()

    def signs(self, name: str, first: int, count: int) -> np.ndarray:
        """Return +1 or -1 for each of `count` elements from `first` on."""
        low, high = first // BLOCK, (first + count - 1) // BLOCK
        drawn = b"".join(
            hashlib.shake_128(self.key + name.encode() + at.to_bytes(8, "big")).digest(BLOCK // 8)
            for at in range(low, high + 1)
        )
        bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[first - low * BLOCK :][:count]
        return bits.astype(np.int64) * 2 - 1

    def apply(self, name: str, first: int, raw: memoryview) -> None:
        kind = _BITS[self.infos[name].dtype]
        values = np.frombuffer(raw, kind)
        bits = values.astype(np.int64)
        size = bits & ((1 << (8 * kind.itemsize - 1)) - 1)
        free = (size > 1) & (size < 0x7B00 << (8 * kind.itemsize - 16))  # no zero, nothing infinite
        bits += np.where(free, self.signs(name, first, len(bits)), 0)
        raw[:] = memoryview(bits.astype(kind)).cast("B")
        self.seen.append((name, len(bits)))

    def read_back(self, copy: Tensors, progress: Progress | None = None) -> MarkReport:
        hits = total = 0
        for name, info in self.infos.items():
            kind, count = _BITS[info.dtype], int(np.prod(info.shape))
            for first in range(0, count, PIECE):
                length = min(PIECE, count - first) * kind.itemsize
                ours, theirs = memoryview(bytearray(length)), memoryview(bytearray(length))
                self.weights.read_into(name, first, ours)
                copy.read_into(name, first, theirs)
                moved = np.frombuffer(theirs, kind).astype(np.int64) - np.frombuffer(ours, kind).astype(np.int64)
                hits += int((moved == self.signs(name, first, len(moved))).sum())
                total += len(moved)
                if progress:
                    progress(first, count)
        if hits < self.least * total:
            raise MarkTooWeak(f"{hits} of {total} weights carry it", where="copy")
        return MarkReport(
            scheme="test/ulp@1",
            segments=BLOCK,
            units=BLOCK,
            share=0.5,
            alpha=0.001,
            retained=float(np.sqrt(hits)),
            log10_p=-hits / 10,
        )


@dataclass
class UlpMarks:
    """Whoever marks the copies of the tests."""

    master: bytes = b"a master of the tests"
    weaken: bool = False  # say that a mark was prepared that can't be found again
    made: list[UlpMark] = field(default_factory=list)

    def prepare(self, checkpoint: str, copy: str, weights: Tensors, *, progress: Progress | None = None) -> UlpMark:
        infos = {name: one for name, one in weights.infos().items() if "mlp" in name and one.dtype in _BITS}
        if not infos:
            raise NothingToMark("no MLP", where=checkpoint)
        if progress:
            progress(1, 1)
        key = hmac.digest(self.master, f"{checkpoint}/{copy}".encode(), "sha256")
        mark = UlpMark(key, weights, infos, least=1.01 if self.weaken else 0.99)
        self.made.append(mark)
        return mark
