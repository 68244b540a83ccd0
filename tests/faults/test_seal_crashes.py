"""Sealing cut off by kill -9 at every step, by a full disk, by another process: what is left is whole or resumable."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.backends.localfs import LocalBlobs
from strongroom.core.errors import Busy, DiskFull, SignatureInvalid
from strongroom.custody.read import verify
from strongroom.custody.seal import Options, discard, seal
from tests.custody.house import MARK, NAME, SMALL, Sealed, expected, folder, holds, identity, ring

STEPS = ("open", "write", "fsync", "ftruncate", "rename", "mkdir", "unlink", "rmdir")
NEEDLE = MARK[:64]


def attempt(source: Path, root: Path, *, version: int = 1, who: str = "ann") -> Sealed:
    blobs = LocalBlobs(root)
    options = Options(segment=SMALL, threads=1)
    result = seal(source, blobs, identity=identity(version), keyring=ring(who), options=options)
    return Sealed(blobs, root, result, expected(result, version=version, who=who))


def die_at(step: int) -> Callable[[], int]:
    """Make the process kill itself at the `step`-th call that changes the disk; half of a write is written first."""
    count = 0

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def counted(*args: object, **more: object) -> object:
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])  # type: ignore[arg-type]
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **more)

        setattr(os, name, counted)

    for name in STEPS:
        wrap(name)
    return lambda: count


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked process; return its wait status."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
            os._exit(7)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def cut_off(source: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal up to the publication, and no further."""
    with monkeypatch.context() as patch:
        patch.setattr("strongroom.backends.localfs.LocalStage.publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            attempt(source, root)


def check(house: Sealed, source: Path) -> None:
    verify(house.blobs, house.result.folder, expected=house.expected)
    with house.open() as ours:
        for path in ours.files():
            assert ours.read_file(path) == (source / path).read_bytes()
    assert not holds(house.root, NEEDLE)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_kill_at_every_step_then_resume(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    step, published = 0, 0
    while True:
        step += 1
        root = tmp_path / f"blobs{step}"
        LocalBlobs(root)

        def doomed(root: Path = root, step: int = step) -> None:
            die_at(step)
            attempt(source, root)

        status = in_child(doomed)
        if status == 0:
            break
        assert os.WIFSIGNALED(status), f"step {step}: {status}"
        assert not holds(root, NEEDLE)
        for left in (p for p in root.iterdir() if p.name != ".stage"):
            published += 1
            assert {"manifest.json", "manifest.sig"} <= {p.name for p in left.iterdir()}, (
                "a folder appears whole or not at all"
            )
        check(attempt(source, root), source)
        assert len([p for p in root.iterdir() if p.name != ".stage"]) == 1, "resumed, not sealed twice"
        discard(LocalBlobs(root), NAME)
        assert not list((root / ".stage").glob("*"))
        shutil.rmtree(root)
    assert step > 60
    assert published


def test_resume_does_not_encrypt_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"

    cut_off(source, root, monkeypatch)
    stage = root / ".stage" / str(NAME) / "files"
    before = {p.name: p.read_bytes() for p in stage.glob("*.sealed")}
    torn = stage / "000003.sealed"
    torn.write_bytes(before[torn.name][: 74 + 2 * SMALL + 100])
    house = attempt(source, root)
    check(house, source)
    after = {p.name: p.read_bytes() for p in house.folder.glob("*.sealed")}
    assert {n for n in before if before[n] != after[n]} == {torn.name}
    assert after[torn.name][: 74 + 2 * SMALL] == before[torn.name][: 74 + 2 * SMALL]


@pytest.mark.parametrize("damage", ["flip", "garbage", "other source", "new version"])
def test_nothing_on_the_stage_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    cut_off(source, root, monkeypatch)
    target = root / ".stage" / str(NAME) / "files" / "000003.sealed"
    data = bytearray(target.read_bytes())
    if damage == "flip":
        data[SMALL + 200] ^= 1
        target.write_bytes(data)
    elif damage == "garbage":
        target.write_bytes(b"not sealed at all" * 2000)
    elif damage == "other source":
        (source / "config.json").write_text("{}")
    version = 2 if damage == "new version" else 1
    check(attempt(source, root, version=version), source)


def test_an_altered_journal_and_a_strangers_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    cut_off(source, root, monkeypatch)
    with pytest.raises(Busy, match="ann"):
        attempt(source, root, who="bob")
    journal = root / ".stage" / str(NAME) / "files" / "journal.json"
    text = journal.read_bytes()
    for altered in (text.replace(b'"version":1', b'"version":2', 1), text[:-1], b""):
        journal.write_bytes(altered)
        with pytest.raises(SignatureInvalid):
            attempt(source, root)
    discard(LocalBlobs(root), NAME)
    check(attempt(source, root, who="bob"), source)


def test_a_repeated_call_before_the_ledger_entry_seals_nothing_twice(tmp_path: Path) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    first = attempt(source, root)
    assert attempt(source, root).result.manifest == first.result.manifest
    config = source / "config.json"
    config.write_bytes(config.read_bytes().replace(b"llama", b"lamas"))  # of the same size: only the bytes tell
    again = attempt(source, root)
    assert again.result.checkpoint != first.result.checkpoint
    check(again, source)


def published(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.name != ".stage"}


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("size", ["same", "other"])
def test_killed_before_the_ledger_entry_and_the_source_replaced(tmp_path: Path, size: str) -> None:
    """The new bytes are sealed, and nothing is left of the old ones once the ledger has its entry."""
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    target = source / "model-00001-of-00002.safetensors"
    for _ in range(2):  # twice: the first orphan is not forgotten over the second

        def doomed() -> None:
            attempt(source, root)
            os.kill(os.getpid(), signal.SIGKILL)

        assert os.WIFSIGNALED(in_child(doomed))
        data = bytearray(target.read_bytes())
        data[-1] ^= 1
        target.write_bytes(data)
        (source / "config.json").write_text("{}" if size == "other" else (source / "config.json").read_text())
    orphans = published(root)
    assert len(orphans) == 2 if size == "same" else orphans
    again = attempt(source, root)
    check(again, source)
    discard(again.blobs, NAME, replaced=again.result.replaced)
    assert published(root) == {again.result.folder}


def test_an_earlier_version_is_never_taken_for_an_orphan(tmp_path: Path) -> None:
    """Killed between the ledger entry and `discard`: the journal is of a version that counts."""
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    first = attempt(source, root)
    (source / "config.json").write_text("{}")
    second = attempt(source, root, version=2)
    assert second.result.replaced == ()
    discard(second.blobs, NAME, replaced=second.result.replaced)
    assert published(root) == {first.result.folder, second.result.folder}


def test_two_at_once(tmp_path: Path) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"
    held = LocalBlobs(root).stage(str(NAME))
    with pytest.raises(Busy):
        attempt(source, root)
    with pytest.raises(Busy):
        discard(LocalBlobs(root), NAME)
    held.close()
    check(attempt(source, root), source)


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "blobs"

    def short_of_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * SMALL, 3 * SMALL))
        try:
            attempt(source, root)
        except DiskFull as error:
            os._exit(5 if "000003.sealed" in error.where else 6)

    assert os.waitstatus_to_exitcode(in_child(short_of_room)) == 5
    check(attempt(source, root), source)


