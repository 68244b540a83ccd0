"""What PyTorch saved, read without running it: what a hostile pickle would call is named, and nothing happens."""

from __future__ import annotations

import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.lineage import opcodes, pickled, torch_zip
from strongroom.lineage.pickled import TorchFiles
from tests.descriptors import still_open
from tests.lineage.pickles import (
    FLOATS,
    MAGIC,
    REBUILD,
    checkpoint,
    members,
    number,
    numbers,
    program,
    storage,
    stream,
    tensor,
    text,
    written,
    zipped,
)


def values(path: Path, name: str = "a", *, partial: bool = False) -> list[float]:
    with TorchFiles(path, partial=partial) as found:
        count = int(np.prod(found.infos()[name].shape))
        buffer = bytearray(4 * count)
        found.read_into(name, 0, memoryview(buffer))
        return np.frombuffer(buffer, "<f4").tolist()


@pytest.mark.parametrize("blob", [checkpoint(), stream()])
def test_both_formats_and_pieces(tmp_path: Path, blob: bytes) -> None:
    path = written(tmp_path / "x.pt", blob)
    assert values(path) == [0, 1, 2, 3]
    with TorchFiles(path) as found:
        assert still_open(tmp_path) == [path]
        assert found.storage().format == "torch"
        assert found.storage().kinds == {"a": "F32"}
        assert found.infos() is found.infos()
        buffer = bytearray(8)
        found.read_into("a", 2, memoryview(buffer))
        assert np.frombuffer(buffer, "<f4").tolist() == [2, 3]
        for name, first in (("b", 0), ("a", 3), ("a", -1)):
            with pytest.raises(BadInput):
                found.read_into(name, first, memoryview(buffer))
    with pytest.raises(BadInput):
        found.read_into("a", 0, memoryview(buffer))
    assert still_open(tmp_path) == []


SYSTEM = {
    "reduce": b"cos\nsystem\n({}tR",
    "posix": b"cposix\nsystem\n({}tR",
    "stack_global": text("os") + text("system") + b"\x93({}tR",
    "builtins": b"cbuiltins\neval\n({}tR",
    "inst": b"({}ios\nsystem\n",
    "obj": b"(cos\nsystem\n{}o",
    "newobj": b"cos\nsystem\n({}t\x81",
    "nested": b"ctorch._utils\n_rebuild_from_type_v2\n(cos\nsystem\n{}tR",
    "in_torch": b"ctorch\nload\n({}tR",
    "in_utils": b"ctorch._utils\n_import_dotted_name\n({}tR",
    "dotted": text("torch") + text("os.system") + b"\x93({}tR",
}


