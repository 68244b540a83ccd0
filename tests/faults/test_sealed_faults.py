"""Every damage to a sealed checkpoint is refused with an error of its own that names the place; the copy opens."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from strongroom.core.canonical import encode
from strongroom.core.errors import (
    HeaderAltered,
    ManifestAltered,
    ManifestMissing,
    NotSealed,
    PayloadExtended,
    PayloadMissing,
    PayloadTruncated,
    RolledBack,
    SegmentAltered,
    SegmentForged,
    SignatureInvalid,
    TamperError,
    WrongCheckpoint,
    WrongKey,
)
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.floe import HEADER_BYTES, Floe
from strongroom.custody.formats import MANIFEST_TYPE, associated, pae, read_manifest
from strongroom.custody.judge import Expected
from strongroom.custody.keys import file_key
from strongroom.custody.read import verify
from tests.custody.house import SMALL, Sealed, folder, ring, sealed

FILE = "000003.sealed"  # a shard of many segments


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    place = tmp_path_factory.mktemp("good")
    return sealed(folder(place / "source"), place / "blobs")


@pytest.fixture
def house(good: Sealed, tmp_path: Path) -> Sealed:
    """Return a copy to damage."""
    shutil.copytree(good.root, tmp_path / "blobs")
    return Sealed(type(good.blobs)(tmp_path / "blobs"), tmp_path / "blobs", good.result, good.expected)


def refused(house: Sealed, kind: type[TamperError], word: str, *, opening: bool = True) -> TamperError:
    """Insist that verifying refuses, that opening and loading refuses likewise, and that nothing else is raised."""
    with pytest.raises(kind) as caught:
        verify(house.blobs, house.result.folder, expected=house.expected)
    assert type(caught.value) is kind
    assert word in caught.value.where
    if opening:
        with pytest.raises(kind) as opened:
            read_all(house)
        assert type(opened.value) is kind
    return caught.value


def read_all(house: Sealed) -> None:
    with house.open() as ours:
        ours.load_all()
        for path in ours.files():
            ours.read_file(path)


def accepted(house: Sealed) -> None:
    verify(house.blobs, house.result.folder, expected=house.expected)
    read_all(house)


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


REGIONS = [
    (0, HeaderAltered, "parameters"), (5, HeaderAltered, "parameters' segment length"), (9, HeaderAltered, "IV length"),
    (10, HeaderAltered, "FLOE IV"), (41, HeaderAltered, "FLOE IV's end"), (42, HeaderAltered, "header tag"),
    (73, HeaderAltered, "header tag's end"), (74, SegmentAltered, "length word"), (78, SegmentAltered, "segment IV"),
    (90, SegmentAltered, "ciphertext"), (74 + SMALL - 16, SegmentAltered, "tag"),
    (74 + SMALL - 1, SegmentAltered, "tag's end"),
    (74 + SMALL, SegmentAltered, "next segment"), (-1, SegmentAltered, "last tag"),
    (-17, SegmentAltered, "last ciphertext"),
]  # fmt: skip


@pytest.mark.parametrize(("at", "kind", "_region"), REGIONS, ids=[r[2] for r in REGIONS])
def test_a_flipped_bit(house: Sealed, at: int, kind: type[TamperError], _region: str) -> None:
    path = house.folder / FILE
    flip(path, at, bit=at % 8)
    error = refused(house, kind, FILE)
    if kind is SegmentAltered:
        index = ((at if at >= 0 else path.stat().st_size + at) - HEADER_BYTES) // SMALL
        assert f"segment {index}" in error.where
    flip(path, at, bit=at % 8)
    accepted(house)


def test_a_flipped_bit_anywhere_in_manifest_and_signature(house: Sealed) -> None:
    for name, kind in (("manifest.json", ManifestAltered), ("manifest.sig", SignatureInvalid)):
        path = house.folder / name
        before = path.read_bytes()
        for at in range(0, len(before), 1 if name.endswith("sig") else 97):
            flip(path, at, at % 8)
            refused(house, kind, name, opening=at % 10 == 0)
            path.write_bytes(before)
    accepted(house)


def test_an_altered_segment_names_path_and_tensor_to_who_has_the_key(house: Sealed) -> None:
    flip(house.folder / FILE, HEADER_BYTES + SMALL + 100)
    with (
        house.open() as ours,
        pytest.raises(SegmentAltered, match=r"model-00001-of-00002\.safetensors, tensor '") as error,
    ):
        ours.load_all()
    assert error.value.where.endswith(f"{FILE}, segment 1")


def test_other_tensors_stay_readable_and_the_hit_one_is_refused(house: Sealed) -> None:
    flip(house.folder / FILE, -20)
    with house.open() as ours:
        refused_names = []
        for name in ours.keys():  # noqa: SIM118 - it is no dictionary
            try:
                ours.get_tensor(name)
            except SegmentAltered:
                refused_names.append(name)
    assert 0 < len(refused_names) < 4


@pytest.mark.parametrize(
    "keep", [0, 9, 10, 73, 74, 75, 74 + 4, 74 + 16, 74 + SMALL - 1, 74 + SMALL, 74 + SMALL + 1, -SMALL, -1]
)
def test_truncation(house: Sealed, keep: int) -> None:
    path = house.folder / FILE
    before = path.read_bytes()
    path.write_bytes(before[:keep])
    refused(house, PayloadTruncated, FILE)
    path.write_bytes(before)
    accepted(house)


@pytest.mark.parametrize("more", [b"\0", b"x" * SMALL])
def test_extension(house: Sealed, more: bytes) -> None:
    with (house.folder / FILE).open("ab") as file:
        file.write(more)
    refused(house, PayloadExtended, FILE)


def part(data: bytes, index: int) -> bytes:
    return data[HEADER_BYTES + index * SMALL : HEADER_BYTES + (index + 1) * SMALL]


def put(path: Path, index: int, segment: bytes) -> None:
    data = path.read_bytes()
    start = HEADER_BYTES + index * SMALL
    path.write_bytes(data[:start] + segment + data[start + len(segment) :])


def test_segments_swapped_repeated_reordered(house: Sealed) -> None:
    path = house.folder / FILE
    before = path.read_bytes()
    for order in ((1, 0), (1, 1), (0, 2, 1), (2, 0, 1)):
        for place, index in enumerate(order):
            put(path, place, part(before, index))
        first = next(place for place, index in enumerate(order) if place != index)
        error = refused(house, SegmentAltered, f"segment {first}")
        assert f"these are the bytes of {FILE}, segment {order[first]}" in error.message
        path.write_bytes(before)
    accepted(house)


def test_a_segment_of_another_file_and_of_another_checkpoint(house: Sealed, tmp_path: Path) -> None:
    other = sealed(folder(tmp_path / "other"), tmp_path / "blobs2", version=2)
    for source in (house.folder / "000004.sealed", other.folder / FILE):
        path = house.folder / FILE
        before = path.read_bytes()
        put(path, 0, part(source.read_bytes(), 0))
        refused(house, SegmentAltered, f"{FILE}, segment 0")
        path.write_bytes(source.read_bytes())
        with pytest.raises(TamperError):
            verify(house.blobs, house.result.folder, expected=house.expected)
        path.write_bytes(before)
    accepted(house)


def manifest_of(house: Sealed) -> dict[str, object]:
    return json.loads((house.folder / "manifest.json").read_bytes())


def rehash(house: Sealed, name: str, *, signer: str, claims: str | None = None) -> Expected:
    """Write a manifest that fits the altered file `name`, signed by `signer`; return what a deceived ledger expects."""
    document = manifest_of(house)
    data = (house.folder / name).read_bytes()
    file = next(f for f in document["files"] if f["name"] == name)  # type: ignore[attr-defined]
    parts = [part(data, index) for index in range(-(-(len(data) - HEADER_BYTES) // SMALL))]
    file["header"] = blake3(data[:HEADER_BYTES]).hexdigest()
    file["segments"] = base64.b64encode(b"".join(blake3(p).digest() for p in parts)).decode()
    return resign(house, document, signer=signer, claims=claims)


def resign(house: Sealed, document: dict[str, object], *, signer: str, claims: str | None = None) -> Expected:
    data = encode(document)
    signature = base64.b64encode(ring(signer).sign(pae(MANIFEST_TYPE, data))).decode()
    body = {"format": "strongroom/sealed-signature@1", "signer": claims or signer, "signature": signature}
    (house.folder / "manifest.json").write_bytes(data)
    (house.folder / "manifest.sig").write_bytes(encode(body))
    old = house.expected
    from hashlib import sha256

    return Expected(old.checkpoint, old.name, old.version, sha256(data).hexdigest(), old.signer, old.key)


def forge(house: Sealed, index: int = 0) -> None:
    """Write, with the key, another segment that decrypts at its place."""
    aad = associated(house.result.checkpoint, 1, 3)
    path = house.folder / FILE
    data = path.read_bytes()
    floe = Floe.resume(file_key(house.result.data_key, aad), data[:HEADER_BYTES], aad=aad, where="forger")
    out = bytearray(SMALL)
    floe.encrypt_into(memoryview(b"F" * (SMALL - 32)), memoryview(out), index=index, last=False)
    put(path, index, bytes(out))


def test_a_segment_forged_with_the_key(house: Sealed) -> None:
    forge(house, 1)
    refused(house, SegmentAltered, f"{FILE}, segment 1")


def test_a_forged_segment_under_a_manifest_that_somebody_else_signed(house: Sealed) -> None:
    forge(house)
    rehash(house, FILE, signer="eve")
    error = refused(house, SignatureInvalid, "manifest.sig")
    assert "eve" in error.message
    rehash(house, FILE, signer="eve", claims="ann")
    refused(house, ManifestAltered, "manifest.json")


def test_even_the_ledger_s_digest_does_not_replace_the_signature(house: Sealed) -> None:
    forge(house)
    house.expected = rehash(house, FILE, signer="eve", claims="ann")
    refused(house, SignatureInvalid, "manifest.sig")


@pytest.mark.parametrize("at", [HEADER_BYTES, HEADER_BYTES + 5, HEADER_BYTES + 99, HEADER_BYTES + SMALL - 1])
def test_hash_fits_but_the_tag_does_not(house: Sealed, at: int) -> None:
    """The signer was deceived: only the key tells."""
    flip(house.folder / FILE, at)
    house.expected = rehash(house, FILE, signer="ann")
    verify(house.blobs, house.result.folder, expected=house.expected)
    with pytest.raises(SegmentForged) as caught, house.open() as ours:
        ours.load_all()
    assert f"{FILE}, segment 0" in caught.value.where


def test_a_header_tag_that_does_not_fit(house: Sealed) -> None:
    flip(house.folder / FILE, 50)
    house.expected = rehash(house, FILE, signer="ann")
    with pytest.raises(WrongKey), house.open() as ours:
        ours.load_all()


def times(one: int, other: int) -> int:
    """Multiply in GCM's field: 128 bits, the first bit the highest."""
    product = 0
    for bit in range(127, -1, -1):
        if other >> bit & 1:
            product ^= one
        one = one >> 1 ^ (0xE1 << 120 if one & 1 else 0)
    return product


