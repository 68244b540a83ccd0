"""Every parser of foreign bytes in custody: a value or our own error, whatever comes in."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from strongroom.core.canonical import decode, encode
from strongroom.core.errors import BadInput, InputTooLarge, StrongroomError
from strongroom.core.ids import CheckpointName
from strongroom.core.safetensors_header import LENGTH_BYTES, TENSORS_LIMIT, header_length, parse_header
from strongroom.custody.formats import (
    SEGMENT,
    Content,
    Contents,
    Manifest,
    SealedFile,
    Signature,
    read_contents,
    read_manifest,
)
from strongroom.custody.judge import Expected, judge_manifest, judge_start
from tests.custody.house import ring

GOOD = Manifest(
    checkpoint="ckpt_1", name="n", tag="t", version=1, parent=None, created="2026-01-01T00:00:00Z", segment=SEGMENT,
    files=[SealedFile(name="000000.sealed", size=106, header="0" * 64, segments=bytes(32))],
)  # fmt: skip
EXPECTED = Expected("ckpt_1", CheckpointName("n", "t"), 1, "0" * 64, "ann", ring().public)
TEXT = st.text(max_size=12)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(SCALAR, lambda x: st.lists(x, max_size=4) | st.dictionaries(TEXT, x, max_size=4), max_leaves=12)


def mutated(good: bytes) -> st.SearchStrategy[bytes]:
    """Return `good` with a piece replaced."""
    return st.builds(
        lambda at, cut, new: good[:at] + new + good[at + cut :],
        st.integers(0, len(good)),
        st.integers(0, 30),
        st.binary(max_size=20),
    )


FOREIGN = st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())


@given(FOREIGN | mutated(encode(GOOD)))
@example(b"[" * 100_000)
def test_manifest(data: bytes) -> None:
    try:
        manifest = read_manifest(data, where="x")
    except BadInput:
        return
    assert encode(manifest) == data


@given(FOREIGN | mutated(encode(GOOD)), FOREIGN | st.none())
def test_judging_manifest_and_signature(data: bytes, signature: bytes | None) -> None:
    with pytest.raises(StrongroomError):
        judge_manifest(data, signature, EXPECTED)


@given(FOREIGN | mutated(encode(Signature(signer="ann", signature=bytes(64)))))
def test_signature(data: bytes) -> None:
    try:
        assert encode(decode(data, Signature, where="x")) == data
    except BadInput:
        return


@given(FOREIGN | mutated(encode(Contents(files=[Content(path="a/b", size=1, file=1, kind="other")]))))
def test_contents(data: bytes) -> None:
    try:
        contents = read_contents(data, where="x")
    except BadInput:
        return
    assert encode(contents) == data
    assert not any(part in {"", ".", ".."} for entry in contents.files for part in entry.path.split("/"))


@pytest.mark.parametrize("paths", [["/a"], ["a//b"], ["../a"], ["a/."], ["a\\b"], ["a\n"], ["a", "a"], ["a", "a/b"],
                                   ["é" * 600],
                                   ["\u202ea"], ["a", "b/../c"]])  # fmt: skip
def test_unsafe_paths(paths: list[str]) -> None:
    files = [Content(path=path, size=0, file=i, kind="other") for i, path in enumerate(paths, start=1)]
    with pytest.raises(BadInput):
        read_contents(encode(Contents(files=files)), where="x")


@given(st.binary(max_size=100), st.integers(0, 2**40))
def test_the_start_of_a_sealed_file(start: bytes, size: int) -> None:
    with pytest.raises(StrongroomError):
        judge_start(start, size, file=GOOD.files[0], manifest=GOOD)


def ours(data: bytes) -> bool:
    try:
        length = header_length(data[:LENGTH_BYTES], total=len(data), where="x")
        parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], total=len(data), where="x")
    except StrongroomError:
        return False
    return True


def theirs(data: bytes) -> bool:
    try:
        deserialize(data)
    except (SafetensorError, ValueError):
        return False
    return True


ENTRY = st.fixed_dictionaries({
    "dtype": st.sampled_from(["F32", "BF16", "U8", "BOOL", "F8_E4M3", "F4", "X"]),
    "shape": st.lists(st.integers(0, 3), max_size=3),
    "data_offsets": st.tuples(st.integers(0, 12), st.integers(0, 12)),
})  # fmt: skip
HEADER = st.dictionaries(TEXT, ENTRY, max_size=3) | st.just(
    {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}
)


@given(st.one_of(HEADER.map(json.dumps), JSON.map(json.dumps)), st.binary(max_size=12), st.integers(-1, 1))
@example(
    '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x", 0
)
@example('{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x", 0)
@example('{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}', b"", 0)
@example('{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}', b"x", 0)
@example('{"__metadata__":{"a":1}}', b"", 0)
def test_safetensors_headers_as_strictly_as_the_rust_library(text: str, data: bytes, off: int) -> None:
    header = text.encode("utf-8", "surrogatepass")
    whole = max(0, len(header) + off).to_bytes(8, "little") + header + data
    if ours(whole):
        assert theirs(whole)


@given(st.binary(max_size=64))
def test_safetensors_from_noise(data: bytes) -> None:
    if ours(data):
        assert theirs(data)


def framed(header: str) -> bytes:
    return len(header).to_bytes(8, "little") + header.encode()


@pytest.mark.parametrize("length", ["1", "2", "9223372036854775807", "9" * 4000])
def test_a_shape_of_a_million_dimensions(length: str) -> None:
    shape = ",".join([length] * (2_000_000 // (len(length) + 1)))
    whole = framed('{"a":{"dtype":"U8","shape":[' + shape + '],"data_offsets":[0,0]}}')
    began = time.perf_counter()
    assert not ours(whole)
    assert time.perf_counter() - began < 2


def test_dimensions_up_to_the_limit_and_products_beyond() -> None:
    for count, good in ((64, True), (65, False)):
        shape = ",".join(["1"] * count)
        assert ours(framed('{"a":{"dtype":"U8","shape":[' + shape + '],"data_offsets":[0,1]}}') + b"x") is good
    for shape in ("4294967296,4294967296,0", "9223372036854775808,0", "9223372036854775807,2"):
        assert not ours(framed('{"a":{"dtype":"U8","shape":[' + shape + '],"data_offsets":[0,0]}}'))


@pytest.mark.parametrize("bomb", ["[]", "{}"])
def test_too_many_tensors_are_counted_before_they_are_read(bomb: str) -> None:
    header = ('{"a":[' + ",".join([bomb] * (3 * TENSORS_LIMIT + 1)) + "]}").encode()
    with pytest.raises(InputTooLarge):
        parse_header(header, total=len(header) + 8, where="x")


def test_a_header_length_beyond_the_limit() -> None:
    for length in (100_000_001, 2**63, 2**64 - 1):
        assert not ours(length.to_bytes(8, "little") + b"{}")