@pytest.mark.parametrize("kind", SYSTEM)
@pytest.mark.parametrize("wrap", [checkpoint, stream])
def test_what_would_run_is_named_and_not_run(tmp_path: Path, kind: str, wrap: object) -> None:
    planted = tmp_path / "planted"
    attack = SYSTEM[kind].replace(b"{}", text(f"touch {planted}"))
    assert callable(wrap)
    for value in (attack, members({"a": tensor(), "b": attack}), members({"a": tensor() + attack + b"b"})):
        path = written(tmp_path / "x.bin", wrap(value))
        with pytest.raises(BadInput, match=r"system|eval|load|_import_dotted_name|_rebuild_from_type_v2") as refused:
            TorchFiles(path)
        assert "not run" in str(refused.value)
    assert not planted.exists()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b".",
        b"N",
        b"0",
        b"R",
        b"}}R",
        b"t",
        b"(((",
        b"1",
        b"2",
        b"q\x00",
        b"h\x05",
        b"j\xff\xff\xff\xff",
        b"}(N",
        b"}]s",
        b"]}e",
        b"a",
        b"]Na",
        b"NNb",
        b"Q",
        b"P0\n",
        b"\x82\x01",
        b"\x8f",
        b"\x97",
        b"\x93",
        b"NN\x93",
        FLOATS + b")R",
        b"ctorch\nSize\n(NtR",
        b"ctorch\nSize\n((" + number(-1) + b"ttR",
        b"ccollections\nOrderedDict\n(Nt" + b"R",
        storage(length=-1),
        storage(length=1 << 62),
        storage(kind=b"ctorch\nfloat32\n"),
        storage(kind=b"ccollections\nOrderedDict\n"),
        storage(view=numbers((0, 4)) + b"N"),
        b"(" + text("module") + FLOATS + text("0") + text("cpu") + number(4) + b"tQ",
        storage() + storage(length=5),
        members({"a": tensor(store=storage() + storage(length=5) + b"0")}),
        members({"a": tensor(shape=(2, 2), strides=(2,))}),
        members({"a": tensor(shape=(2, -2))}),
        members({"a": tensor(offset=-1)}),
        members({"a": tensor(offset=1 << 80)}),
        members({"a": tensor(shape=(1,) * 65, strides=(1,) * 65)}),
        members({"a": tensor(shape=(2, 2), strides=(1, 2))}),
        members({"a": tensor(shape=(2, 2), strides=(0, 0))}),
        members({"a": tensor(shape=(2, 2), strides=(4, 1))}),
        members({"a": tensor(offset=1)}),
        members({"a": tensor(shape=(1 << 40, 1 << 40), strides=(1 << 40, 1))}),
        members({"a": tensor(store=storage("1"))}),
        members({"a": tensor(store=storage(length=5))}),
        members({"a": tensor(store=b"N")}),
        members({"a": REBUILD + b"(" + storage() + b"\x88" + numbers((2, 2)) * 2 + b"\x89}tR"})[:-3],
        members({}),
        members({"a": number(1)}),
        members({"model": members({})}),
        tensor(),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: bytes) -> None:
    for blob in (checkpoint(value), stream(value)):
        with pytest.raises(BadInput):
            TorchFiles(written(tmp_path / "x.bin", blob))
        assert still_open(tmp_path) == []


def test_what_is_around_a_state_dict(tmp_path: Path) -> None:
    inner = members({"a": tensor()})
    rest = {"epoch": number(3), "args": members({"lr": b"G" + struct.pack(">d", 0.1), "name": b"]N" + b"a"})}
    for value in (
        members({"state_dict": inner, **rest}),
        members({"model": members({"state_dict": inner}), **rest}),
        members({"a": tensor(), "b": tensor(), "model": inner}),
        members({"a": tensor(), "module": members({})}),
        b"ccollections\nOrderedDict\n)R(" + text("a") + tensor() + b"u}" + text("_metadata") + b"}sb",
        members({"a": b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88}tR"}),
        b"}(" + text("a") + tensor() + b"((((" + b"tttt" + number(1) + b"u",  # a tuple as a key: left out
    ):
        assert values(written(tmp_path / "x.pt", checkpoint(value))) == [0, 1, 2, 3]


def test_a_memo_that_is_shared_ten_billion_times_takes_no_time(tmp_path: Path) -> None:
    """Tuples of tuples: small to write, and for ever to print, compare or hash."""
    bomb = b")q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(10_000))
    began = time.process_time()
    for value in (
        bomb,
        members({"a": bomb}),
        b"}(" + bomb + b"Nu",
        b"]" + b"2a" * 5000,
        b"}q\x00" + text("a") + b"h\x00s",
    ):
        with pytest.raises(BadInput):
            TorchFiles(written(tmp_path / "x.pt", checkpoint(value)))
    assert time.process_time() - began < 2


def test_opcodes_and_bytes_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opcodes, "_OPCODES_LIMIT", 1000)
    with pytest.raises(InputTooLarge, match="1000 opcodes"):
        TorchFiles(written(tmp_path / "x.pt", checkpoint(b"N0" * 600)))
    monkeypatch.setattr(pickled, "PICKLE_LIMIT", 100)
    with pytest.raises(InputTooLarge, match="the limit is 100"):
        TorchFiles(written(tmp_path / "x.pt", checkpoint()))
    with pytest.raises(BadInput):
        TorchFiles(written(tmp_path / "x.pt", stream()))


