"""The contract of ports.blobs, for every back end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.backends.localfs import LocalBlobs
from strongroom.core.errors import AlreadyExists, BadName, Busy, NotSealed, StoreUnavailable
from strongroom.ports.blobs import Blobs

BACKENDS: dict[str, Callable[[Path], Blobs]] = {"localfs": LocalBlobs}


@pytest.fixture(params=sorted(BACKENDS))
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return BACKENDS[request.param](tmp_path / "root")


def fill(blobs: Blobs, key: str = "a:b") -> None:
    stage = blobs.stage(key)
    sink = stage.append("data", at=0)
    sink.write(b"hello ")
    sink.write(memoryview(b"world"))
    sink.sync()
    sink.close()
    stage.put("small", b"{}")
    stage.put("note", b"kept")
    stage.publish("folder", ["data", "small"])
    stage.close()


def read(blobs: Blobs, name: str, offset: int = 0, size: int = 100) -> bytes:
    blob = blobs.open("folder", name)
    assert blob
    buffer = bytearray(size)
    got = blob.read_into(offset, memoryview(buffer))
    blob.close()
    blob.close()
    return bytes(buffer[:got])


def test_what_was_staged_appears_at_once(blobs: Blobs) -> None:
    assert blobs.names("folder") is None
    fill(blobs)
    assert blobs.names("folder") == ["data", "small"]
    assert read(blobs, "data") == b"hello world"
    assert read(blobs, "data", 6, 3) == b"wor"
    assert read(blobs, "data", 11) == b""
    assert blobs.open("folder", "absent") is None
    assert blobs.open("absent", "data") is None


def test_a_stage_outlives_its_process_and_is_cut_where_told(blobs: Blobs) -> None:
    stage = blobs.stage("a:b")
    sink = stage.append("data", at=0)
    sink.write(b"0123456789")
    sink.close()
    sink.close()
    stage.close()
    stage = blobs.stage("a:b")
    left = stage.open("data")
    assert left
    assert left.size == 10
    left.close()
    sink = stage.append("data", at=4)
    sink.write(b"!")
    sink.close()
    assert stage.open("absent") is None
    stage.put("data2", b"one")
    stage.put("data2", b"two")
    stage.publish("folder", ["data", "data2"])
    stage.close()
    assert (read(blobs, "data"), read(blobs, "data2")) == (b"0123!", b"two")


def test_what_is_not_published_stays_on_the_stage_until_discarded(blobs: Blobs) -> None:
    fill(blobs)
    stage = blobs.stage("a:b")
    note = stage.open("note")
    assert note
    note.close()
    stage.close()
    blobs.discard("a:b")
    stage = blobs.stage("a:b")
    assert stage.open("note") is None
    stage.close()


def test_a_folder_is_published_once(blobs: Blobs) -> None:
    fill(blobs)
    with pytest.raises(AlreadyExists):
        fill(blobs, "c:d")


def test_a_stage_is_one_process_s(blobs: Blobs) -> None:
    stage = blobs.stage("a:b")
    for again in (blobs.stage, blobs.discard):
        with pytest.raises(Busy):
            again("a:b")
    stage.close()
    stage.close()
    blobs.stage("a:b").close()


def test_removal(blobs: Blobs) -> None:
    fill(blobs)
    blobs.remove("folder")
    blobs.remove("folder")
    assert blobs.names("folder") is None


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "", ".stage", "x" * 65, "a\0b"])
def test_names_do_not_lead_out(blobs: Blobs, name: str) -> None:
    for call in (blobs.names, blobs.stage, blobs.discard, blobs.remove):
        with pytest.raises(BadName):
            call(name)
    with pytest.raises(BadName):
        blobs.open("folder", name)
    with pytest.raises(BadName):
        blobs.stage("a:b:c")


def test_local_oddities(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "root")
    fill(blobs)
    folder = tmp_path / "root" / "folder"
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to("data")
    (folder / "sub").mkdir()
    for name in ("pipe", "link", "sub"):
        with pytest.raises(NotSealed):
            blobs.open("folder", name)
    (tmp_path / "root" / "file").touch()
    assert blobs.names("file") is None
    with pytest.raises(NotSealed):
        blobs.open("file", "data")
    with pytest.raises(StoreUnavailable):
        LocalBlobs(tmp_path / "root" / "file" / "under")
    assert (tmp_path / "root").stat().st_mode & 0o777 == 0o700
    assert (folder / "data").stat().st_mode & 0o777 == 0o600
