"""The mark measured: speed beside a peer's detector, false alarms for each key, power, and what it costs the text.

Speed is CPU seconds of one thread, contestants taking turns. False alarms are on the standard library's sources and the
licence, in the real tokenizer's tokens, windows of 200, fixed keys. Power and quality are on the answers that
benchmarks/watermark_texts.py made once with the demo's real model (results/watermark-texts.npz).

    OMP_NUM_THREADS=1 python benchmarks/watermark.py [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer, WatermarkDetector, WatermarkingConfig
from watermark_texts import EPOCH, FILE, MASTER, cache

from strongroom.engines.demo_model import demo_model
from strongroom.watermark import detect as room
from strongroom.watermark.attribute import attribute
from strongroom.watermark.calibrate import LEVELS, calibrate
from strongroom.watermark.common import common_runs
from strongroom.watermark.detect import detect, detect_many
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds
from strongroom.watermark.keys import MarkKey, derive

ROUNDS = 5
ACCOUNTS = 1000
SHARES = (0.0, 0.1, 0.3, 0.5)
LENGTHS = (25, 50, 75, 100, 150, 200)
REPEATS = 5
KEYS = 60
VOCABULARY = 49152


def key(number: int) -> MarkKey:
    """Return an account's key."""
    return derive(MASTER, f"account-{number}", EPOCH)


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of `work`."""
    start = time.process_time()
    work()
    return time.process_time() - start


def speed() -> dict[str, object]:
    """Return tokens and customers a second, ours and the peer's, and what a draw costs."""
    generator = np.random.default_rng(1)
    texts = [generator.integers(0, VOCABULARY, 200) for _ in range(5000)]
    keys = [key(number) for number in range(20_000)]
    folder = demo_model(cache())
    peer = WatermarkDetector(AutoConfig.from_pretrained(folder), "cpu", WatermarkingConfig(context_width=1))
    some = torch.LongTensor(np.array(texts[:4]))
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "detect, 5,000 texts of 200 tokens: tokens/s": (1_000_000, lambda: detect_many(texts, keys[0])),
        "transformers WatermarkDetector, 4 such texts: tokens/s": (800, lambda: peer(some)),
        "attribute, one 200-token text, 20,000 keys: keys/s": (20_000, lambda: attribute(texts[0], keys)),
        "marker, seeds/s": (1000, lambda: _seeds(keys[0])),
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, (_, one) in work.items():
            taken[name].append(cpu(one))
    rates = {name: work[name][0] / statistics.median(seconds) for name, seconds in taken.items()}
    ours, theirs, *_ = rates.values()
    return {
        "per CPU second (median of 5)": rates,
        "detect, ratio to the peer": round(ours / theirs),
        **_draws(generator),
    }


def _seeds(one: MarkKey) -> None:
    marker, text = Marker(one, fresh_seeds(1)), list(range(1004))
    for length in range(4, 1004):
        marker.seed(text[length - 4 : length])


def _draws(generator: np.random.Generator) -> dict[str, object]:
    rows: dict[str, dict[str, float]] = {}
    for size in (1, 8):
        logits = torch.tensor(generator.normal(size=(size, VOCABULARY)) * 3, dtype=torch.float32)
        seeds = torch.tensor(generator.integers(-(2**63), 2**63 - 1, size=size))
        arrays = logits.numpy(), seeds.numpy()
        top = logits.masked_fill(logits < logits.topk(50).values[:, -1:], -torch.inf)
        work = {
            "choose, torch": lambda a=logits, b=seeds: choose(a, b),
            "choose, numpy": lambda a=arrays: choose(*a),
            "choose, torch, top-k 50": lambda a=top, b=seeds: choose(a, b),
            "softmax and multinomial, torch": lambda a=logits: torch.multinomial(a.softmax(-1), 1),
        }
        taken: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(30):
            for name, one in work.items():
                taken[name].append(cpu(one) * 1e3)
        rows[f"batch {size}"] = {name: statistics.median(times) for name, times in taken.items()}
    return {f"CPU ms a draw, vocabulary {VOCABULARY:,}": rows}


def documents() -> list[np.ndarray]:
    """Return the standard library's sources and licence in the real tokenizer's tokens, an array a file."""
    tokenizer = AutoTokenizer.from_pretrained(demo_model(cache()))
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = [*folder.glob("LICENSE*"), *sorted(folder.rglob("*.py"))]
    whole = [one for one in files if not {"site-packages", "test", "tests"} & set(one.parts)]
    made = []
    for file in whole:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        pieces = ["".join(lines[at : at + 400]) for at in range(0, len(lines), 400)]
        made.append(np.concatenate([[0], *(tokenizer(one)["input_ids"] for one in pieces)])[1:].astype(np.int64))
    return made


def validity() -> dict[str, object]:
    """Return false-alarm rates at each level, averaged and of the worst key, with and without the guards."""
    whole = documents()
    texts = _windows(whole)
    keys = [key(number) for number in range(KEYS)]
    even, odd = common_runs(whole[::2]), _windows(whole[1::2])
    rows = {
        "as detect does": calibrate(keys, texts),
        "runs shared by two windows left out": calibrate(keys, texts, common=common_runs(texts)),
        "odd files": calibrate(keys, odd),
        "odd files, runs shared by two even files left out": calibrate(keys, odd, common=even),
    }
    kept, room.shared.firsts = room.shared.firsts, lambda marks: np.arange(len(marks))
    rows["control: repeats counted"] = calibrate(keys[:10], texts)
    room.shared.firsts = kept
    return {
        name: {
            "texts": one.texts,
            **{f"mean at {level:g}": f"{rate:.2e}" for level, rate in zip(LEVELS, one.averaged, strict=True)},
            **{f"worst key at {level:g}": f"{rate:.2e}" for level, rate in zip(LEVELS, one.worst, strict=True)},
            **{f"excess p at {level:g}": f"{p:.1g}" for level, p in zip(LEVELS, one.excess_p, strict=True)},
        }
        for name, one in rows.items()
    }


