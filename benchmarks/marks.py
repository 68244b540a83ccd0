"""Marks in weights, the slow figures: false names on real files, what copies cost in perplexity, memory while issuing.

The host is the reference host of `attacks run collude` (made in the cache at the first run). Three parts, each by
itself, kept together in results/marks.json:

    python benchmarks/marks.py names [--keys 100]    10,200 decodings over 1,000 candidates each: about ten minutes
    python benchmarks/marks.py costs [--copies 4]    float32, all 112,420 tokens: about seven minutes a copy on one core
    python benchmarks/marks.py memory                issuing a checkpoint of 1.2 GB, by the command line
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from watermark_texts import cache

from strongroom.attacks.bench import Bench, Leaked, Patched
from strongroom.engines.perplexity import compare, losses, token_ids
from strongroom.engines.reference_host import reference_host, reference_sibling
from strongroom.engines.texts import default_texts, digest
from strongroom.lineage.codes import COMMON, biases, common_code
from strongroom.lineage.decode import NAMED, ROUNDS, Scheme
from strongroom.lineage.readings import blind
from strongroom.lineage.score import Found, channel, log_evidence

FILE = Path(__file__).resolve().parent / "results" / "marks.json"
CODEBOOKS, RECIPIENTS = 34, 1000
LEVELS = (1e-1, 1e-2, 1e-3, 1e-4)


def suspects(host: Bench) -> Iterator[tuple[str, Leaked]]:
    """Yield real files that no innocent had a part in: the unmarked host, its sibling, another recipient's copy."""
    sibling = Bench(reference_sibling(cache()).bfloat16, "sibling")
    yield "unmarked host", Leaked(((name, host.original(name)) for name in host.names), host.dtype)
    yield "sibling", Leaked(((name, sibling.original(name)) for name in host.names), host.dtype)
    yield "another's copy", Leaked(host.whole_copy(999), host.dtype)


def names(keys: int) -> dict[str, object]:
    """Return how often an innocent is named, and how often p falls below fixed levels, over keys and codebooks."""
    host = Bench(reference_host(cache()).bfloat16, "reference-host-bfloat16")
    rng = np.random.default_rng(20_261_123)
    found: dict[str, object] = {}
    for name, leaked in suspects(host):
        named, tests, below = 0, 0, np.zeros(len(LEVELS), int)
        for at in range(keys):
            # another's copy is read by its own checkpoint's keys, for there alone is a mark to be misread
            secrets = host.keys if name == "another's copy" else Bench(host.folder, f"key-{at}").keys
            reading = blind(leaked, host.where, secrets, segments=host.segments)
            scheme = Scheme(biases(secrets.biases, host.segments - COMMON), common_code(secrets.common))
            chance = scheme.bias / 65536
            codes = np.where(rng.random((CODEBOOKS * RECIPIENTS, len(chance))) < chance, 1, -1).astype(np.int8)
            through = channel(reading.values[:COMMON], scheme.common)
            logs = log_evidence(Found(reading.values[COMMON:], chance, through), codes, named=codes[:0])
            corrected = np.log(RECIPIENTS * ROUNDS) - logs.reshape(CODEBOOKS, RECIPIENTS).max(axis=1)
            named += int((corrected <= math.log(NAMED)).sum())
            below += [int((logs >= -math.log(level)).sum()) for level in LEVELS]
            tests += logs.size
        found[name] = {
            "decodings": keys * CODEBOOKS,
            "named": named,
            "innocent codes": tests,
            "share below": {str(level): count / tests for level, count in zip(LEVELS, below.tolist(), strict=True)},
        }
        print(name, found[name], flush=True)
    return found


