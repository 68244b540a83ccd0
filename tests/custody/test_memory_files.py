"""Programs that want a path get memory files: readable, unwritable, gone afterwards; never a plaintext byte on disk."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import BadInput, SegmentAltered
from strongroom.custody.memory import harden_process
from strongroom.custody.memory_files import run_with_model
from tests.custody.house import MARK, Sealed, folder, holds, sealed

NOBODY = 65534
PR_SET_DUMPABLE = 4
PROBE = """
import json, os, pathlib, resource, sys
path, out, words = sys.argv[1], sys.argv[2], {}
files = sorted(p for p in pathlib.Path(path).rglob("*") if p.is_file()) if os.path.isdir(path) else [pathlib.Path(path)]
words["files"] = {p.relative_to(path).as_posix() if os.path.isdir(path) else "": p.read_bytes().hex() for p in files}
words["core"] = resource.getrlimit(resource.RLIMIT_CORE)
words["secrets"] = [name for name in os.environ if name.startswith("STRONGROOM_")]
words["mode"] = os.stat(path).st_mode & 0o777
words["path"] = path
try:
    with open(files[0], "r+b") as file:
        file.write(b"!")
    words["written"] = True
except OSError:
    words["written"] = False
pathlib.Path(out).write_text(json.dumps(words))
sys.exit(23)
"""
RUN = """
import sys
from pathlib import Path
from strongroom.backends.localfs import LocalBlobs
from strongroom.core.secrets import Secret
from strongroom.custody.judge import Expected
from strongroom.custody.memory import harden_process
from strongroom.custody.memory_files import run_with_model
from strongroom.custody.read import SealedReader
from tests.custody.house import NAME, ring
root, checkpoint, digest, key = sys.argv[1:5]
expected = Expected(checkpoint, NAME, 1, digest, "ann", ring().public)
reader = SealedReader(LocalBlobs(Path(root)), checkpoint, expected=expected, data_key=Secret(bytes.fromhex(key)))
raise SystemExit(run_with_model(reader, sys.argv[5:]))
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    place = tmp_path_factory.mktemp("exec")
    return sealed(folder(place / "source"), place / "blobs")


def test_a_folder(house: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_PASSPHRASE", "secret")
    out = tmp_path / "out.json"
    assert run_with_model(house.reader(), [sys.executable, "-c", PROBE, "{model}", str(out)]) == 23
    words = json.loads(out.read_text())
    source = house.root.parent / "source"
    there = {p.relative_to(source).as_posix(): p.read_bytes().hex() for p in source.rglob("*") if p.is_file()}
    assert words["files"] == there
    assert words["core"] == [0, 0]
    assert words["secrets"] == []
    assert words["mode"] == 0o700
    assert not words["written"]
    assert not Path(words["path"]).exists()


def test_a_single_file(house: Sealed, tmp_path: Path) -> None:
    source = house.root.parent / "source" / "model-00001-of-00002.safetensors"
    one = sealed(source, tmp_path / "blobs")
    out = tmp_path / "out.json"
    assert run_with_model(one.reader(), [sys.executable, "-c", PROBE, "{model}", str(out)]) == 23
    words = json.loads(out.read_text())
    assert words["path"].startswith("/proc/self/fd/")
    assert bytes.fromhex(words["files"][""]) == source.read_bytes()
    assert not words["written"]


def test_words_that_do_not_run(house: Sealed) -> None:
    for command in (["true"], ["{model}"], ["/no/such/program", "{model}"]):
        with pytest.raises(BadInput):
            run_with_model(house.reader(), command)


def test_an_altered_segment_starts_nothing(house: Sealed, tmp_path: Path) -> None:
    shutil.copytree(house.root, tmp_path / "blobs")
    hurt = Sealed(type(house.blobs)(tmp_path / "blobs"), tmp_path / "blobs", house.result, house.expected)
    target = hurt.folder / "000003.sealed"
    data = bytearray(target.read_bytes())
    data[500] ^= 1
    target.write_bytes(data)
    with pytest.raises(SegmentAltered):
        run_with_model(hurt.reader(), ["touch", "{model}", str(tmp_path / "started")])
    assert not (tmp_path / "started").exists()


def start(house: Sealed, tmp_path: Path, script: str) -> subprocess.Popen[bytes]:
    """Run exec in a process of its own whose temporary folder is ours to search; return when the program is up."""
    up, temporary = tmp_path / "up", tmp_path / "tmp"
    temporary.mkdir()
    result = house.result
    words = [str(house.root), result.checkpoint, result.manifest, result.data_key.reveal().hex()]
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *words, "sh", "-c", script, "{model}", str(up)],
        env={**os.environ, "TMPDIR": str(temporary)},
        cwd=Path(__file__).parents[2],
    )
    for _ in range(400):
        if up.exists():
            break
        time.sleep(0.025)
    assert up.exists()
    return process


