"""A suspect of 7 B parameters, on disk, against a registry of 1,000 signatures.

python benchmarks/lookup.py --work FOLDER    # writes a file of 13.5 GB there, and removes it

The suspect has the shape and size of Llama-2-7B, its weights random. Of the signatures one is its own, the others have
its shape and random contents; all are encrypted, stored and read back as a home does it. Printed are the CPU-seconds of
each part and the peak of memory: what AWM needs 1,000 comparisons of 30 GPU-seconds each for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import ml_dtypes
import msgspec
import numpy as np

from strongroom.backends.sqlite_records import SqliteRecords
from strongroom.core.secrets import Secret
from strongroom.lineage.lookup import Glimpse, likeness, worth_opening
from strongroom.lineage.model import model_of
from strongroom.lineage.signature import Signature, Small, sign, tensor_digests
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.wiring.signatures import get_signature, put_signature

WIDTH, HIDDEN, LAYERS, VOCABULARY = 4096, 11008, 32, 32000
T = TypeVar("T")


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of Llama-2-7B's tensors."""
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    for at in range(LAYERS):
        layer = f"model.layers.{at}."
        for part in "qkvo":
            yield f"{layer}self_attn.{part}_proj.weight", (WIDTH, WIDTH)
        for part in ("gate", "up"):
            yield f"{layer}mlp.{part}_proj.weight", (HIDDEN, WIDTH)
        yield f"{layer}mlp.down_proj.weight", (WIDTH, HIDDEN)
        yield f"{layer}input_layernorm.weight", (WIDTH,)
        yield f"{layer}post_attention_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (VOCABULARY, WIDTH)


def write_suspect(file: Path) -> int:
    """Write the file, each tensor another stretch of one long random one; return its size."""
    chance = np.random.default_rng(7)
    noise = (chance.standard_normal(1 << 26, dtype=np.float32) / 50).astype(ml_dtypes.bfloat16).view(np.uint8)
    header, at = {}, 0
    for name, shape in shapes():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(header).encode()
    with file.open("wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        for _, shape in shapes():
            left = 2 * int(np.prod(shape))
            while left:
                start = 2 * int(chance.integers(0, len(noise) // 4))
                piece = noise[start : start + min(left, len(noise) // 2)]
                stream.write(piece.data)
                left -= len(piece)
    return file.stat().st_size


def another(one: Signature, chance: np.random.Generator) -> Signature:
    """Return a signature of the same shape with random contents."""

    def drawn(kept: Small) -> Small:
        values = chance.integers(-127, 128, kept.rows * kept.columns, dtype=np.int8)
        return msgspec.structs.replace(kept, values=values.tobytes())

    layers = tuple(
        msgspec.structs.replace(
            each,
            gate=drawn(each.gate),
            up=drawn(each.up),
            lengths=tuple((np.array(each.lengths) * chance.uniform(0.8, 1.2, len(each.lengths))).round(4).tolist()),
        )
        for each in one.layers
    )
    digests = {name: secrets.token_hex(32) for name in one.digests}
    return msgspec.structs.replace(
        one, digests=digests, embedding=drawn(one.embedding), cosines=drawn(one.cosines), layers=layers
    )


def timed(figures: dict[str, float], what: str, act: Callable[[], T]) -> T:
    """Run `act` and note its CPU-seconds."""
    began = time.process_time()
    value = act()
    figures[what] = round(time.process_time() - began, 2)
    print(f"{what}: {figures[what]} CPU-seconds", flush=True)
    return value


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--signatures", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    file, store = asked.work / "suspect.safetensors", asked.work / "signatures.sqlite3"
    try:
        measure(file, store, count=asked.signatures, out=asked.out)
    finally:
        file.unlink(missing_ok=True)
        for one in asked.work.glob("signatures.sqlite3*"):
            one.unlink()


def measure(file: Path, store: Path, *, count: int, out: Path | None) -> None:
    """Make suspect and registry, look the suspect up, print what it costs."""
    size = write_suspect(file)
    master, chance = Secret(secrets.token_bytes(32)), np.random.default_rng(1)
    records = SqliteRecords(store)
    figures: dict[str, float] = {"bytes": size, "signatures": count}
    with SafetensorsFiles(file) as weights:
        own = timed(figures, "sign", lambda: sign(model_of(weights)))
    figures["signature_bytes"] = len(msgspec.json.encode(own))
    for at in range(count):
        signature = own if at == count // 2 else another(own, chance)
        put_signature(records, master, f"ckpt_{at:06d}", signature=signature)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with SafetensorsFiles(file) as suspect:
        everything = time.process_time()
        found = timed(
            figures,
            "read signatures",
            lambda: [get_signature(records, master, f"ckpt_{at:06d}") for at in range(count)],
        )
        digests = timed(figures, "digests of the suspect", lambda: tensor_digests(suspect))
        glimpse = Glimpse(model_of(suspect), digests)
        alike = timed(figures, "compare", lambda: [likeness(one, glimpse) for one in found if one is not None])
        figures["all"] = round(time.process_time() - everything, 2)
    figures["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    figures["peak_before_mb"] = round(before / 1024)
    if worth_opening(alike)[0] != count // 2:
        raise SystemExit("it was not found")
    print(json.dumps(figures, indent=1))
    if out is not None:
        out.write_text(json.dumps({"cores": os.cpu_count(), **figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
