"""A backup holds what a home is and nothing else; a hostile one writes nowhere, fills no disk, passes for nobody's."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import BadSettings
from strongroom.wiring.table import split
from tests.journeys.shell import Shell, model_folder

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def file(sealed: Shell, tmp_path: Path) -> Path:
    assert sealed("home", "backup", str(tmp_path / "backup.tar"), who="owner").status == 0
    sealed.home.rename(tmp_path / "lost")
    return tmp_path / "backup.tar"


def rewritten(file: Path, change: Callable[[Members], object]) -> None:
    """Take a backup apart and put it together again, changed."""
    with tarfile.open(file) as archive:
        members: Members = []
        for member in archive:
            stream = archive.extractfile(member)
            members.append((member, stream.read() if stream else b""))
    change(members)
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as archive:
        for member, data in members:
            archive.addfile(member, io.BytesIO(data))


def plain(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    return member, data


def refused(shell: Shell, file: Path, code: str) -> None:
    said = shell("home", "restore", str(file))
    assert said.code == code, said.out
    assert not shell.home.exists()
    assert not [path for path in shell.root.iterdir() if "making" in path.name]


def settings_with(line: str) -> Callable[[Members], object]:
    def change(members: Members) -> None:
        for at, (member, data) in enumerate(members):
            if member.name == "strongroom.toml":
                key = line.partition("#")[0]
                old = {"ledger": b'"sqlite:ledger/log.sqlite3"', "records": b'"sqlite:records.sqlite3"'}
                new = data.replace(old.get(key, b'"file:sealed"'), f'"{line.partition("#")[2]}"'.encode())
                assert new != data
                members[at] = plain(member.name, new)

    return change


@pytest.mark.parametrize("port", ["ledger", "records", "custody"])
@pytest.mark.parametrize("place", ["{root}/foreign", "../foreign", "a/../../foreign", "", ".", "a\\u0000b"])
def test_stores_outside_the_home(sealed: Shell, file: Path, tmp_path: Path, port: str, place: str) -> None:
    foreign = tmp_path / "foreign"
    with sqlite3.connect(foreign) as db:
        db.execute("create table mine (x)")
    db.close()
    foreign.chmod(0o640)
    before = foreign.read_bytes()
    scheme = "file" if port == "custody" else "sqlite"
    rewritten(file, settings_with(f"{port}#{scheme}:{place.format(root=tmp_path)}"))
    refused(sealed, file, "usage.bad_settings")
    assert foreign.read_bytes() == before
    assert foreign.stat().st_mode & 0o777 == 0o640


def test_a_store_outside_the_home_names_the_key() -> None:
    with pytest.raises(BadSettings) as caught:
        split("blobs", "file:/etc")
    assert caught.value.where == "custody.store"
    assert split("blobs", "file:sealed/deeper") == ("file", "sealed/deeper")


NAMES = [
    "notes.txt", "../up", "/abs", "ledger/other", "sealed/notes", "sealed/ckpt_1/manifest.json", "home.json/x",
    "sealed/ckpt_" + "0" * 30 + "/notes.txt", "sealed/ckpt_" + "0" * 30 + "/sub/000001.sealed",
    "sealed/ckpt_" + "0" * 30 + "/00000\u0660.sealed", "./home.json", "sealed/../home.json", "x/sealed/../../y",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_no_backup_holds(sealed: Shell, file: Path, name: str) -> None:
    rewritten(file, lambda members: members.insert(0, plain(name)))
    refused(sealed, file, "usage.bad_input")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("name", ["sealed/ckpt_" + "0" * 30 + "/000001.sealed", "strongroom.toml"])
def test_kinds_that_no_backup_holds(sealed: Shell, file: Path, kind: bytes, name: str) -> None:
    def change(members: Members) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, name
        members[:] = [one for one in members if one[0].name != name]
        members.insert(0, (member, b""))

    rewritten(file, change)
    refused(sealed, file, "usage.bad_input")


def test_the_same_name_twice(sealed: Shell, file: Path) -> None:
    rewritten(file, lambda members: members.append(members[0]))
    refused(sealed, file, "usage.bad_input")


def old_gnu_sparse(name: str, size: int) -> bytes:
    """Return a member of one block in the archive and `size` bytes on the disk."""
    member = tarfile.TarInfo(name)
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 512
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0%011o\0" % (0, 512)
    block[483:495] = b"%011o\0" % size
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + b"x" * 512


def pax_sparse(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = 512
    member.pax_headers = {"GNU.sparse.size": str(size), "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,512"}
    return member.tobuf(tarfile.PAX_FORMAT) + b"x" * 512


@pytest.mark.parametrize("make", [old_gnu_sparse, pax_sparse])
@pytest.mark.parametrize("name", ["sealed/ckpt_" + "0" * 30 + "/000001.sealed", "strongroom.toml"])
def test_a_small_tar_does_not_fill_the_disk(
    sealed: Shell, file: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[str, int], bytes], name: str
) -> None:
    written: list[int] = []
    real = shutil.copyfileobj
    monkeypatch.setattr("shutil.copyfileobj", lambda *words: (written.append(1), real(*words)))
    rest = b"" if name == "strongroom.toml" else file.read_bytes()
    file.write_bytes(make(name, 3 << 30) + rest + bytes(1024))
    refused(sealed, file, "usage.bad_input")
    assert not written


@pytest.mark.parametrize("noise", [b"", b"x" * 1536, bytes(10240)])
def test_noise_is_no_backup(sealed: Shell, file: Path, noise: bytes) -> None:
    file.write_bytes(noise)
    refused(sealed, file, "usage.bad_input")


def test_strays_in_the_store_stay_behind_and_the_rest_restores(sealed: Shell, tmp_path: Path) -> None:
    store = sealed.home / "sealed"
    payload = next(store.glob("ckpt_*"))
    (store / "notes.txt").write_text("stray")
    (store / "notes").mkdir()
    (store / "notes" / "manifest.json").write_text("stray")
    (store / "link").symlink_to("/etc")
    (store / f"ckpt_{'0' * 30}").touch()
    (payload / "notes.txt.bak").symlink_to("/etc/passwd")
    file = tmp_path / "backup.tar"
    assert sealed("home", "backup", str(file), who="owner").status == 0
    with tarfile.open(file) as archive:
        assert all(member.isreg() and not member.linkname for member in archive)
        held = {name.rpartition("/")[0] for name in archive.getnames() if name.startswith("sealed/")}
    assert held == {f"sealed/{payload.name}"}
    shutil.rmtree(sealed.home)
    assert sealed("home", "restore", str(file)).status == 0
    assert sealed("custody", "verify", "chat:v1").status == 0


def test_payloads_with_two_names_are_packed_as_files(sealed: Shell, tmp_path: Path) -> None:
    payload = next((sealed.home / "sealed").glob("ckpt_*"))
    (payload / "000009.sealed").hardlink_to(payload / "000001.sealed")
    file = tmp_path / "backup.tar"
    assert sealed("home", "backup", str(file), who="owner").status == 0
    with tarfile.open(file) as archive:
        assert all(member.isreg() for member in archive)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_link_in_place_of_a_payload_is_no_backup(sealed: Shell, tmp_path: Path, what: str) -> None:
    payload = next((sealed.home / "sealed").glob("ckpt_*"))
    place = payload if what == "folder" else payload / "000001.sealed"
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    file = tmp_path / "backup.tar"
    assert sealed("home", "backup", str(file), who="owner").code == "custody.not_sealed"
    assert not file.exists()


def test_the_verifier_key_tells_a_forged_home(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    assert shell("home", "backup", str(file), who="owner").status == 0
    shutil.rmtree(shell.home)
    (tmp_path / "eve").mkdir()
    other = Shell(tmp_path / "eve")
    made = other("init", "--passphrase-file", str(other.passphrase("owner")))
    assert shell("home", "restore", str(file), "--vkey", made.json["vkey"]).code == "ledger.forked"
    assert not shell.home.exists()
    said = shell("home", "restore", str(file))
    assert said.status == 0
    shutil.rmtree(shell.home)
    assert shell("home", "restore", str(file), "--vkey", said.json["vkey"] + "\n").status == 0


def test_a_home_of_an_altered_store_setting_is_not_opened(shell: Shell, tmp_path: Path) -> None:
    settings = shell.home / "strongroom.toml"
    settings.write_text(settings.read_text().replace("file:sealed", f"file:{tmp_path}/elsewhere"))
    said = shell("custody", "seal", str(model_folder(tmp_path / "model")), "chat:v1", who="carla")
    assert said.code == "usage.bad_settings"
    assert not (tmp_path / "elsewhere").exists()