def _windows(whole: list[np.ndarray]) -> list[np.ndarray]:
    return [one[at : at + 200] for one in whole for at in range(0, len(one) - 199, 200)]


def power() -> dict[str, object]:
    """Return how often an answer is traced to its account, family-wise 1e-6 over 1,000 accounts."""
    kept = np.load(FILE)
    marked = kept["kind"] == 1
    texts, owners, entropy = kept["tokens"][marked].astype(np.int64), kept["account"][marked], kept["entropy"][marked]
    keys = [key(number) for number in range(ACCOUNTS)]
    generator = np.random.default_rng(2)
    rows: dict[str, dict[str, object]] = {}
    for share in SHARES:
        found: list[bool] = []
        logs: list[float] = []
        wrong = 0
        for _ in range(REPEATS if share else 1):
            for text, owner in zip(texts, owners, strict=True):
                swapped = np.where(generator.random(text.size) < share, generator.integers(0, VOCABULARY, 200), text)
                verdict = attribute(swapped, keys)
                found.append(verdict.verdict == "match" and verdict.account == f"account-{owner}")
                wrong += verdict.verdict == "match" and not found[-1]
                logs.append(detect(swapped, keys[owner]).log10_p)
        rows[f"{share:.0%} of tokens replaced"] = _row(found, logs) | {"wrong account": wrong}
    lengths = {}
    for length in LENGTHS:
        logs = [detect(text[:length], keys[owner]).log10_p for text, owner in zip(texts, owners, strict=True)]
        lengths[f"first {length} tokens"] = _row([one <= -9 for one in logs], logs)
    plain = kept["tokens"][kept["kind"] % 2 == 0]
    innocent = [attribute(text.astype(np.int64), keys) for text in plain]
    low = entropy <= np.quantile(entropy, 0.25)
    clean = [detect(text, keys[owner]).log10_p <= -9 for text, owner in zip(texts, owners, strict=True)]
    return {
        "answers (units; replacements drawn five times each)": len(texts),
        "entropy of the draws, nats a token: least, median, most": [
            round(float(one), 2) for one in (entropy.min(), np.median(entropy), entropy.max())
        ],
        "traced, family-wise 1e-6 over 1,000 accounts": rows,
        "clean, by length": lengths,
        "clean, the quarter of least entropy": float(np.mean(np.array(clean)[low])),
        "unmarked answers: matches": f"{sum(one.verdict == 'match' for one in innocent)} of {len(innocent)}",
    }


def made_up() -> dict[str, object]:
    """Return how often 200 tokens are traced when the draws have less entropy than a small model's: made-up logits."""
    generator = np.random.default_rng(3)
    rows = {}
    for spread in (6, 9, 14, 20, 30, 45):
        logs, half, entropy = [], [], []
        for number in range(60):
            marker, text = Marker(key(number), fresh_seeds(number)), []
            for _ in range(200):
                logits = generator.normal(size=(1, 500)) * spread
                p = np.exp(logits - logits.max())
                p /= p.sum()
                entropy.append(float(-(p * np.log(np.maximum(p, 1e-300))).sum()))
                text.append(int(choose(logits, np.array([marker.seed(text)[0]]))[0]))
            logs.append(detect(text, key(number)).log10_p)
            half.append(detect(text[:104], key(number)).log10_p <= -9)
        rows[f"{statistics.mean(entropy):.2f} nats a token"] = _row([one <= -9 for one in logs], logs) | {
            "in the first 104": statistics.mean(half)
        }
    return rows


def _row(found: list[bool], logs: list[float]) -> dict[str, object]:
    share = statistics.mean(found)
    return {"traced": round(share, 4), "of": len(found), "median log10 p": round(statistics.median(logs), 1)}


def quality() -> dict[str, object]:
    """Return what the mark costs: likelihood under the model of marked and unmarked answers, and diversity."""
    kept = np.load(FILE)
    likely = {kind: kept["likely"][kept["kind"] == kind].astype(float) for kind in (0, 1)}
    gap = likely[1] - likely[0]
    rows = {}
    for name, kind in (("marked, one account", 3), ("unmarked", 2)):
        same = kept["tokens"][kept["kind"] == kind]
        fours = {tuple(one[at : at + 4]) for one in same.tolist() for at in range(197)}
        firsts = {tuple(one[:4]) for one in same.tolist()}
        rows[name] = {
            "answers": len(same),
            "distinct": len({tuple(one) for one in same.tolist()}),
            "distinct first four tokens": len(firsts),
            "distinct 4-grams": round(len(fours) / (len(same) * 197), 3),
        }
    return {
        "mean log-likelihood, nats a token": {
            "marked": likely[1].mean(),
            "unmarked": likely[0].mean(),
            "difference (same prompts)": gap.mean(),
            "its standard error": gap.std(ddof=1) / math.sqrt(len(gap)),
        },
        "one prompt asked eight times": rows,
    }


def main() -> dict[str, object]:
    """Return all figures."""
    torch.set_num_threads(1)
    title = "false alarms on the standard library's text, 60 fixed keys"
    return {**speed(), title: validity(), **power(), "made-up draws of 200 tokens, by entropy": made_up(), **quality()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    figures = main()
    print(json.dumps(figures, indent=1))
    if target is not None:
        target.write_text(json.dumps(figures, indent=1) + "\n")