def test_a_key_holder_can_keep_the_tag_but_not_the_hash(house: Sealed) -> None:
    """Two neighbouring blocks are changed so that GCM's tag still fits: only the signed hash tells."""
    path, aad = house.folder / FILE, associated(house.result.checkpoint, 1, 3)
    data = path.read_bytes()
    floe = Floe.resume(file_key(house.result.data_key, aad), data[:HEADER_BYTES], aad=aad, where="forger")
    key = floe._derive(floe._message_key, b"DEK:" + bytes(8), 32)
    hash_key = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(16))  # noqa: S305 - GCM's own H
    change = int.from_bytes(b"another weight!!", "big")
    segment = bytearray(part(data, 0))
    for at, delta in ((16, change), (32, times(change, int.from_bytes(hash_key, "big")))):
        segment[at : at + 16] = (int.from_bytes(segment[at : at + 16], "big") ^ delta).to_bytes(16, "big")
    plain = bytearray(SMALL - 32)
    floe.decrypt_into(memoryview(segment), memoryview(plain), index=0, last=False, where="forger")  # the tag fits
    put(path, 0, bytes(segment))
    refused(house, SegmentAltered, f"{FILE}, segment 0")


def test_an_older_authentic_version(tmp_path: Path) -> None:
    old = sealed(folder(tmp_path / "one"), tmp_path / "blobs", version=1)
    new = sealed(folder(tmp_path / "two", seed=1), tmp_path / "blobs", version=2)
    shutil.rmtree(new.folder)
    shutil.copytree(old.folder, new.folder)
    error = refused(new, RolledBack, "manifest.json")
    assert "version 1" in error.message
    assert "version 2" in error.message
    accepted(old)


