"""Make the study's texts once: answers of the demo's real model, marked and unmarked, drawn by the room's own code.

SmolLM2-135M-Instruct at temperature 1, no top-k or top-p, 200 tokens an answer (the end token is ruled out, so that
lengths are equal), batches of eight, every row with its own account's key. About twenty minutes on one core; the
token ids are kept in results/watermark-texts.npz, so that benchmarks/watermark.py re-runs in a minute.

    python benchmarks/watermark_texts.py [--batches 18]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from strongroom.core.secrets import Secret
from strongroom.engines.demo_model import demo_model
from strongroom.watermark.gumbel import Marker, choose, fresh_seeds
from strongroom.watermark.keys import derive

HERE = Path(__file__).resolve().parent
FILE = HERE / "results" / "watermark-texts.npz"
MASTER = Secret(bytes(range(32)))
EPOCH = "2026-11"
TOKENS = 200
ROWS = 8
TOPICS = (
    "tides", "bread", "railways", "bees", "contract law", "volcanoes", "chess", "vaccines", "the Silk Road", "violins",
    "glaciers", "inflation", "lighthouses", "sleep", "compilers", "orchards", "the Moon", "bicycles", "whales", "paper",
    "democracy", "salt", "earthquakes", "poetry",
)  # fmt: skip
FORMS = (
    "Write a short story about {}.",
    "Explain {} to a curious student.",
    "Give advice to somebody who wants to learn about {}.",
    "Write a letter to a friend about {}.",
)
PROMPTS = [form.format(topic) for topic in TOPICS for form in FORMS]


def cache() -> Path:
    """Return the folder for the converted model."""
    return Path(os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")) / "strongroom-bench"


def _prompts(at: int) -> list[str]:
    """Return the prompts of a batch; after all have been asked they are asked again, for other accounts."""
    start = at * ROWS % len(PROMPTS)
    return PROMPTS[start : start + ROWS]


@torch.inference_mode()
def answers(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, *, prompts: list[str], markers: list[Marker]
) -> tuple[list[list[int]], list[float], list[float]]:
    """Return tokens, mean log-likelihood and mean entropy (nats a token) of one batch of answers."""
    text = ["<|im_start|>user\n" + one + "<|im_end|>\n<|im_start|>assistant\n" for one in prompts]
    batch = tokenizer(text, return_tensors="pt", padding=True, padding_side="left")
    ids, mask, past = batch["input_ids"], batch["attention_mask"], None
    made: list[list[int]] = [[] for _ in prompts]
    likely, entropy = torch.zeros(len(prompts), dtype=torch.float64), torch.zeros(len(prompts), dtype=torch.float64)
    for _ in range(TOKENS):
        place = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = model(input_ids=ids, attention_mask=mask, position_ids=place, past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[:, -1].double()
        logits[:, tokenizer.eos_token_id] = -torch.inf
        seeds = torch.tensor([marker.seed(row)[0] for marker, row in zip(markers, made, strict=True)])
        drawn = choose(logits, seeds)
        log_p = logits.log_softmax(-1)
        likely += log_p.gather(1, drawn[:, None])[:, 0]
        entropy -= (log_p.exp() * log_p.clamp(min=-1e9)).sum(-1)
        for row, token in zip(made, drawn.tolist(), strict=True):
            row.append(token)
        ids, mask = drawn[:, None], torch.cat([mask, torch.ones_like(drawn[:, None])], dim=1)
    return made, (likely / TOKENS).tolist(), (entropy / TOKENS).tolist()


def main() -> None:
    """Make the texts and keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=18)
    batches = parser.parse_args().batches
    folder = demo_model(cache())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    kept: dict[str, list[object]] = {"tokens": [], "kind": [], "account": [], "likely": [], "entropy": []}
    same = [PROMPTS[0]] * ROWS
    work = [(kind, _prompts(at), at * ROWS) for at in range(batches) for kind in (1, 0)]
    for kind, prompts, start in [(3, same, 0), (2, same, 0), *work]:
        # kinds: 0 unmarked, 1 marked (an account a row); 2 and 3 the same with one prompt, and one account, eight times
        accounts = [0 if kind > 1 else start + row for row in range(ROWS)]
        markers = [
            Marker(
                derive(MASTER, f"account-{account}", EPOCH) if kind % 2 else None,
                fresh_seeds(1000 * kind + start + row),
            )
            for row, account in enumerate(accounts)
        ]
        tokens, likely, entropy = answers(model, tokenizer, prompts=prompts, markers=markers)
        for name, values in zip(kept, (tokens, [kind] * ROWS, accounts, likely, entropy), strict=True):
            kept[name] += values
        print(f"kind {kind}, from {start}: {tokenizer.decode(tokens[0])[:90]!r}", flush=True)
        np.savez_compressed(
            FILE,
            tokens=np.array(kept["tokens"], np.uint16),
            kind=np.array(kept["kind"], np.uint8),
            account=np.array(kept["account"], np.int16),
            likely=np.array(kept["likely"], np.float32),
            entropy=np.array(kept["entropy"], np.float32),
        )


if __name__ == "__main__":
    main()
