"""Write tests/vectors/sealed@1: one good checkpoint and bad ones, each named after the error that it must raise.

The set is written once for a version of the format and then kept for ever: later versions must read it. Its keys are
test keys. The script refuses to run where the set is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from strongroom.access.keys import SEED_BYTES, Keyring
from strongroom.backends.localfs import LocalBlobs
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.journal import Identity
from strongroom.custody.keys import rewrap_key
from strongroom.custody.seal import Options, seal

PLACE = Path(__file__).parent.parent / "tests" / "vectors" / "sealed@1"
NAME = CheckpointName("vector", "v1")
KINDS = (
    "HeaderAltered",
    "ManifestAltered",
    "ManifestMissing",
    "NotSealed",
    "PayloadExtended",
    "PayloadMissing",
    "PayloadTruncated",
    "SegmentAltered",
    "SignatureInvalid",
)


def source(place: Path) -> dict[str, str]:
    """Write the model; return the SHA-256 of each tensor's bytes."""
    draw = np.random.default_rng(1)
    tensors = {
        "a.bf16": draw.standard_normal((40, 33), dtype=np.float32).astype(ml_dtypes.bfloat16),
        "b.f8": draw.standard_normal((16, 16), dtype=np.float32).astype(ml_dtypes.float8_e4m3fn),
        "c.i64": np.arange(700),
        "d.scalar": np.array(1.5, np.float32),
        "e.empty": np.zeros((0, 3), np.float16),
    }
    place.mkdir()
    save_file(tensors, place / "model.safetensors", metadata={"format": "np"})
    (place / "config.json").write_text('{"model_type": "vector"}')
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in tensors.items()}


def flip(path: Path, at: int) -> None:
    """Flip the lowest bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def damage(bad: Path) -> None:
    """Turn copies of the good folder into bad ones, each in its own way."""
    flip(bad / "ManifestAltered" / "manifest.json", 100)
    flip(bad / "SignatureInvalid" / "manifest.sig", 60)
    flip(bad / "HeaderAltered" / "000002.sealed", 20)
    flip(bad / "SegmentAltered" / "000002.sealed", 5000)
    (bad / "ManifestMissing" / "manifest.json").unlink()
    (bad / "PayloadMissing" / "000001.sealed").unlink()
    (bad / "PayloadExtended" / "000003.sealed").write_bytes(b"")
    cut = bad / "PayloadTruncated" / "000002.sealed"
    cut.write_bytes(cut.read_bytes()[:-1])
    (bad / "NotSealed" / "000001.sealed").write_bytes(b'\x02\0\0\0\0\0\0\0{}"plain text instead"')


def main() -> None:
    """Write the set."""
    if PLACE.exists() and any(PLACE.iterdir()):
        raise SystemExit(f"{PLACE.name} is there already, and is kept for ever")
    ann = Keyring("ann", Secret(b"a" * SEED_BYTES))
    bob = Keyring("bob", Secret(b"b" * SEED_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tensors = source(work / "source")
        identity = Identity(NAME, 3, None, "2026-01-02T03:04:05.000Z")
        blobs = LocalBlobs(work / "blobs")
        made = seal(work / "source", blobs, identity=identity, keyring=ann, options=Options(segment=4096))
        shutil.copytree(work / "blobs" / made.folder, PLACE / "good")
    for kind in KINDS:
        shutil.copytree(PLACE / "good", PLACE / "bad" / kind)
    damage(PLACE / "bad")
    envelope = rewrap_key(made.envelope, ann, bob.public, person="bob")
    note = {
        "checkpoint": made.checkpoint,
        "name": str(NAME),
        "version": 3,
        "manifest": made.manifest,
        "signer": "ann",
        "seed_of_ann": (b"a" * SEED_BYTES).hex(),
        "seed_of_bob": (b"b" * SEED_BYTES).hex(),
        "data_key": made.data_key.reveal().hex(),
        "envelope_of_bob": envelope.wrapped.hex(),
        "tensors": tensors,
    }
    (PLACE / "note.json").write_text(json.dumps(note, indent=1) + "\n")


if __name__ == "__main__":
    main()
