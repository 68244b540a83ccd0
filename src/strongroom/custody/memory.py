"""Anonymous memory: where plaintext lives (rule 2), how many threads fill it, and who may look at it."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import sys
import threading
from contextlib import suppress

_HUGE = 2 << 20
_MOST_WORKERS = 8
_PR_SET_DUMPABLE = 4


def anonymous(size: int) -> memoryview:
    """Return `size` zeroed bytes that no file backs and no core dump of this process holds.

    Large ones ask for huge pages: faulting fresh small pages costs more than decrypting into them.
    """
    if not size:
        return memoryview(bytearray())
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    advise(area, size)
    return memoryview(area)


def advise(area: mmap.mmap, size: int) -> None:
    """Keep `area` out of core dumps, and ask for huge pages if it is large."""
    area.madvise(mmap.MADV_DONTDUMP)
    if size >= _HUGE:
        with suppress(OSError):  # a kernel without them: slower, not wrong
            area.madvise(mmap.MADV_HUGEPAGE)


def wipe(area: memoryview) -> None:
    """Overwrite `area` with zeros."""
    area[:] = bytes(len(area))


def harden_process() -> None:
    """Shut this process's memory to other programs of its user (root still reads it) and to core files.

    Linux only; elsewhere nothing happens. A program started from here is as open as any other, but writes no core file.
    """
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def workers() -> int:
    """Return how many threads fill memory: the processors that this process may use, at most eight."""
    return min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


class Scratch(threading.local):
    """A reused buffer for each thread: ciphertext is read, hashed and decrypted while it is in cache."""

    def __init__(self, size: int) -> None:
        """Give the thread its buffer of `size` bytes."""
        self.buffer = anonymous(size)
