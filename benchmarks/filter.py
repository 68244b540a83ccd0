"""The corpus filter, measured: speed of one core, near-duplicates beside peers, what the rules find of Faker's values.

Speed is CPU seconds of one process on real text of the machine (Python's sources and the documentation that Debian
installs), in JSON lines of 3,000 characters. "end to end" is `filter_shard`: read, rules, signatures, masks, write,
sync. Contestants take turns; the best of the rounds counts. The peers are in a virtual environment of their own.

    python benchmarks/filter.py [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from strongroom.kernels.minhash import signatures
from strongroom.privacy.corpus.documents import files
from strongroom.privacy.filter import plan
from strongroom.privacy.filter.builtin import RULES
from strongroom.privacy.filter.rules import rules
from strongroom.privacy.filter.shard import Job, filter_shard

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
GENERATED = importlib.import_module("tests.privacy.generated")
ROUNDS = 3
MOST = 30_000_000  # bytes of text
PEER_MOST = 3_000_000
FOLDERS = ("/usr/lib/python3.11", "/usr/lib/python3", "/usr/share/doc", "/usr/share/perl")
ENDINGS = (".py", ".txt", ".md", ".rst", ".html", "copyright", "README", ".pm", ".pod")
PEERS = HERE.parent / ".venv-dedup"
_PEER = """
import json, re, sys, time
import numpy as np
texts = [json.loads(line)["text"] for line in open(sys.argv[1], encoding="utf-8")]
size = sum(len(one.encode()) for one in texts)
from datasketch import MinHash
from rensa import RMinHash
words = re.compile(r"\\w+")
def shingles(text):
    said = words.findall(text.lower())
    return [" ".join(said[at : at + 5]) for at in range(max(1, len(said) - 4))]
def datasketch():
    for one in texts:
        MinHash(num_perm=128).update_batch([each.encode() for each in shingles(one)])
def rensa():
    for one in texts:
        mine = RMinHash(num_perm=128, seed=1)
        mine.update(shingles(one))
        mine.digest()
def best(function):
    spent = []
    for _ in range(2):
        start = time.process_time(); function(); spent.append(time.process_time() - start)
    return size / 1e6 / min(spent)