def costs(copies: int) -> dict[str, object]:
    """Return what so many copies cost, of checkpoints with secrets of their own each, paired on all tokens."""
    folder = reference_host(cache()).bfloat16
    host = Bench(folder, "reference-host-bfloat16")
    ids = token_ids(host.source, default_texts())
    original = losses(host.source, ids)
    rows: list[dict[str, object]] = []
    for at in range(copies):
        bench = Bench(folder, "reference-host-bfloat16" if at == 0 else f"cost-{at}")
        one = compare(original, losses(Patched(bench.source, Leaked(bench.whole_copy(7), bench.dtype)), ids))
        rows.append({"checkpoint": bench.name, "copy": 7, "ratio": one.ratio, "low": one.low, "high": one.high})
        print(rows[-1], flush=True)
    ratios = np.array([one["ratio"] for one in rows], float)
    spread = float(ratios.std(ddof=1)) if copies > 1 else math.nan
    return {
        "tokens": original.tokens,
        "texts": digest(default_texts()),
        "perplexity": original.perplexity,
        "copies": rows,
        "mean": float(ratios.mean()),
        "standard deviation between copies": spread,
    }


def memory() -> dict[str, object]:
    """Return the peak memory of `custody issue` of a checkpoint of 1.2 GB, as the kernel counts it (VmHWM)."""
    with tempfile.TemporaryDirectory() as work:
        place = Path(work)
        subprocess.run([sys.executable, __file__, "model", str(place / "model.safetensors")], check=True)

        def command(*words: str, who: str = "") -> list[str]:
            given = ["--as", who, "--passphrase-file", str(place / who)] if who else []
            return [sys.executable, "-m", "strongroom", *words, *given, "--home", str(place / "home"), "--json"]

        def run(*words: str, who: str = "") -> dict[str, object]:
            return json.loads(subprocess.run(command(*words, who=who), capture_output=True, check=False).stdout)

        for name in ("owner", "carla", "carl"):
            (place / name).write_text(f"passphrase of {name}\n")
        run("init", "--passphrase-file", str(place / "owner"))
        for name in ("carla", "carl"):
            new = ("--new-passphrase-file", str(place / name))
            run("access", "add", name, "--role", "custodian", *new, who="owner")
        run("custody", "recipient", "keygen", "--out", str(place / "key"))
        run("custody", "recipient", "add", "lab", "--public-key", str(place / "key.pub"), who="carla")
        run("custody", "seal", str(place / "model.safetensors"), "big:v1", who="carla")
        words = (
            "custody",
            "issue",
            "big:v1",
            "--to",
            "lab",
            "--out",
            str(place / "out"),
            "--purpose",
            "p",
            "--tokens",
            "0",
        )
        asked = run(*words, who="carla")
        run("access", "approve", asked["error"]["where"], who="carl")  # type: ignore[index]
        process = subprocess.Popen(command(*words, who="carla"), stdout=subprocess.PIPE)
        peak = 0
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
                os.sched_yield()
            except OSError:
                break
        said = json.loads(process.communicate()[0])
        size = (place / "model.safetensors").stat().st_size
        return {"bytes": size, "peak MB": round(peak / 1024), "retained": said["retained_strength"]}


def model(file: Path) -> None:
    """Write a checkpoint of six large layers, in a process of its own: its memory is not what is measured."""
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}
    for layer in range(6):
        for name in ("gate_proj", "up_proj", "down_proj"):
            some = (rng.standard_normal((8192, 4096), dtype=np.float32) * 0.03).astype(ml_dtypes.bfloat16)
            tensors[f"model.layers.{layer}.mlp.{name}.weight"] = some.T.copy() if name == "down_proj" else some
    save_file(tensors, file)


def main() -> None:
    """Take the part that is asked for, and keep its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["names", "costs", "memory", "model"])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--copies", type=int, default=4)
    asked = parser.parse_args()
    if asked.part == "model":
        model(asked.file)
        return
    figures = {"names": lambda: names(asked.keys), "costs": lambda: costs(asked.copies), "memory": memory}[asked.part]()
    kept = json.loads(FILE.read_text()) if FILE.exists() else {}
    FILE.write_text(json.dumps(kept | {asked.part: figures}, indent=1) + "\n")
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
