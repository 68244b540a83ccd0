"""The window index: building, size and probes, beside what one would otherwise reach for.

python benchmarks/windows.py --corpus FOLDER    # of text files; without it, Python's own library

The peer is a Bloom filter of the same windows (rbloom, written in Rust), filled from Python as its README shows it, in
a virtual environment of its own: it finds windows too, but names no document. Beside it stands SHA-256 over the same
bytes, which every reading of a corpus costs at least. All in CPU-seconds of one process, interleaved, best of three.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from strongroom.core.secrets import Secret
from strongroom.core.words import words
from strongroom.kernels.tables import probe
from strongroom.privacy.corpus.documents import files, read
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.reader import WindowIndex, open_windows
from strongroom.privacy.windows.shard import Cut

KEY = Secret(bytes(range(32)))
ROUNDS = 3
SHAPES = ((8, 8), (8, 4), (5, 2), (8, 1))
_PEER = """
import hashlib, json, re, sys, time
from pathlib import Path
from rbloom import Bloom
word = re.compile(rb"[0-9a-z_\\x80-\\xff]+")
started, total, count = time.process_time(), 0, 0
def hashed(raw):
    return int.from_bytes(hashlib.blake2b(raw, digest_size=16).digest(), "big", signed=True)
bloom = Bloom(int(sys.argv[2]), 0.004, hashed)
for file in sorted(Path(sys.argv[1]).rglob("*")):
    if file.is_file():
        raw = file.read_bytes()
        total += len(raw)
        found = word.findall(raw.lower())
        for at in range(0, len(found) - 7, 8):
            bloom.add(b" ".join(found[at : at + 8]))
            count += 1
print(json.dumps({"seconds": time.process_time() - started, "bytes": total, "index": bloom.size_in_bits // 8}))
"""


def built(corpus: Path, place: Path, shape: tuple[int, int]) -> tuple[float, Path]:
    """Build an index; return the CPU-seconds and its folder."""
    out = place / f"index-{shape[0]}-{shape[1]}"
    shutil.rmtree(out, ignore_errors=True)
    order = Order(source=corpus, out=out, cut=Cut(window=shape[0], stride=shape[1], text="text"), common=5)
    started = time.process_time()
    build(order, planned(order, lambda: "idx_00000000"), KEY, made="", progress=lambda *_: None)
    return time.process_time() - started, out


def sha256(corpus: Path) -> float:
    """Return the CPU-seconds that reading and hashing the same files costs."""
    import hashlib

    started = time.process_time()
    for one in files(corpus):
        hashlib.sha256(one.path.read_bytes()).digest()
    return time.process_time() - started


def peer(corpus: Path, entries: int) -> dict[str, float]:
    """Return what the Bloom filter costs, in an environment of its own."""
    place = Path(os.environ.get("STRONGROOM_BENCH", Path.home() / ".cache" / "strongroom-bench")) / "rbloom"
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "rbloom==1.5.4"], check=True)
    said = subprocess.run([python, "-c", _PEER, str(corpus), str(entries)], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)


def best(measure: Callable[[], float]) -> float:
    """Return the least of three."""
    return min(measure() for _ in range(ROUNDS))


def probes(index: WindowIndex) -> dict[str, float]:
    """Return nanoseconds a probe: compiled in bulk, for windows that are there and that are not, and in the gateway."""
    table = np.asarray(index.windows.starts), np.asarray(index.windows.rest), index.windows.bits
    chance = np.random.default_rng(1)
    strangers = chance.integers(0, 2**64, 2_000_000, dtype=np.uint64)
    counts = np.diff(table[0].astype(np.int64))
    bucket = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    there = bucket << np.uint64(64 - table[2]) | table[1].astype(np.uint64) << np.uint64(32 - table[2])
    there = chance.permutation(there)

    def timed(wanted: np.ndarray) -> float:
        started = time.process_time()
        probe(wanted, table)
        return (time.process_time() - started) / len(wanted) * 1e9

    false = float((probe(strangers, table) >= 0).mean())
    missed = float((probe(there, table) < 0).mean())
    return {
        "missed": missed,
        "there_ns": best(lambda: timed(there)),
        "stranger_ns": best(lambda: timed(strangers)),
        "false": false,
    }


def gateway(index: WindowIndex, corpus: Path) -> float:
    """Return the nanoseconds that the reader of the gateway takes for a window, with hashing it."""
    documents = [document.text for one in files(corpus)[::500] for document in read(one)]
    said = [word for text in documents for word, _ in words(text)][:200_000]
    asked = [b" ".join(said[at : at + index.window]) for at in range(len(said) - index.window)]

    def timed() -> float:
        started = time.process_time()
        for one in asked:
            index.find(one)
        return (time.process_time() - started) / len(asked) * 1e9

    return best(timed)


def main(corpus: Path | None = None) -> dict[str, object]:
    """Measure; the corpus is Python's own library if none is given."""
    corpus = corpus or Path(json.__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        chosen = place / "corpus"
        chosen.mkdir()
        for at, one in enumerate(files(corpus)):  # the same bytes for everybody, and text only
            raw = one.path.read_bytes()
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError:
                continue
            (chosen / f"{at:07}.txt").write_bytes(raw)
        total = sum(one.size for one in files(chosen))
        built(chosen, place, (8, 8))  # compiles
        seconds: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            for shape in SHAPES:
                spent, _ = built(chosen, place, shape)
                seconds.setdefault(f"{shape[0]}-{shape[1]}", []).append(spent)
            seconds.setdefault("sha256", []).append(sha256(chosen))
            other = peer(chosen, max(1, total // 64))
            seconds.setdefault("rbloom 8-8", []).append(other["seconds"])
        index = open_windows(place / "index-8-8", KEY)
        sizes = {f"{w}-{s}": sum(one.stat().st_size for one in (place / f"index-{w}-{s}").iterdir()) for w, s in SHAPES}
        return {
            "corpus": {"bytes": total, "documents": index.header.documents},
            "mb_per_cpu_second": {name: round(total / min(all_) / 1e6, 1) for name, all_ in seconds.items()},
            "spread": {name: [round(total / one / 1e6, 1) for one in all_] for name, all_ in seconds.items()},
            "bytes_per_byte": {name: round(size / total, 4) for name, size in sizes.items()}
            | {"rbloom 8-8": round(other["index"] / total, 4)},
            "times_rbloom": round(min(seconds["rbloom 8-8"]) / min(seconds["8-8"]), 2),
            "probe": probes(index),
            "gateway_find_ns": gateway(index, chosen),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path)
    print(json.dumps(main(parser.parse_args().corpus), indent=1))