print(json.dumps({"datasketch": best(datasketch), "rensa": best(rensa)}))
"""


def main() -> dict[str, object]:
    """Return the figures."""
    given = corpus()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        speed = speeds(given, place)
        peers = dedup_peers(given, place)
    size = sum(len(one) for one in given)
    speed["corpus"] = {"MB of text": size / 1e6, "documents": len(given)}
    return {"speed, MB/s of one core": speed, "near-duplicates, MB/s of one core": peers} | quality()


def corpus() -> list[bytes]:
    """Return real texts of this machine."""
    found, size = list[bytes](), 0
    for base in FOLDERS:
        for folder, _, names in os.walk(base):
            for name in sorted(names):
                if not name.endswith(ENDINGS) or size > MOST:
                    continue
                text = Path(folder, name).read_bytes().decode("utf-8", "ignore")
                found += [text[at : at + 3000].encode() for at in range(0, len(text), 3000)]
                size += len(text)
    return found


def speeds(given: list[bytes], place: Path) -> dict[str, object]:
    """Return how fast the filter is, whole and in parts, beside Python's own expressions."""
    lines = place / "corpus.jsonl"
    lines.write_bytes(b"".join(b'{"text":%s}\n' % json.dumps(one.decode()).encode() for one in given))
    job = Job(action="mask", rules=b"", member="text", denied=(), version="benchmark")
    plan.SIZE = 1 << 40
    (shard,) = plan.shards(files(lines), place / "shards", job, key=None)
    size = sum(len(one) for one in given)
    some = given[:: max(1, size // PEER_MOST)]
    scanner, plain = rules().scanner, [re.compile(one.trigger) for one in RULES]

    def whole() -> None:
        shutil.rmtree(shard.folder, ignore_errors=True)
        shard.folder.mkdir()
        filter_shard(shard)

    contestants: dict[str, tuple[int, Callable[[], object]]] = {
        "end to end, signatures included": (size, whole),
        "rules alone": (size, lambda: scanner.find(given)),
        "signatures alone": (size, lambda: signatures(given)),
        "Python's re, the triggers alone": (
            sum(len(one) for one in some),
            lambda: [each.findall(one) for one in some for each in plain],
        ),
    }
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(ROUNDS + 1):  # the first compiles
        for name, (count, run) in contestants.items():
            start = time.process_time()
            run()
            best[name] = max(best[name], count / 1e6 / (time.process_time() - start))
    return dict(best)


def dedup_peers(given: list[bytes], place: Path) -> dict[str, object]:
    """Return how fast near-duplicates' signatures are made from text, by us and by two peers."""
    size = sum(len(one) for one in given)
    some = given[:: max(1, size // PEER_MOST)]
    signatures(some)
    start = time.process_time()
    for _ in range(10):
        signatures(some)
    ours = 10 * sum(len(one) for one in some) / 1e6 / (time.process_time() - start)
    lines = place / "some.jsonl"
    lines.write_bytes(b"".join(b'{"text":%s}\n' % json.dumps(one.decode()).encode() for one in some))
    if not PEERS.exists():
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        command = [str(PEERS / "bin/pip"), "install", "-q", "datasketch==2.0.0", "rensa==0.5.0"]
        subprocess.run(command, check=True)
    ran = subprocess.run(
        [str(PEERS / "bin/python"), "-c", _PEER, str(lines)], capture_output=True, text=True, check=True
    )
    return {"strongroom": ours} | json.loads(ran.stdout)


def quality() -> dict[str, object]:
    """Return what the rules find of values that Faker made, set in the project's documentation."""
    planted, hit, right, wrong = Counter(), Counter(), Counter(), Counter()
    paragraphs = GENERATED.passages(HERE.parent / "docs")
    for seed in (11, 12, 13):
        given = list(GENERATED.texts(paragraphs, seed=seed, each=20))
        for total, one in zip((planted, hit, right, wrong), GENERATED.tally(given, dict(found(given))), strict=True):
            total.update(one)

    def share(**of: object) -> float | None:
        names = ("kind", "locale", "told")
        keys = [key for key in planted if all(key[names.index(name)] == value for name, value in of.items())]
        return sum(hit[key] for key in keys) / sum(planted[key] for key in keys) if keys else None

    kinds = {
        kind: {"planted": sum(planted[key] for key in planted if key[0] == kind), "recall": share(kind=kind)}
        | {"behind a cue": share(kind=kind, told=True), "bare": share(kind=kind, told=False)}
        for kind in GENERATED.MAKERS
    }
    kinds["all"] = {
        "planted": planted.total(),
        "recall": share(),
        "behind a cue": share(told=True),
        "bare": share(told=False),
    }
    given = [
        one
        for one in GENERATED.texts(paragraphs, seed=14, each=60, kinds=("name",))
        if one.planted[0].locale in GENERATED.NAMED
    ]
    named, seen, fair, false = GENERATED.tally(given, dict(found(given)), cover=0.6)  # without titles and degrees
    for told in (True, False):
        keys = [key for key in named if key[2] == told]
        kinds["name"] = kinds.get("name", {}) | {
            "planted": named.total(),
            "recall": seen.total() / named.total(),
            ("behind a cue" if told else "bare"): sum(seen[key] for key in keys) / sum(named[key] for key in keys),
        }
    return {
        "precision of names": fair["name"] / (fair["name"] + false["name"]),
        "precision, all kinds": right.total() / (right.total() + wrong.total()),
        "recall by kind": kinds,
        "recall by locale": {
            one: {kind: share(kind=kind, locale=one) for kind in GENERATED.MAKERS} for one in GENERATED.LOCALES
        },
    }


def found(given: list) -> dict:
    """Return the findings of each text."""
    return dict(rules().scanner.find([one.raw for one in given]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    figures = main()
    print(json.dumps(figures, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")
