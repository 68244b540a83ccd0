"""Sealed checkpoints beside their peers: open, verify, read one tensor, seal.

Every measurement is a fresh process; A and B take turns within a round; the figures are CPU seconds (user and system,
all threads) and wall seconds of the operation itself, imports left out, page cache warm. Before each measurement
another process touches and frees as much memory as the measured one will want: where a host backs a virtual machine's
memory at its first touch, some runs are otherwise charged several seconds by chance, most of all those that use huge
pages. Peers live in virtual environments of their own under the cache folder (XDG_CACHE_HOME/strongroom-bench) and are
installed at the first run.

    python benchmarks/custody.py [--gigabytes 1.8] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PEERS = {
    "cryptotensors": ["cryptotensors==0.2.3", "packaging", "numpy", "ml_dtypes"],
    "fastsafetensors": ["torch==2.13.0", "fastsafetensors==0.5.0", "numpy"],
    "safetensors": ["safetensors==0.8.0", "numpy", "ml_dtypes"],
}
PRELUDE = """
import base64, gc, json, os, resource, shutil, sys, time
from pathlib import Path
work = Path(sys.argv[1]); source = work / "source" / "model.safetensors"
def peak():
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
def clock():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime, time.perf_counter()
def report(start, **more):
    cpu, wall = (b - a for a, b in zip(start, clock()))
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak(), **more}))
"""
OURS = """
sys.path.insert(0, sys.argv[2])
from blake3 import blake3
from strongroom.access.keys import Keyring
from strongroom.backends.localfs import LocalBlobs
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.journal import Identity
from strongroom.custody.judge import Expected
from strongroom.custody.read import SealedReader, verify
from strongroom.custody.seal import seal
from strongroom.custody.tensors import SealedCheckpoint
ann = Keyring("ann", Secret(bytes(range(128)))); name = CheckpointName("bench", "v1")
def sealing(folder):
    return seal(work / "source", LocalBlobs(work / folder), identity=Identity(name, 1, None, "2026-01-01T00:00:00Z"),
                keyring=ann)
def kept():
    note = json.loads((work / "ours.json").read_text())
    expected = Expected(note["checkpoint"], name, 1, note["manifest"], "ann", ann.public)
    return LocalBlobs(work / "blobs"), note["checkpoint"], expected, Secret(bytes.fromhex(note["key"]))
"""
CRYPTO = """
import ml_dtypes, numpy as np
from cryptotensors import safe_open, serialize_file
e = lambda x: base64.b64encode(x).decode()
enc = {"kty": "oct", "alg": "aes256gcm", "k": e(b"k" * 32), "kid": "e"}
sign = {"kty": "okp", "alg": "ed25519", "kid": "s", "d": e(bytes(range(32))),
        "x": "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="}
config = {"enc_key": enc, "sign_key": sign}
"""
CODE = {
    "strongroom prepare": OURS
    + """
r = sealing("blobs")
note = {"checkpoint": r.checkpoint, "manifest": r.manifest, "key": r.data_key.reveal().hex()}
(work / "ours.json").write_text(json.dumps(note)); print("{}")
""",
    "cryptotensors prepare": CRYPTO
    + """
with safe_open(source, framework="np") as f:
    data = {k: {"dtype": "bfloat16", "shape": list(f.get_slice(k).get_shape()), "data": f.get_tensor(k).tobytes()}
            for k in f.keys()}
serialize_file(data, work / "model.ct", config=config); print("{}")
""",
    "strongroom open": OURS
    + """
blobs, folder, expected, key = kept(); t = clock()
sealed = SealedCheckpoint(SealedReader(blobs, folder, expected=expected, data_key=key))
tensors = sealed.load_all(); report(t, tensors=len(tensors))
""",
    "cryptotensors open": CRYPTO
    + """
t = clock()
with safe_open(work / "model.ct", framework="np", config=config) as f:
    tensors = {k: f.get_tensor(k) for k in f.keys()}
report(t, tensors=len(tensors))
""",
    "fastsafetensors open": """
import torch
from fastsafetensors import fastsafe_open
t = clock()
with fastsafe_open([str(source)], nogds=True, device="cpu") as f:
    tensors = {k: f.get_tensor(k) for k in f.keys()}
    report(t, tensors=len(tensors))