def test_a_length_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    for claim in (
        b"X\xff\xff\xff\xff",
        b"\x8d" + b"\xff" * 8,
        b"\x8b\xff\xff\xff\x7f",
        b"T\xff\xff\xff\x7f",
        b"I" + b"9" * 9999,
    ):
        with pytest.raises(BadInput, match="no whole pickle"):
            TorchFiles(written(tmp_path / "x.pt", checkpoint(claim)))


def test_storages_are_shared_and_offsets_counted(tmp_path: Path) -> None:
    value = members({"a": tensor(), "tied": tensor(), "row": tensor((1, 2), (99, 1), 2), "last": tensor((), (), 3)})
    path = written(tmp_path / "x.pt", checkpoint(value))
    assert values(path, "tied") == [0, 1, 2, 3]
    assert values(path, "row") == [2, 3]
    assert values(path, "last") == [3]


def test_a_folder_with_an_index(tmp_path: Path) -> None:
    for at, name in enumerate("ab"):
        (tmp_path / f"pytorch_model-{at}.bin").write_bytes(checkpoint(members({name: tensor()})))
    (tmp_path / "training_args.bin").write_bytes(checkpoint(SYSTEM["reduce"].replace(b"{}", text("x"))))
    with TorchFiles(tmp_path) as found:
        assert list(found.infos()) == ["a", "b"]
    index = '{"weight_map": {"a": "pytorch_model-0.bin", "c": "pytorch_model-2.bin"}}'
    (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    with TorchFiles(tmp_path) as found:
        assert list(found.infos()) == ["a"]
        assert found.storage().missing == ("c",)
    for path in tmp_path.iterdir():
        if path.name != "training_args.bin":
            path.unlink()
    with pytest.raises(BadInput, match="0 files"):
        TorchFiles(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.pt").write_bytes(checkpoint())
    with pytest.raises(BadInput, match="in another file as well"):
        TorchFiles(tmp_path)


def test_a_stream_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    value = members({"a": tensor(), "b": tensor(store=storage("1"))})
    whole = stream(value, keys=("0", "1"), counts=(4, 4))
    for cut in range(1, 24):
        path = written(tmp_path / "x.bin", whole[:-cut])
        with pytest.raises(BadInput):
            TorchFiles(path)
        assert values(path, partial=True) == [0, 1, 2, 3]
        with TorchFiles(path, partial=True) as found:
            assert found.storage().missing == ("b",)
    for wrong in (
        stream(keys=("1",)),
        stream(keys=("0", "0"), counts=(4, 4)),
        stream(keys=()),
        stream(counts=(5,)),
        program(MAGIC),
        program(number(1)),
        program(MAGIC) + program(number(1002)),
        stream().replace(b"\x88", b"\x89"),
    ):
        with pytest.raises(BadInput):
            TorchFiles(written(tmp_path / "y.bin", wrong), partial=True)


def test_a_zip_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    value = members(
        {"a": tensor(), "b": tensor(store=storage("1")), "first": tensor((1, 2), (2, 1), store=storage("1"))}
    )
    whole = checkpoint(value, {"0": np.arange(4, dtype="<f4").tobytes(), "1": bytes(16)})
    first, second = (whole.find(b"archive/data/" + key) for key in (b"0", b"1"))
    start = second + len(b"archive/data/1")
    for stop, there in (
        (start + 16, {"a", "b", "first"}),
        (start + 15, {"a", "first"}),
        (start + 7, {"a"}),
        (second, {"a"}),
        (first + len(b"archive/data/0") + 16, {"a"}),
        (first + len(b"archive/data/0") + 15, set()),
        (first, set()),
    ):
        path = written(tmp_path / "x.pt", whole[:stop])
        with pytest.raises(BadInput, match="its directory"):
            TorchFiles(path)
        with TorchFiles(path, partial=True) as found:
            assert set(found.infos()) == there
            assert set(found.storage().missing) == {"a", "b", "first"} - there
        if there:
            assert values(path, partial=True) == [0, 1, 2, 3]
    big = checkpoint(value, {"0": bytes(16), "1": bytes(16)}, byteorder=b"bigger")
    for blob in (
        whole[:100],
        whole[:20],
        zipped({"version": b"3", "data.pkl": b"x"})[:-30],
        big[: big.find(b"PK\x01\x02")],
    ):
        with pytest.raises(BadInput):
            TorchFiles(written(tmp_path / "x.pt", blob), partial=True)


def test_zip_files_are_read_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = checkpoint()
    end = good.rfind(b"PK\x05\x06")
    local = good.rfind(b"PK\x01\x02")
    bad = {
        "the other byte order": checkpoint(byteorder=b"big"),
        "compressed": zipped({"data.pkl": bytes(100_000)}, method=zipfile.ZIP_DEFLATED),
        r"without a data.pkl": zipped({"version": b"3"}),
        "two entries": _twice(),
        "its directory": good[:-30],
        "beyond the file": good[: local + 42] + struct.pack("<I", len(good) - 5) + good[local + 46 :],
        "over each other": _overlapping(),
        "missing or too short": checkpoint(storages={"0": bytes(15)}),
        "of its place": good[: end + 12] + b"\xff" * 8 + good[end + 20 :],
        "ends early": good[: end + 10] + b"\x09\x00" + good[end + 12 :],
    }
    for said, blob in bad.items():
        with pytest.raises(BadInput, match=said):
            TorchFiles(written(tmp_path / "x.pt", blob))
    monkeypatch.setattr(torch_zip, "ENTRIES_LIMIT", 2)
    with pytest.raises(InputTooLarge):
        TorchFiles(written(tmp_path / "x.pt", good))


def _twice() -> bytes:
    """The same name twice, as zipfile itself would only warn of."""
    return zipped({"data.pkl": b"x", "data.pkx": b"y"}).replace(b"data.pkx", b"data.pkl")


def _overlapping() -> bytes:
    """Two entries of the same bytes, as of a zip bomb."""
    blob = bytearray(checkpoint(storages={"0": bytes(16), "1": bytes(16)}))
    last = blob.rfind(b"PK\x01\x02")
    before = blob.rfind(b"PK\x01\x02", 0, last)
    blob[last + 42 : last + 46] = blob[before + 42 : before + 46]
    return bytes(blob)


def test_a_directory_of_64_bits(tmp_path: Path) -> None:
    good = checkpoint()
    end = good.rfind(b"PK\x05\x06")
    count, size, start = struct.unpack_from("<HII", good, end + 10)
    wide = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    short = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert values(written(tmp_path / "x.pt", good[:end] + wide + locator + short)) == [0, 1, 2, 3]
    for at in (0, 8):
        bent = locator[:at] + b"\xff" * 4 + locator[at + 4 :]
        with pytest.raises(BadInput, match="of its place"):
            TorchFiles(written(tmp_path / "x.pt", good[:end] + wide + bent + short))


def test_an_entry_of_64_bits(tmp_path: Path) -> None:
    """A storage of over four gigabytes has its size and place in a field of its own: written so for a small one."""
    good = checkpoint()
    end, last = good.rfind(b"PK\x05\x06"), good.rfind(b"PK\x01\x02")
    _, size, start = struct.unpack_from("<HII", good, end + 10)
    length, local = struct.unpack_from("<I", good, last + 24)[0], struct.unpack_from("<I", good, last + 42)[0]
    for field, said in (
        (struct.pack("<HHQQQ", 1, 24, length, length, local), None),
        (struct.pack("<HH", 9, 0), "beyond"),
    ):
        entry = bytearray(good[last:end]) + field
        entry[20:28] = b"\xff" * 8
        entry[30:32] = struct.pack("<H", len(field))
        entry[42:46] = b"\xff" * 4
        tail = bytearray(good[end:])
        tail[12:20] = struct.pack("<II", size + len(field), start)
        path = written(tmp_path / "x.pt", good[:last] + entry + tail)
        if said is None:
            assert values(path) == [0, 1, 2, 3]
            continue
        with pytest.raises(BadInput, match=said):
            TorchFiles(path)