@pytest.mark.parametrize("known", [True, False])
def test_an_older_authentic_version_that_another_custodian_signed(tmp_path: Path, *, known: bool) -> None:
    old = sealed(folder(tmp_path / "one"), tmp_path / "blobs", version=1, who="bob")
    new = sealed(folder(tmp_path / "two", seed=1), tmp_path / "blobs", version=2)
    shutil.rmtree(new.folder)
    shutil.copytree(old.folder, new.folder)
    people = {"bob": ring("bob").public} if known else {}
    new.expected = replace(new.expected, keys=lambda name: [people[name]] if name in people else [])
    if known:
        assert "version 1" in refused(new, RolledBack, "manifest.json").message
    else:
        refused(new, SignatureInvalid, "manifest.sig")
    document = manifest_of(new)
    resign(new, document, signer="eve", claims="bob")
    refused(new, SignatureInvalid, "manifest.sig")
    accepted(old)


def test_another_known_custodian_s_manifest_of_the_same_version_is_still_refused(house: Sealed) -> None:
    house.expected = replace(house.expected, keys=lambda name: [ring("bob").public] if name == "bob" else [])
    resign(house, manifest_of(house) | {"created": "2026-01-02T03:04:06.000Z"}, signer="bob")
    refused(house, SignatureInvalid, "manifest.sig")
    house.expected = replace(resign(house, manifest_of(house), signer="bob"), keys=house.expected.keys)
    refused(house, SignatureInvalid, "manifest.sig")