""",
    "safetensors open and copy": """
import numpy as np, ml_dtypes
from safetensors.numpy import load_file
t = clock(); tensors = {k: v.copy() for k, v in load_file(source).items()}; report(t, tensors=len(tensors))
""",
    "strongroom verify": OURS
    + """
blobs, folder, expected, _ = kept(); t = clock()
report(t, bytes=verify(blobs, folder, expected=expected).bytes)
""",
    "blake3 of the same bytes": OURS
    + """
blobs, folder, *_ = kept(); path = work / "blobs" / folder / "000001.sealed"; t = clock()
buffer = memoryview(bytearray(1 << 20)); total = 0
with open(path, "rb", buffering=0) as f:
    while n := f.readinto(buffer):
        blake3(buffer[:n]).digest(); total += n
report(t, bytes=total)
""",
    "strongroom one tensor": OURS
    + """
blobs, folder, expected, key = kept()
sealed = SealedCheckpoint(SealedReader(blobs, folder, expected=expected, data_key=key)); name = sys.argv[3]
sealed.get_tensor(sys.argv[4]); t = clock()
got = [sealed.get_tensor(name) for _ in range(8)]; report(t, bytes=got[0].nbytes)
""",
    "aes-gcm and blake3 over its bytes": OURS
    + """
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from strongroom.custody.memory import anonymous
size = int(sys.argv[5]); cipher = AESGCM(bytes(32)); scratch = memoryview(bytearray(1 << 20)); piece = (1 << 20) - 16
with open(work / "pieces", "rb", buffering=0) as f:
    t = clock(); got = []
    for _ in range(8):
        area = anonymous(size); got.append(area)
        for i, start in enumerate(range(0, size, piece)):
            part = scratch[: min(piece, size - start) + 16]
            os.preadv(f.fileno(), [part], i << 20); blake3(part).digest()
            cipher.decrypt_into(bytes(12), part, None, area[start : start + len(part) - 16])
    report(t, bytes=size)
""",
    "strongroom seal": OURS
    + """
t = clock(); r = sealing("again"); report(t, bytes=r.sealed_bytes); shutil.rmtree(work / "again")
""",
    "cryptotensors seal": CRYPTO
    + """
t = clock()
with safe_open(source, framework="np") as f:
    data = {k: {"dtype": "bfloat16", "shape": list(f.get_slice(k).get_shape()), "data": f.get_tensor(k).tobytes()}
            for k in f.keys()}
serialize_file(data, work / "again.ct", config=config); report(t); (work / "again.ct").unlink()
""",
    "safetensors plain save": """
import numpy as np, ml_dtypes
from safetensors.numpy import load_file, save_file
t = clock(); save_file(load_file(source), work / "again.safetensors"); report(t); (work / "again.safetensors").unlink()
""",
}
GROUPS = {
    "open": ["strongroom open", "cryptotensors open", "fastsafetensors open", "safetensors open and copy"],
    "verify": ["strongroom verify", "blake3 of the same bytes"],
    "one tensor": ["strongroom one tensor", "aes-gcm and blake3 over its bytes"],
    "seal": ["strongroom seal", "cryptotensors seal", "safetensors plain save"],
}
ONE, OTHER = "model.layers.3.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight"


def cache() -> Path:
    """Return the folder for peers' environments."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "strongroom-bench"