def test_a_full_disk(tmp_path: Path) -> None:
    source, root = folder(tmp_path / "source"), tmp_path / "small"
    root.mkdir()
    mount = shutil.which("mount")
    done = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=40k", "none", root], check=False, capture_output=True
    )
    if not done or done.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here")
    try:
        with pytest.raises(DiskFull):
            attempt(source, root)
        subprocess.run(["mount", "-o", "remount,size=8m", root], check=True)  # noqa: S607 - found above
        check(attempt(source, root), source)
    finally:
        subprocess.run(["umount", root], check=True)  # noqa: S607 - as above


BIG = """
import os, sys
from pathlib import Path
from strongroom.custody.seal import seal
from strongroom.backends.localfs import LocalBlobs
from tests.custody.house import identity, ring
place = Path(sys.argv[1]); size = int(sys.argv[2]); (place / "source").mkdir()
head = b'{"t":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
with (place / "source" / "m.safetensors").open("wb") as file:
    file.write(len(head).to_bytes(8, "little") + head)
    for _ in range(size >> 20): file.write(os.urandom(1 << 20))
seal(place / "source", LocalBlobs(place / "blobs"), identity=identity(), keyring=ring())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_memory_stays_constant(tmp_path: Path) -> None:
    def peak(megabytes: int) -> int:
        place = tmp_path / str(megabytes)
        place.mkdir()
        command = [sys.executable, "-c", BIG, str(place), str(megabytes << 20)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        shutil.rmtree(place)
        return int(done.stdout) // 1024

    small, large = peak(20), peak(600)
    assert large < 200
    assert large - small < 16
