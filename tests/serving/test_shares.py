"""What gateways hold, as control's file has it: a disk that is full makes nobody forget."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from strongroom.core.errors import StoreUnavailable
from strongroom.serving.shares import Shares


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Have no file grow beyond `size` bytes: the write that would is cut there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("more", [0, 1, 40])
def test_a_line_that_a_full_disk_has_cut_swallows_no_other(tmp_path: Path, more: int) -> None:
    file = tmp_path / "shares.jsonl"
    shares = Shares(file, monotonic)
    shares.join("one", os.getpid(), {})
    with room_for(file.stat().st_size + more), pytest.raises(StoreUnavailable):
        shares.lease("one", "streams/total/", 5)
    assert shares.used("streams/total/") == 0
    shares.lease("one", "streams/total/", 3)
    assert Shares(file, monotonic).used("streams/total/") == 3


def test_nobody_holds_less_than_nothing(tmp_path: Path) -> None:
    shares = Shares(tmp_path / "shares.jsonl", monotonic)
    shares.join("honest", os.getpid(), {"streams/total/": 4})
    shares.join("liar", os.getpid(), {"streams/total/": -100})
    assert shares.used("streams/total/") == 4
