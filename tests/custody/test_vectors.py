"""The files of sealed@1 that were written once: every later version reads the good ones and refuses the bad ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from strongroom.access.keys import Keyring
from strongroom.backends.localfs import LocalBlobs
from strongroom.core import errors
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.formats import Envelope
from strongroom.custody.judge import Expected
from strongroom.custody.keys import unwrap_key
from strongroom.custody.read import SealedReader, verify
from strongroom.custody.tensors import SealedCheckpoint

PLACE = Path(__file__).parent.parent / "vectors" / "sealed@1"
NOTE = json.loads((PLACE / "note.json").read_text())
ANN, BOB = (Keyring(who, Secret(bytes.fromhex(NOTE[f"seed_of_{who}"]))) for who in ("ann", "bob"))
NAME = CheckpointName.parse(NOTE["name"])
EXPECTED = Expected(NOTE["checkpoint"], NAME, NOTE["version"], NOTE["manifest"], NOTE["signer"], ANN.public)


def placed(kind: str, tmp_path: Path) -> LocalBlobs:
    shutil.copytree(PLACE / kind, tmp_path / "blobs" / NOTE["checkpoint"])
    return LocalBlobs(tmp_path / "blobs")


def test_the_good_one(tmp_path: Path) -> None:
    blobs = placed("good", tmp_path)
    verify(blobs, NOTE["checkpoint"], expected=EXPECTED)
    envelope = Envelope(
        checkpoint=NOTE["checkpoint"],
        version=NOTE["version"],
        person="bob",
        key=BOB.public.fingerprint(),
        wrapped=bytes.fromhex(NOTE["envelope_of_bob"]),
    )
    key = unwrap_key(envelope, BOB, checkpoint=NOTE["checkpoint"], version=NOTE["version"])
    assert key.reveal().hex() == NOTE["data_key"]
    with SealedCheckpoint(SealedReader(blobs, NOTE["checkpoint"], expected=EXPECTED, data_key=key)) as ours:
        found = {name: hashlib.sha256(ours.get_tensor(name).tobytes()).hexdigest() for name in ours.keys()}  # noqa: SIM118
        assert found == NOTE["tensors"]
        assert ours.read_file("config.json") == b'{"model_type": "vector"}'


@pytest.mark.parametrize("kind", sorted(path.name for path in (PLACE / "bad").iterdir()))
def test_a_bad_one(kind: str, tmp_path: Path) -> None:
    with pytest.raises(errors.TamperError) as caught:
        verify(placed(f"bad/{kind}", tmp_path), NOTE["checkpoint"], expected=EXPECTED)
    assert type(caught.value).__name__ == kind
