"""What goes in comes out: every dtype, sharded folders, single files, every size around a segment's end."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import deserialize
from safetensors.numpy import save_file

from strongroom.backends.localfs import LocalBlobs
from strongroom.core.canonical import encode
from strongroom.core.errors import BadInput, PayloadMissing, PayloadTruncated, WrongKey
from strongroom.custody.formats import read_manifest
from strongroom.custody.keys import rewrap_key, unwrap_key, wrap_key
from strongroom.custody.memory import anonymous, wipe
from strongroom.custody.read import verify
from strongroom.custody.seal import Options, seal
from strongroom.custody.source import _walk
from strongroom.custody.tensors import SealedCheckpoint, SealedTensors, as_numpy
from tests.custody.house import NAME, SMALL, Sealed, folder, identity, ring, sealed, tensors

SIZES = [0, 1, SMALL - 33, SMALL - 32, SMALL - 31, 2 * (SMALL - 32) - 1, 2 * (SMALL - 32), 2 * (SMALL - 32) + 1]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    place = tmp_path_factory.mktemp("round")
    return sealed(folder(place / "source"), place / "blobs")


def test_every_tensor_is_what_safetensors_reads(house: Sealed) -> None:
    source = house.root.parent / "source"
    with house.open() as ours:
        whole = ours.load_all()
        for shard in source.glob("*.safetensors"):
            for name, theirs in deserialize(shard.read_bytes()):  # what the Rust library reads
                for got in (ours.get_tensor(name), whole[name]):
                    assert got.tobytes() == bytes(theirs["data"])
                    assert (list(got.shape), got.dtype) == (theirs["shape"], tensors()[name].dtype)
                assert ours.get_slice(name).get_dtype() == theirs["dtype"]
        assert sorted(ours.keys()) == sorted(tensors()) == sorted(whole)
        assert ours.metadata() == {"format": "pt"}


def test_every_file_comes_out_byte_for_byte(house: Sealed) -> None:
    source = house.root.parent / "source"
    with house.open() as ours:
        there = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()}
        assert set(ours.files()) == there
        for path in there:
            assert ours.read_file(path) == (source / path).read_bytes()
        with pytest.raises(BadInput):
            ours.read_file("../config.json")


@pytest.mark.parametrize("index", [0, -1, 36, slice(3, 9), slice(None), slice(30, 99), slice(5, 2),
                                   slice(None, None, -3), (2, 5), (slice(1, 4), slice(None, 7)), (slice(None), -1),
                                   (-2, slice(8, 2, -2))])  # fmt: skip
@pytest.mark.parametrize("name", ["bf16", "f64"])
def test_slices(house: Sealed, name: str, index: object) -> None:
    with house.open() as ours:
        part = ours.get_slice(name)
        assert part.get_shape() == [37, 53]
        assert np.array_equal(part[index], tensors()[name][index])  # type: ignore[index]


@pytest.mark.parametrize("index", [37, -38, (0, 99), (0, 0, 0)])
def test_slices_out_of_range(house: Sealed, index: object) -> None:
    with house.open() as ours, pytest.raises(BadInput):
        ours.get_slice("f32")[index]  # type: ignore[index]


def test_a_scalar_slice_and_its_dtype(house: Sealed) -> None:
    with house.open() as ours:
        assert ours.get_slice("scalar")[()] == np.float32(2.5)
        assert ours.get_slice("bf16").get_dtype() == "BF16"
        with pytest.raises(BadInput):
            ours.get_tensor("no such")


def test_an_engine_makes_its_own_tensors(house: Sealed) -> None:
    made = SealedTensors(house.reader(), lambda area, dtype, shape: (bytes(area), dtype, shape))
    want = tensors()["f32"]
    assert made.get_tensor("f32") == (want.tobytes(), "F32", (37, 53))


def test_verify_without_a_key(house: Sealed) -> None:
    seen: list[tuple[int, int]] = []
    done = verify(house.blobs, house.result.folder, expected=house.expected, progress=lambda a, b: seen.append((a, b)))
    assert done.bytes == house.result.sealed_bytes == sum(p.stat().st_size for p in house.folder.glob("*.sealed"))
    assert done.segments > 20
    assert seen[-1] == (done.bytes, done.bytes)


def test_nothing_of_names_or_weights_is_readable(house: Sealed) -> None:
    stored = b"".join(p.read_bytes() for p in house.folder.iterdir())
    for word in (b"bf16", b"marker", b"BF16", b"STRONGROOM-PLAINTEXT", b"config.json", b"llama", b"tokenizer"):
        assert word not in stored


def test_adding_a_person_changes_no_byte(house: Sealed) -> None:
    before = {p.name: p.read_bytes() for p in house.folder.iterdir()}
    bob, eve = ring("bob"), ring("eve")
    envelope = rewrap_key(house.result.envelope, ring(), bob.public, person="bob")
    key = unwrap_key(envelope, bob, checkpoint=house.result.checkpoint, version=1)
    assert house.reader(key).contents.files
    assert before == {p.name: p.read_bytes() for p in house.folder.iterdir()}
    with pytest.raises(WrongKey):
        unwrap_key(envelope, eve, checkpoint=house.result.checkpoint, version=1)
    with pytest.raises(WrongKey):
        unwrap_key(envelope, bob, checkpoint=house.result.checkpoint, version=2)
    flipped = bytes([envelope.wrapped[0] ^ 1]) + envelope.wrapped[1:]
    for change in ({"wrapped": flipped}, {"wrapped": b""}, {"checkpoint": "other"}, {"version": 2}, {"person": "eve"}):
        altered = msgspec.structs.replace(envelope, **change)
        with pytest.raises(WrongKey):
            unwrap_key(altered, bob, checkpoint=altered.checkpoint, version=altered.version)


def test_a_planted_short_key_is_refused(house: Sealed) -> None:
    short = wrap_key(type(house.result.data_key)(b"short"), ring().public, person="ann", checkpoint="c", version=1)
    with pytest.raises(WrongKey):
        unwrap_key(short, ring(), checkpoint="c", version=1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(SIZES) | st.integers(0, 3 * SMALL), min_size=1, max_size=3), st.integers(1, 3))
def test_sizes_around_segment_ends(sizes: list[int], threads: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        source, root = Path(place) / "source", Path(place) / "blobs"
        source.mkdir()
        save_file({"t": np.arange(sizes[0], dtype=np.uint8)}, source / "m.safetensors")
        for number, size in enumerate(sizes):
            (source / f"f{number}").write_bytes(os.urandom(size))
        house = sealed(source, root)
        seal_again = Options(segment=SMALL * 4, threads=threads)
        other = seal(source, house.blobs, identity=identity(2), keyring=ring(), options=seal_again)
        assert other.checkpoint != house.result.checkpoint
        with house.open() as ours:
            assert ours.get_tensor("t").tobytes() == np.arange(sizes[0], dtype=np.uint8).tobytes()
            assert ours.load_all()["t"].size == sizes[0]
            for number in range(len(sizes)):
                assert ours.read_file(f"f{number}") == (source / f"f{number}").read_bytes()


def test_one_file_and_linked_snapshots(tmp_path: Path) -> None:
    """A Hugging Face snapshot is a folder of links into the blobs beside the snapshots."""
    cache = tmp_path / "models--x--y"
    store, snapshot = folder(cache / "blobs"), cache / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    for path in store.glob("*.*"):
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    with sealed(snapshot, tmp_path / "a").open() as ours:
        assert json.loads(ours.read_file("config.json"))["seed"] == 0
    single = store / "model-00001-of-00002.safetensors"
    with sealed(single, tmp_path / "b").open() as ours:
        assert ours.files() == [single.name]
        assert ours.get_tensor("bf16").dtype == tensors()["bf16"].dtype


def test_closing_wipes(house: Sealed) -> None:
    reader = house.reader()
    area = reader._cached(0, 0)
    assert bytes(area).strip(b"\0")
    reader.close()
    assert not bytes(area).strip(b"\0")
    with pytest.raises(WrongKey):
        reader.read_into(1, 0, memoryview(bytearray(1)))
    reader.close()


def test_a_range_outside_the_file(house: Sealed) -> None:
    reader = house.reader()
    with pytest.raises(BadInput):
        reader.read_into(1, reader.size(1), memoryview(bytearray(1)))


def links_out(source: Path, outside: Path, how: str) -> None:
    outside.parent.mkdir(exist_ok=True)
    outside.write_text("root:x:0:0")
    place = source / "tokenizer.json"
    place.unlink(missing_ok=True)
    if how == "by way of a link within":
        (source / "within").symlink_to(outside)
        place.symlink_to("within")
    elif how == "of a folder swapped in after the walk":
        (source / "sub" / "tokenizer.json").unlink()
        (source / "sub").rmdir()
        (outside.parent / "sub").mkdir()
        (outside.parent / "sub" / "tokenizer.json").write_text("root:x:0:0")
        (source / "sub").symlink_to(outside.parent / "sub")
    else:
        place.symlink_to(outside)


@pytest.mark.parametrize(
    "how", ["directly", "by way of a link within", "beside the snapshots", "of a folder swapped in after the walk"]
)
def test_a_link_out_of_the_source_is_not_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    cache = tmp_path / "models--x--y"
    source = folder(cache / "snapshots" / "0a1b")
    outside = cache / "secrets" / "passwd" if how == "beside the snapshots" else tmp_path / "etc" / "passwd"
    if "swapped" in how:
        found = _walk(source)
        monkeypatch.setattr("strongroom.custody.source._walk", lambda _folder: found)
    links_out(source, outside, how)
    with pytest.raises(BadInput, match="link") as caught:
        sealed(source, tmp_path / "blobs")
    assert "tokenizer.json" in caught.value.where or caught.value.where == "within"


def test_blobs_that_are_a_link_are_no_place_for_links(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("root:x:0:0")
    source = folder(tmp_path / "evil" / "snapshots" / "0a1b")
    (tmp_path / "evil" / "blobs").symlink_to(tmp_path / "etc")
    (source / "tokenizer.json").symlink_to("../../blobs/passwd")
    with pytest.raises(BadInput, match="link"):
        sealed(source, tmp_path / "blobs")


def test_a_link_that_stays_within_and_a_source_named_by_a_link(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    (source / "again.json").symlink_to("config.json")
    (tmp_path / "latest").symlink_to(source)
    with sealed(tmp_path / "latest", tmp_path / "blobs").open() as ours:
        assert ours.read_file("again.json") == (source / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("plant", "word"),
    [
        (lambda s: (s / "pytorch_model.bin").write_bytes(b"x"), "pytorch_model.bin"),
        (lambda s: (s / "weights").write_bytes(b"\x80\x04rest"), "weights"),
        (lambda s: (s / "more").symlink_to(s / "sub"), "more"),
        (lambda s: (s / "gone").symlink_to(s / "nothing"), "gone"),
        (lambda s: os.mkfifo(s / "pipe"), "pipe"),
        (lambda s: (s / "bad\nname").touch(), "bad"),
        (lambda s: (s / "x.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}!"), "x.safetensors"),
        (lambda s: (s / "x.safetensors").write_bytes(b"\x02"), "x.safetensors"),
        (lambda s: save_file(tensors(), s / "x.safetensors"), "x.safetensors"),
    ],
)
def test_what_is_not_sealed(tmp_path: Path, plant: object, word: str) -> None:
    source = folder(tmp_path / "source")
    plant(source)  # type: ignore[operator]
    with pytest.raises(BadInput) as caught:
        sealed(source, tmp_path / "blobs")
    assert word in caught.value.where


def test_nothing_to_seal(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "absent", tmp_path):
        with pytest.raises(BadInput):
            sealed(source, tmp_path / "blobs")


def test_a_source_that_changes_meanwhile(tmp_path: Path) -> None:
    source = folder(tmp_path / "source")
    target = source / "model-00002-of-00002.safetensors"

    def meddle(done: int, _total: int) -> None:
        if done:
            with target.open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"!")

    blobs = LocalBlobs(tmp_path / "blobs")
    with pytest.raises(BadInput, match="changed"):
        seal(source, blobs, identity=identity(), keyring=ring(), options=Options(segment=SMALL, progress=meddle))
    result = sealed(source, tmp_path / "blobs")
    with result.open() as ours:
        assert ours.read_file(target.name) == target.read_bytes()
    assert result.expected.name == NAME


def test_large_memory_asks_for_huge_pages_and_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    class Poor(mmap.mmap):
        def madvise(self, advice: int, *_: int) -> None:
            if advice == mmap.MADV_HUGEPAGE:
                raise OSError

    for kind in (mmap.mmap, Poor):
        monkeypatch.setattr("strongroom.custody.memory.mmap.mmap", kind)
        area = anonymous(3 << 20)
        area[-1] = 1
        wipe(area)
        assert len(area) == 3 << 20
        assert not area[-1]


def test_tensors_larger_than_the_cache_and_many_small_ones(tmp_path: Path) -> None:
    """Many segments, more than the cache keeps, in any order and from several threads."""
    every = {f"t{i}": np.full(700, i, np.int32) for i in range(60)}
    (tmp_path / "source").mkdir()
    save_file(every, tmp_path / "source" / "m.safetensors")
    house = sealed(tmp_path / "source", tmp_path / "blobs")
    with house.open() as ours, ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            names = list(np.random.default_rng(5).permutation(list(every)))
            for name, got in zip(names, pool.map(ours.get_tensor, names), strict=True):
                assert np.array_equal(got, every[name])


def test_two_shards_with_the_same_tensor_are_refused_at_opening(house: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = house.reader()
    shard = next(entry for entry in reader.contents.files if entry.kind == "safetensors")
    doubled = msgspec.structs.replace(reader.contents, files=[*reader.contents.files, shard])
    monkeypatch.setattr(reader, "_contents", doubled)
    with pytest.raises(BadInput, match="another file"):
        SealedCheckpoint(reader)


def test_numpy_has_no_packed_types() -> None:
    with pytest.raises(BadInput):
        as_numpy(memoryview(b"\0"), "F4", (2,))


def test_a_file_that_shrinks_while_it_is_read(house: Sealed, tmp_path: Path) -> None:
    shutil.copytree(house.root, tmp_path / "blobs")
    hurt = Sealed(LocalBlobs(tmp_path / "blobs"), tmp_path / "blobs", house.result, house.expected)
    with hurt.open() as ours:
        ours.get_tensor("bf16")
        with (hurt.folder / "000003.sealed").open("r+b") as file:
            file.truncate(80)
        with pytest.raises(PayloadTruncated):
            ours.load_all()
        (hurt.folder / "000001.sealed").unlink()
        with pytest.raises(PayloadMissing):
            ours.read_file("config.json")


BAD_FILE = {"header": "0" * 64, "name": "x", "segments": "", "size": 1}


@pytest.mark.parametrize("change", [{"segment": 5000}, {"files": [BAD_FILE]}])
def test_manifests_that_parse_and_are_refused(house: Sealed, change: dict[str, object]) -> None:
    document = json.loads((house.folder / "manifest.json").read_bytes()) | change
    with pytest.raises(BadInput):
        read_manifest(encode(document), where="x")
