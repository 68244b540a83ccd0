"""An export lands where it was approved, whole, for its owner alone, and in nobody's place."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import AlreadyExists, ApprovalAltered, BadInput, SegmentAltered
from strongroom.custody import plain
from strongroom.custody.landing import check_destination
from strongroom.custody.plain import write_plain
from tests.custody.house import Sealed, folder, sealed


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    place = tmp_path_factory.mktemp("plain")
    return sealed(folder(place / "source"), place / "blobs")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "safe" / "out").mkdir(parents=True)
    (tmp_path / "evil" / "out").mkdir(parents=True)
    return tmp_path / "safe" / "out"


def files(place: Path) -> dict[str, bytes]:
    return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*") if p.is_file()}


def one_file(house: Sealed, tmp_path: Path) -> Sealed:
    return sealed(house.root.parent / "source" / "model-00001-of-00002.safetensors", tmp_path / "single")


def meanwhile(monkeypatch: pytest.MonkeyPatch, meddle: Callable[[], object]) -> None:
    """Have somebody meddle once the first byte is written."""
    real, done = plain._write, []

    def write(*words: object, **more: object) -> None:
        real(*words, **more)  # type: ignore[arg-type]
        if not done:
            done.append(meddle())

    monkeypatch.setattr(plain, "_write", write)


def swap(out: Path, level: int) -> None:
    """Put a link to the evil twin in place of the approved folder, or of the one above it."""
    approved = (out, out.parent)[level]
    approved.rename(approved.with_name("moved"))
    approved.symlink_to((out.parents[1] / "evil" / "out", out.parents[1] / "evil")[level])


def test_every_file_for_its_owner_alone(house: Sealed, out: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_plain(house.reader(), check_destination(out / "chat"), single=False)
        write_plain(one_file(house, tmp_path).reader(), check_destination(out / "one"), single=True)
    finally:
        os.umask(before)
    assert files(out / "chat") == files(house.root.parent / "source")
    for path in out.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    assert {path.name for path in out.iterdir()} == {"chat", "one"}


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("single", [True, False])
def test_a_link_swapped_in_after_the_approval(
    house: Sealed, out: Path, tmp_path: Path, *, single: bool, level: int
) -> None:
    source = one_file(house, tmp_path) if single else house
    target = check_destination(out / "chat")
    swap(out, level)
    with pytest.raises(ApprovalAltered) as caught:
        write_plain(source.reader(), target, single=single)
    assert str(out) in caught.value.where
    assert not files(tmp_path / "evil")
    assert not files(tmp_path / "safe")


@pytest.mark.parametrize("level", [0, 1])
def test_a_link_swapped_in_while_it_is_written(
    house: Sealed, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    target = check_destination(out / "chat")
    meanwhile(monkeypatch, lambda: swap(out, level))
    with pytest.raises(ApprovalAltered):
        write_plain(house.reader(), target, single=False)
    assert not files(tmp_path / "evil")
    assert not files(tmp_path / "safe")
    assert not files(tmp_path / "moved") if (tmp_path / "moved").exists() else True


@pytest.mark.parametrize("what", ["file", "folder", "link"])
@pytest.mark.parametrize("single", [True, False])
def test_what_came_to_stand_there_is_left_alone(
    house: Sealed, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, single: bool, what: str
) -> None:
    source = one_file(house, tmp_path) if single else house
    target = check_destination(out / "chat")

    def meddle() -> None:
        if what == "folder":
            target.mkdir()
            (target / "mine").write_text("mine")
        elif what == "link":
            target.symlink_to(tmp_path / "evil" / "out")
        else:
            target.write_text("mine")

    meanwhile(monkeypatch, meddle)
    with pytest.raises(AlreadyExists) as caught:
        write_plain(source.reader(), target, single=single)
    assert caught.value.where == str(target)
    assert [path.name for path in out.iterdir()] == ["chat"]
    assert what == "link" or b"mine" in files(out).values()
    assert not files(tmp_path / "evil")


@pytest.mark.parametrize("single", [True, False])
def test_an_empty_folder_is_fine(house: Sealed, out: Path, tmp_path: Path, *, single: bool) -> None:
    source = one_file(house, tmp_path) if single else house
    (out / "chat").mkdir()
    write_plain(source.reader(), check_destination(out / "chat"), single=single)
    assert (out / "chat").is_file() is single


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("single", [True, False])
def test_the_next_export_removes_what_a_killed_one_left(
    house: Sealed, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, single: bool
) -> None:
    source = one_file(house, tmp_path) if single else house
    child = os.fork()
    if not child:
        meanwhile(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
        write_plain(source.reader(), out / "chat", single=single)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert [path.name for path in out.iterdir()] == [".chat.strongroom-partial"]
    write_plain(source.reader(), check_destination(out / "chat"), single=single)
    assert [path.name for path in out.iterdir()] == ["chat"]


def test_an_altered_segment_leaves_nothing(house: Sealed, out: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(house.root, tmp_path / "hurt"))
    hurt = Sealed(type(house.blobs)(root), root, house.result, house.expected)
    data = bytearray((hurt.folder / "000004.sealed").read_bytes())
    data[-1] ^= 1
    (hurt.folder / "000004.sealed").write_bytes(data)
    with pytest.raises(SegmentAltered):
        write_plain(hurt.reader(), check_destination(out / "chat"), single=False)
    assert not list(out.iterdir())


def test_destinations_that_are_refused(out: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "way").symlink_to(home)
    for place in (home / "out", tmp_path / "way" / "out", out / ".." / ".." / "home" / "out", home):
        with pytest.raises(BadInput):
            check_destination(place, outside=tmp_path / "way")
    assert check_destination(home / "out") == home / "out"
    with pytest.raises(BadInput):
        check_destination(out / "absent" / "chat")
    (out / "taken").touch()
    (out / "loop").symlink_to(out / "loop")
    for name in ("taken", "loop"):
        with pytest.raises(AlreadyExists):
            check_destination(out / name)