def python_of(program: str) -> str:
    """Return the interpreter that `program` runs in, installing a peer at its first use."""
    if program not in PEERS:
        return sys.executable
    home = cache() / program
    if not (home / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin/pip"), "install", "-q", *PEERS[program]], check=True)
        (home / ".installed").touch()
    return str(home / "bin/python")


WARM = """
import mmap, sys
area = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
area.madvise(mmap.MADV_HUGEPAGE)
for at in range(0, len(area), 4096):
    area[at] = 1
"""


def run(step: str, work: Path, *, size: int) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    program = step.split(maxsplit=1)[0]
    command = [python_of(program), "-c", PRELUDE + CODE[step], str(work), str(ROOT / "src"), ONE, OTHER, str(size)]
    model = work / "source/model.safetensors"
    subprocess.run([sys.executable, "-c", WARM, str(2 * model.stat().st_size)], check=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{step}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def shapes(gigabytes: float) -> dict[str, tuple[int, ...]]:
    """Return a Llama-like model's tensors: 28 layers of nine, embedding, norm and head."""
    width = max(64, int(1664 * (gigabytes / 1.79) ** 0.5 + 32) // 64 * 64)
    inner = width * 21 // 8
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (16 * width, width)}
    for layer in range(28):
        base = f"model.layers.{layer}."
        found |= {base + f"self_attn.{x}_proj.weight": (width // (4 if x in "kv" else 1), width) for x in "qkvo"}
        found |= {base + f"mlp.{x}_proj.weight": (inner, width) for x in ("gate", "up")}
        found |= {base + "mlp.down_proj.weight": (width, inner)}
        found |= {base + f"{x}_layernorm.weight": (width,) for x in ("input", "post_attention")}
    return found | {"model.norm.weight": (width,), "lm_head.weight": (16 * width, width)}


def generate(work: Path, gigabytes: float) -> int:
    """Write the model; return the size of the tensor that is read alone."""
    header, end, one = {}, 0, 0
    for name, shape in shapes(gigabytes).items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
        one = size if name == ONE else one
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (work / "source").mkdir()
    with (work / "source/model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        block = os.urandom(32 << 20)
        for start in range(0, end, len(block)):
            file.write(block[: end - start])
    pieces(work / "pieces", one)
    return one


def pieces(path: Path, size: int) -> None:
    """Write the AES-GCM pieces that the floor of reading one tensor decrypts."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher, piece = AESGCM(bytes(32)), (1 << 20) - 16
    with path.open("wb") as file:
        for start in range(0, size, piece):
            file.write(cipher.encrypt(bytes(12), os.urandom(min(piece, size - start)), None))


def summary(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return minimum and median of CPU and wall seconds, and the highest memory peak."""
    figures: dict[str, float] = {"rounds": len(rounds), "peak_mb": max(r["peak"] for r in rounds) / 1e6}
    for what in ("cpu", "wall"):
        values = [r[what] for r in rounds]
        figures |= {f"{what}_min": min(values), f"{what}_median": statistics.median(values)}
    return figures | {k: rounds[0][k] for k in ("bytes", "tensors") if k in rounds[0]}


def ratios(found: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return ours over each peer's, CPU and wall, minimum and median."""
    kinds = ("cpu_min", "cpu_median", "wall_min", "wall_median")
    return {
        f"{group}: ours / {peer}": {k: round(found[group][steps[0]][k] / found[group][peer][k], 3) for k in kinds}
        for group, steps in GROUPS.items()
        for peer in steps[1:]
    }


def machine() -> dict[str, str | int]:
    """Return what ran this, and which commit."""
    git = shutil.which("git") or "git"
    commit = subprocess.run([git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    return {"cpu": cpu, "cores": os.cpu_count() or 0, "kernel": platform.release(), "python": platform.python_version(),
            "commit": commit.stdout.strip(), "load": f"{os.getloadavg()[0]:.1f}"}  # fmt: skip


def main(gigabytes: float = 1.8, rounds: int = 5) -> dict[str, object]:
    """Measure everything and return the figures."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("STRONGROOM_BENCH_DIR")) as folder:
        work = Path(folder)
        size = generate(work, gigabytes)
        for step in ("strongroom prepare", "cryptotensors prepare"):
            run(step, work, size=size)
        found: dict[str, dict[str, dict[str, float]]] = {}
        for group, steps in GROUPS.items():
            taken: dict[str, list[dict[str, float]]] = {step: [] for step in steps}
            for turn in range(rounds):
                for step in steps if turn % 2 else reversed(steps):
                    taken[step].append(run(step, work, size=size))
            found[group] = {step: summary(values) for step, values in taken.items()}
        rate = found["verify"]["strongroom verify"]
        return {
            "machine": machine(),
            "file_bytes": (work / "source/model.safetensors").stat().st_size,
            "verify_gb_per_cpu_s": round(rate["bytes"] / 1e9 / rate["cpu_min"], 2),
            "ratios": ratios(found),
            "figures": found,
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    result = json.dumps(main(words.gigabytes, words.rounds), indent=1)
    print(result)
    if words.json:
        words.json.write_text(result + "\n")