def test_another_authentic_checkpoint(tmp_path: Path) -> None:
    one = sealed(folder(tmp_path / "one"), tmp_path / "blobs")
    other = sealed(folder(tmp_path / "two"), tmp_path / "blobs", name=CheckpointName("other", "v1"))
    twin = sealed(folder(tmp_path / "three"), tmp_path / "blobs")
    for stranger in (other, twin):
        shutil.rmtree(one.folder)
        shutil.copytree(stranger.folder, one.folder)
        error = refused(one, WrongCheckpoint, "manifest.json")
        assert stranger.result.checkpoint in error.message


def test_a_manifest_that_names_another_identity_under_the_right_digest(house: Sealed) -> None:
    for change in ({"version": 7}, {"name": "other"}, {"checkpoint": "ckpt_x"}):
        document = manifest_of(house) | change
        house.expected = resign(house, document, signer="ann")
        refused(house, ManifestAltered, "manifest.json")
        resign(house, manifest_of(house) | {"version": 1, "name": "ranger"}, signer="ann")


def test_sizes_that_no_sealed_file_has(house: Sealed) -> None:
    for change in ({"size": 5}, {"size": 74}, {"size": 2**50}, {"segments": ""}):
        document = manifest_of(house)
        document["files"][3] |= change  # type: ignore[index]
        before = {n: (house.folder / n).read_bytes() for n in ("manifest.json", "manifest.sig")}
        house.expected = resign(house, document, signer="ann")
        refused(house, ManifestAltered, "manifest.json")
        for name, data in before.items():
            (house.folder / name).write_bytes(data)