def links(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_it_and_the_folder_goes(house: Sealed, tmp_path: Path, number: signal.Signals) -> None:
    process = start(house, tmp_path, "trap 'exit 9' TERM INT HUP; touch $1; while :; do sleep 0.05; done")
    assert len(links(tmp_path)) == 1
    process.send_signal(number)
    assert process.wait(10) == 9
    assert not links(tmp_path)


def test_a_program_that_dies_of_a_signal(house: Sealed, tmp_path: Path) -> None:
    process = start(house, tmp_path, "touch $1; kill -KILL $$")
    assert process.wait(10) == 128 + signal.SIGKILL
    assert not links(tmp_path)


def test_the_program_dies_with_its_parent_and_no_plaintext_was_ever_on_disk(house: Sealed, tmp_path: Path) -> None:
    process = start(house, tmp_path, "echo $$ > $1; cat $0/model-00001-of-00002.safetensors > /dev/null; exec sleep 60")
    for _ in range(400):
        if (tmp_path / "up").read_text():
            break
        time.sleep(0.025)
    child = int((tmp_path / "up").read_text())
    assert all(p.is_symlink() or p.is_dir() for p in (tmp_path / "tmp").rglob("*"))
    plain = [p for p in (tmp_path, house.root) for p in holds(p, MARK[:64]) if not p.is_symlink()]
    assert not plain
    process.kill()
    process.wait(10)
    for _ in range(400):
        if not Path(f"/proc/{child}").exists() or " Z " in Path(f"/proc/{child}/stat").read_text():
            break
        time.sleep(0.025)
    else:
        pytest.fail("the program outlived its parent")


def test_the_key_is_gone_before_the_program_runs(house: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, seen = house.reader(), []
    real = subprocess.Popen

    def looked(*words: Any, **more: Any) -> subprocess.Popen[bytes]:
        seen.append((reader._data_key.reveal(), dict(reader._open), dict(reader._cache)))
        return real(*words, **more)

    monkeypatch.setattr("strongroom.custody.memory_files.subprocess.Popen", looked)
    assert run_with_model(reader, ["true", "{model}"]) == 0
    assert seen == [(b"", {}, {})]
    reader.close()


LOOK = """
cat $0/config.json $0/model-00001-of-00002.safetensors > /dev/null || exit 3
if (: < /proc/$PPID/mem) 2> /dev/null; then exit 1; fi
test "$(ulimit -c)" = 0
"""


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("hardened", [True, False])
def test_a_program_reads_the_model_and_not_our_memory(house: Sealed, *, hardened: bool) -> None:
    """As a plain user: root may read everything. Without hardening the memory is open, so the look is not blind."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(shutil.copytree(house.root, Path(place) / "blobs"))
        child = os.fork()
        if not child:
            os._exit(as_a_plain_user(house, root, hardened=hardened))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if hardened else 1)


def as_a_plain_user(house: Sealed, root: Path, *, hardened: bool) -> int:
    try:
        if os.getuid() == 0:
            for path in (root.parent, root, *root.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # a change of user takes it away
        if hardened:
            harden_process()
        inner = Sealed(type(house.blobs)(root), root, house.result, house.expected)
        sealed(folder(root.parent / "source"), root.parent / "again")  # looks at /proc/self/fd, and still may
        return run_with_model(inner.reader(), ["sh", "-c", LOOK, "{model}"])
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
        traceback.print_exc()
        return 9


def test_the_marker_would_be_found(house: Sealed) -> None:
    """The search above is not blind: it finds the source."""
    assert holds(house.root.parent / "source", MARK[:64])
