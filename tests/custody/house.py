"""What the custody tests share: a custodian, a real little checkpoint, and the way to seal and open it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from strongroom.access.keys import SEED_BYTES, Keyring
from strongroom.backends.localfs import LocalBlobs
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.journal import Identity
from strongroom.custody.judge import Expected
from strongroom.custody.read import SealedReader
from strongroom.custody.seal import Options, SealResult, discard, seal
from strongroom.custody.tensors import SealedCheckpoint

NAME = CheckpointName("ranger", "v1")
SMALL = 4096  # the least segment length: many segments in few bytes
CREATED = "2026-01-02T03:04:05.000Z"
MARK = b"STRONGROOM-PLAINTEXT-MARKER:" * 40  # longer than any search window


def ring(name: str = "ann") -> Keyring:
    return Keyring(name, Secret((name.encode() * SEED_BYTES)[:SEED_BYTES]))


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((37, 53), dtype=np.float32)
    return {
        "bf16": rows.astype(ml_dtypes.bfloat16),
        "f8_e4m3": rows.astype(ml_dtypes.float8_e4m3fn),
        "f8_e5m2": rows.astype(ml_dtypes.float8_e5m2),
        "f16": rows.astype(np.float16),
        "f32": rows,
        "f64": rows.astype(np.float64),
        "i64": draw.integers(-(2**60), 2**60, (5, 7, 3)),
        "u8": draw.integers(0, 255, 9001, dtype=np.uint8),
        "bool": rows > 0,
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 4), np.float32),
        "marker": np.frombuffer(MARK * 12, np.uint8).copy(),
    }


def folder(place: Path, seed: int = 0) -> Path:
    """Write a sharded model folder with configuration and tokenizer."""
    place.mkdir(parents=True)
    every = tensors(seed)
    names = sorted(every)
    shards = {"model-00001-of-00002": names[:6], "model-00002-of-00002": names[6:]}
    for shard, held in shards.items():
        save_file({n: every[n] for n in held}, place / f"{shard}.safetensors", metadata={"format": "pt"})
    index = {"weight_map": {n: f"{s}.safetensors" for s, held in shards.items() for n in held}}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    (place / "config.json").write_text(json.dumps({"model_type": "llama", "seed": seed}))
    (place / "empty.txt").touch()
    (place / "sub").mkdir()
    (place / "sub" / "tokenizer.json").write_text("{}")
    return place


@dataclass
class Sealed:
    """A sealed checkpoint and all that is needed to open it."""

    blobs: LocalBlobs
    root: Path
    result: SealResult
    expected: Expected

    @property
    def folder(self) -> Path:
        return self.root / self.result.folder

    def reader(self, key: Secret | None = None) -> SealedReader:
        return SealedReader(
            self.blobs, self.result.folder, expected=self.expected, data_key=key or self.result.data_key
        )

    def open(self) -> SealedCheckpoint:
        return SealedCheckpoint(self.reader())


def identity(version: int = 1, name: CheckpointName = NAME) -> Identity:
    return Identity(name, version, None, CREATED)


def expected(result: SealResult, *, version: int = 1, name: CheckpointName = NAME, who: str = "ann") -> Expected:
    return Expected(result.checkpoint, name, version, result.manifest, who, ring(who).public)


def sealed(
    source: Path,
    root: Path,
    *,
    version: int = 1,
    name: CheckpointName = NAME,
    segment: int = SMALL,
    who: str = "ann",
) -> Sealed:
    blobs = LocalBlobs(root)
    result = seal(source, blobs, identity=identity(version, name), keyring=ring(who), options=Options(segment=segment))
    discard(blobs, name)
    return Sealed(blobs, root, result, expected(result, version=version, name=name, who=who))


def holds(root: Path, needle: bytes) -> list[Path]:
    """Return the files under `root` that hold `needle`."""
    return [path for path in root.rglob("*") if path.is_file() and needle in path.read_bytes()]