def test_a_table_of_contents_that_does_not_fit(house: Sealed) -> None:
    document = manifest_of(house)
    document["files"].pop()  # type: ignore[attr-defined]
    (house.folder / "000006.sealed").unlink()
    house.expected = resign(house, document, signer="ann")
    verify(house.blobs, house.result.folder, expected=house.expected)
    with pytest.raises(ManifestAltered):
        house.open()


PLAIN: list[Callable[[Path, Path], bytes]] = [
    lambda source, _path: (source / "model-00001-of-00002.safetensors").read_bytes(),
    lambda _source, _path: b"PK\x03\x04" + bytes(5000),
    lambda _source, _path: b"GGUF\x03\0\0\0" + bytes(5000),
    lambda _source, _path: b"\x80\x04\x95" + b"pickle" * 100,
    lambda _source, path: path.read_bytes()[HEADER_BYTES:],  # a stripped header
]


@pytest.mark.parametrize("number", range(len(PLAIN)))
def test_something_else_in_place_of_a_sealed_file(house: Sealed, good: Sealed, number: int) -> None:
    path = house.folder / FILE
    path.write_bytes(PLAIN[number](good.root.parent / "source", path))
    refused(house, NotSealed, FILE)


def test_a_link_or_a_folder_in_place_of_a_sealed_file(house: Sealed, good: Sealed) -> None:
    path = house.folder / FILE
    path.unlink()
    path.symlink_to(good.folder / FILE)
    refused(house, NotSealed, FILE)
    path.unlink()
    path.mkdir()
    refused(house, NotSealed, FILE)


@pytest.mark.parametrize(("name", "kind"), [("manifest.json", ManifestMissing), ("manifest.sig", SignatureInvalid),
                                            ("000000.sealed", PayloadMissing), (FILE, PayloadMissing)])  # fmt: skip
def test_a_lost_file(house: Sealed, name: str, kind: type[TamperError]) -> None:
    (house.folder / name).unlink()
    refused(house, kind, name)


def test_a_lost_folder(house: Sealed) -> None:
    shutil.rmtree(house.folder)
    refused(house, ManifestMissing, "manifest.json")


@pytest.mark.parametrize("name", ["000007.sealed", "pytorch_model.bin", ".hidden", "sub"])
def test_an_extra_file(house: Sealed, name: str) -> None:
    (house.folder / name).mkdir() if name == "sub" else (house.folder / name).touch()
    refused(house, PayloadExtended, name)


def test_files_renamed(house: Sealed) -> None:
    one, two = house.folder / FILE, house.folder / "000004.sealed"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(TamperError) as caught:
        verify(house.blobs, house.result.folder, expected=house.expected)
    assert FILE in caught.value.where


def test_a_wrong_key(house: Sealed) -> None:
    with pytest.raises(WrongKey):
        house.reader(Secret(bytes(32)))


def test_a_manifest_of_a_gigabyte_is_not_read_whole(house: Sealed) -> None:
    with (house.folder / "manifest.json").open("r+b") as file:
        file.truncate(1 << 40)
    from strongroom.custody import read

    assert read.MANIFEST_LIMIT < 1 << 30
    with (house.folder / "manifest.sig").open("r+b") as file:
        file.truncate(1 << 40)
    (house.folder / "manifest.json").write_bytes(b"{}")
    refused(house, ManifestAltered, "manifest.json")


def test_the_untouched_copy(good: Sealed) -> None:
    accepted(good)
    assert read_manifest((good.folder / "manifest.json").read_bytes(), where="x").version == 1
