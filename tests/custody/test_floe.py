"""FLOE against the known answers of five implementations, and against itself at every size around a boundary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput, SegmentForged, WrongKey
from strongroom.core.secrets import Secret
from strongroom.custody.floe import HEADER_BYTES, OVERHEAD, Floe, Layout

OURS = Path(__file__).parent.parent / "vectors" / "floe"
MORE = Path(os.environ.get("STRONGROOM_FLOE_VECTORS", OURS.parents[3] / "shared" / "vectors" / "floe"))
KEY, AAD = Secret(bytes(32)), b"This is AAD"


def answer(path: Path) -> None:
    sealed = bytes.fromhex(path.read_text())
    plain = bytes.fromhex(path.with_name(path.name.replace("_ct", "_pt")).read_text())
    bits = 2 if "rotation" in path.name else 20
    floe = Floe.resume(KEY, sealed[:HEADER_BYTES], aad=AAD, where=path.name, rotation=bits)
    rest, index, out = memoryview(sealed)[HEADER_BYTES:], 0, b""
    while rest:
        last = bytes(rest[:4]) != b"\xff" * 4
        part, rest = rest[: floe.segment], rest[floe.segment :]
        target = bytearray(len(part) - OVERHEAD)
        floe.decrypt_into(part, memoryview(target), index=index, last=last, where=path.name)
        out, index = out + target, index + 1
    assert out == plain


@pytest.mark.parametrize("name", sorted(p.name for p in OURS.glob("*_ct.txt")))
def test_known_answers(name: str) -> None:
    answer(OURS / name)


def test_all_genuine_vectors() -> None:
    paths = sorted(MORE.glob("*_ct.txt"))
    if not paths:
        pytest.skip("the whole set of genuine FLOE vectors is not on this machine (STRONGROOM_FLOE_VECTORS)")
    for path in paths:
        answer(path)
    assert len(paths) >= 17


@given(st.integers(0, 400), st.integers(33, 80))
def test_layout_there_and_back(plain: int, segment: int) -> None:
    layout = Layout(segment)
    sealed = layout.sealed(plain)
    assert layout.plain(sealed, where="x") == plain
    assert layout.span(layout.count(plain) - 1, plain)[1] == plain


@given(st.integers(0, 2000), st.integers(40, 100))
def test_no_size_has_two_meanings(sealed: int, segment: int) -> None:
    try:
        plain = Layout(segment).plain(sealed, where="x")
    except BadInput:
        return
    assert Layout(segment).sealed(plain) == sealed


@given(st.binary(max_size=64), st.integers(0, 2**40), st.booleans())
def test_round_trip_binds_index_and_last(data: bytes, index: int, last: bool) -> None:  # noqa: FBT001 - drawn
    floe = Floe.start(KEY, segment=96, aad=AAD)
    sealed, target = bytearray(len(data) + OVERHEAD), bytearray(len(data))
    floe.encrypt_into(memoryview(data), memoryview(sealed), index=index, last=last)
    again = Floe.resume(KEY, floe.header, aad=AAD, where="x")
    again.decrypt_into(memoryview(sealed), memoryview(target), index=index, last=last, where="x")
    assert target == data
    for place, end in ((index + 1, last), (index, not last)):
        with pytest.raises(SegmentForged):
            again.decrypt_into(memoryview(sealed), memoryview(target), index=place, last=end, where="x")


def test_the_header_commits_to_key_and_associated_data() -> None:
    header = Floe.start(KEY, segment=96, aad=AAD).header
    for key, aad in ((Secret(b"\x01" + bytes(31)), AAD), (KEY, AAD + b"!")):
        with pytest.raises(WrongKey):
            Floe.resume(key, header, aad=aad, where="x")


def test_wipe_forgets_the_keys() -> None:
    floe = Floe.start(KEY, segment=96, aad=AAD)
    floe.wipe()
    assert not floe._message_key.reveal()
