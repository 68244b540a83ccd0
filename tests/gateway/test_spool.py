"""The usage spool: what a power cut may take is a second's lines at most, and no request waits for the disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from strongroom.core.clock import SystemClock
from strongroom.gateway.spool import Spool
from strongroom.serving.usage import Settled
from tests.descriptors import still_open

LINE = Settled(
    id="req_1", at="", account="acme", status=200, finish="stop", prompt_tokens=1, completion_tokens=1, streamed=False
)


class Disk:
    """Stands in for `os.fdatasync`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.0, broken: bool = False) -> None:
        self.seconds = seconds
        self.broken = broken
        self.synced: list[tuple[int, int]] = []  # inode, and its size when that began
        self.threads: set[int] = set()
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, file: int) -> None:
        self.threads.add(threading.get_ident())
        found = os.fstat(file)
        time.sleep(self.seconds)
        if self.broken:
            raise OSError(5, "Input/output error")
        self.synced.append((found.st_ino, found.st_size))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("usage-*.jsonl"))


async def _settle(spool: Spool) -> None:
    while spool._drying:  # noqa: ASYNC110 - nothing else shows when the disk is done
        await asyncio.sleep(0.005)


def test_what_was_written_is_synced_once_a_second_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)

    async def run() -> None:
        spool = Spool(tmp_path, SystemClock())
        spool.tick()
        assert spool.write(LINE)
        assert spool.write(LINE)
        spool.tick()
        await _settle(spool)
        spool.tick()  # nothing new
        await _settle(spool)
        (file,) = _files(tmp_path)
        assert disk.synced == [(file.stat().st_ino, file.stat().st_size)]
        assert spool.write(LINE)
        spool.close()
        await _settle(spool)
        assert disk.synced[1:] == [(file.stat().st_ino, file.stat().st_size)]

    asyncio.run(run())
    assert threading.get_ident() not in disk.threads


def test_a_slow_disk_holds_nobody_up_and_is_asked_once_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, seconds=0.3)

    async def run() -> None:
        spool = Spool(tmp_path, SystemClock())
        begun = time.monotonic()
        for _ in range(5):
            assert spool.write(LINE)
            spool.tick()
        assert time.monotonic() - begun < 0.2
        await _settle(spool)
        assert len(disk.synced) == 1
        spool.tick()
        await _settle(spool)
        (file,) = _files(tmp_path)
        assert disk.synced[-1] == (file.stat().st_ino, file.stat().st_size)

    asyncio.run(run())


def test_a_disk_that_fails_is_told_of_and_the_next_line_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(monkeypatch, broken=True)

    async def run() -> None:
        spool = Spool(tmp_path, SystemClock())
        assert spool.write(LINE)
        spool.tick()
        await _settle(spool)
        disk.broken = False
        await asyncio.sleep(0.01)
        assert spool.write(LINE)
        assert len(_files(tmp_path)) == 2
        spool.close()
        await _settle(spool)

    asyncio.run(run())
    assert "usage is not recorded" in "".join(capsys.readouterr())


def test_descriptors_do_not_pile_up(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path, SystemClock())
        counts: list[int] = []
        for _ in range(20):
            assert spool.write(LINE)
            spool.tick()
            await _settle(spool)
            counts.append(len(still_open(tmp_path)))
        assert set(counts) == {1}

    asyncio.run(run())


def test_a_file_that_was_deleted_takes_no_more_lines(tmp_path: Path) -> None:
    async def run() -> None:
        spool = Spool(tmp_path, SystemClock())
        assert spool.write(LINE)
        _files(tmp_path)[0].unlink()
        assert spool.write(LINE)
        [file] = _files(tmp_path)
        assert len(file.read_text().splitlines()) == 1
        shutil.rmtree(tmp_path)
        assert not spool.write(LINE)
        await _settle(spool)

    asyncio.run(run())


def test_the_end_of_a_request_is_written_down_later_if_not_now(tmp_path: Path) -> None:
    async def run() -> None:
        folder = tmp_path / "usage"
        spool = Spool(folder, SystemClock())
        spool.settle(LINE)
        folder.mkdir()
        spool.tick()
        [file] = _files(folder)
        assert '"completion_tokens":1' in file.read_text()
        spool.close()
        await _settle(spool)

    asyncio.run(run())
