"""The exported tree, checked by a verifier of its own: written from the C2SP texts, sharing no code with the room."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from strongroom.backends.sqlite_log import SqliteLog
from strongroom.core.errors import LedgerAltered, LedgerUnavailable
from strongroom.ledger.events import Event
from strongroom.ledger.log import Ledger


def tile_path(root: Path, level: int | str, n: int, width: int) -> Path:
    digits = f"{n:03}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    parts = [f"x{part}" for part in parts[:-1]] + [parts[-1]]
    return root / "tile" / str(level) / "/".join(parts[:-1]) / (parts[-1] + (f".p/{width}" if width < 256 else ""))


def mth(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + mth(hashes[:half]) + mth(hashes[half:])).digest()


def verify_tree(root: Path) -> list[bytes]:
    """Return the entries of an exported log, or fail an assertion."""
    name, key_id, key = (root / "vkey").read_text().strip().split("+", 2)
    material = base64.b64decode(key)
    assert material[0] == 1
    assert hashlib.sha256(name.encode() + b"\n" + material).digest()[:4].hex() == key_id
    text, signatures = (root / "checkpoint").read_text().rsplit("\n\n", 1)
    dash, signer, encoded = signatures.splitlines()[0].split(" ")
    signature = base64.b64decode(encoded)
    assert (dash, signer, signature[:4].hex()) == ("—", name, key_id)
    Ed25519PublicKey.from_public_bytes(material[1:]).verify(signature[4:], (text + "\n").encode())
    origin, count, signed_root = text.split("\n")
    assert origin == name
    size = int(count)
    entries: list[bytes] = []
    for n in range(-(-size // 256)):
        width = min(256, size - n * 256)
        data = tile_path(root, "entries", n, width).read_bytes()
        hashes = b""
        while data:
            length = int.from_bytes(data[:2], "big")
            entries.append(data[2 : 2 + length])
            assert len(entries[-1]) == length
            hashes += hashlib.sha256(b"\x00" + entries[-1]).digest()
            data = data[2 + length :]
        assert tile_path(root, 0, n, width).read_bytes() == hashes
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in entries]
    assert len(leaves) == size
    assert base64.b64decode(signed_root) == (mth(leaves) if leaves else hashlib.sha256(b"").digest())
    check_upper_tiles(root, leaves)
    return entries


def check_upper_tiles(root: Path, leaves: list[bytes]) -> None:
    level, row = 1, leaves
    while len(row) >= 256:
        row = [mth(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]
        for n in range(-(-len(row) // 256)):
            part = row[n * 256 : n * 256 + 256]
            assert tile_path(root, level, n, len(part)).read_bytes() == b"".join(part)
        level += 1


@pytest.mark.parametrize("size", [0, 1, 256, 700])
def test_an_export_verifies_without_us(
    tmp_path: Path, ledger: Ledger, make_event: Callable[..., Event], size: int
) -> None:
    for turn in range(size):
        ledger.append(make_event(detail={"n": turn}))
    assert ledger.export(tmp_path / "out") == size
    assert verify_tree(tmp_path / "out") == [entry.raw for entry in ledger.find()]


def test_an_export_grows(tmp_path: Path, ledger: Ledger, make_event: Callable[..., Event]) -> None:
    for _ in range(3):
        for _ in range(100):
            ledger.append(make_event())
        ledger.export(tmp_path / "out")
        assert len(verify_tree(tmp_path / "out")) == ledger.checkpoint().size


def test_an_altered_log_is_not_exported(tmp_path: Path, ledger: Ledger, make_event: Callable[..., Event]) -> None:
    ledger.append(make_event())
    assert isinstance(ledger._store, SqliteLog)
    ledger._store._writer.execute("UPDATE entry SET raw = replace(raw, 'alice', 'mallo')")
    with pytest.raises(LedgerAltered):
        ledger.export(tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoint").exists()


def test_an_export_to_nowhere_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LedgerUnavailable):
        ledger.export(tmp_path / "file")
