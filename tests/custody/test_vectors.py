"""The files of sealed@1 and copy@1 that were written once: every later version reads the good ones, refuses the bad."""

from __future__ import annotations

import datetime as dt
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
from strongroom.custody.receive import Shelf, receive
from strongroom.custody.recipient_keys import read_public, read_seed
from strongroom.custody.release import commitment, derive_share, read_share, released_key
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


# ── copy@1 ───────────────────────────────────────────────────────────────────────────────────────────────────────────
COPY = PLACE.parent / "copy-1"
COPY_NOTE = json.loads((COPY / "note.json").read_text())


def test_the_copy_that_was_issued_once(tmp_path: Path) -> None:
    file = Path(shutil.copyfile(COPY / "lab.key", tmp_path / "lab.key"))
    file.chmod(0o600)  # which a checkout does not keep
    found = receive(Shelf(LocalBlobs(COPY), "good"), issuer=COPY_NOTE["issuer"])
    assert found.verify().segments
    assert (found.copy.copy, found.copy.manifest) == (COPY_NOTE["copy"], COPY_NOTE["manifest"])
    seed, share = read_seed(file), (COPY / "release.share").read_bytes()
    assert read_public(COPY / "lab.key.pub") == Keyring("lab", seed).public
    key = found.data_key(seed, share)
    assert key is not None
    assert key.reveal().hex() == COPY_NOTE["data_key"]
    with SealedCheckpoint(found.open(seed, share, now=dt.datetime(2027, 2, 1, tzinfo=dt.UTC))) as ours:
        tensors = {name: hashlib.sha256(ours.get_tensor(name).tobytes()).hexdigest() for name in ours.keys()}  # noqa: SIM118
    assert tensors == COPY_NOTE["tensors"]


def test_the_mark_of_the_copy() -> None:
    mark = receive(Shelf(LocalBlobs(COPY), "good")).copy.mark
    assert {name: getattr(mark, name) for name in type(mark).__struct_fields__} == COPY_NOTE["mark"]


def test_the_release_share_of_the_copy() -> None:
    terms = receive(Shelf(LocalBlobs(COPY), "good")).copy
    master = Secret(bytes.fromhex(COPY_NOTE["release_master"]))
    assert terms.embargo is not None
    share = derive_share(master, terms.checkpoint, terms.embargo)
    assert commitment(share) == terms.share
    assert read_share((COPY / "release.share").read_bytes(), terms, where="share") == share


def test_the_derivations_of_copy_1() -> None:
    told = COPY_NOTE["derived"]
    share = derive_share(Secret(bytes(range(32))), "ckpt_vector", told["embargo"])
    assert (share.reveal().hex(), commitment(share)) == (told["share"], told["commitment"])
    assert released_key(Secret(bytes(range(32, 64))), share, "copy_vector").reveal().hex() == told["data_key"]
