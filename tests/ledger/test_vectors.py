"""The committed files of ledger-1 keep their meaning for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.core.errors import ProofInvalid
from strongroom.ledger.proofs import verify_bundle

VECTORS = Path(__file__).parents[1] / "vectors" / "ledger-1"


def text(name: str) -> str:
    return (VECTORS / name).read_text().strip()


def test_the_good_bundle_verifies() -> None:
    entry = verify_bundle((VECTORS / "good.tlog-proof").read_bytes(), text("vkey"), witnesses=[text("witness.vkey")])
    assert entry.index == 7
    assert entry.raw == (VECTORS / "entry.json").read_bytes()
    assert entry.event.claim == "request:7"


@pytest.mark.parametrize("file", sorted(VECTORS.glob("*.ProofInvalid.tlog-proof")), ids=lambda path: path.name)
def test_the_bad_bundles_do_not(file: Path) -> None:
    with pytest.raises(ProofInvalid):
        verify_bundle(file.read_bytes(), text("vkey"))


def test_the_generator_writes_the_committed_files(tmp_path: Path) -> None:
    maker = VECTORS.parent / "make_ledger_1.py"
    subprocess.run([sys.executable, str(maker), str(tmp_path)], check=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in VECTORS.iterdir()}
