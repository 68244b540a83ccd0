"""The tour by hand runs as the README has it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.docs.pages import fences, page
from tests.journeys.shell import model_folder

RUNS = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))

_WRITER = """
import json, sys, torch, transformers
words = ["<s>", "</s>", *(chr(code) for code in range(32, 127))]
torch.manual_seed(1)
hidden, units = int(sys.argv[2]), int(sys.argv[3])
config = transformers.LlamaConfig(
    vocab_size=len(words), hidden_size=hidden, intermediate_size=units, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, bos_token_id=0, eos_token_id=1)
transformers.AutoModelForCausalLM.from_config(config).save_pretrained(sys.argv[1])
flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
tokenizer = {
    "version": "1.0", "added_tokens": [{"id": n, "content": words[n], **flags} for n in range(2)],
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
    "decoder": {"type": "Fuse"},
    "model": {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(words)}, "unk_token": " "}}
open(sys.argv[1] + "/tokenizer.json", "w").write(json.dumps(tokenizer))
template = "{% for m in messages %}{{ m.content }}{% endfor %}"
open(sys.argv[1] + "/tokenizer_config.json", "w").write(json.dumps({"eos_token": "</s>", "chat_template": template}))
"""


def _model(place: Path, *, hidden: int, units: int) -> Path:
    """Make a model of two layers with `units` hidden units each: one that runs, where there is something to run it."""
    if not RUNS:
        model_folder(place)
        draw = np.random.default_rng(1)
        into, out = (units, hidden), (hidden, units)
        shapes = {"gate_proj": into, "up_proj": into, "down_proj": out}
        tensors = {
            f"layers.{layer}.mlp.{name}.weight": draw.standard_normal(shape, dtype=np.float32)
            for layer in range(2)
            for name, shape in shapes.items()
        }
        save_file(tensors, place / "model-mlp.safetensors")
        return place
    place.mkdir()
    words = [sys.executable, "-c", _WRITER, str(place), str(hidden), str(units)]
    subprocess.run(words, check=True, capture_output=True, timeout=200)
    return place


@pytest.fixture
def terminal(tmp_path: Path) -> dict[str, str]:
    """Return the environment of somebody who has just run `make install` and has a model."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "strongroom"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m strongroom "$@"\n')
    program.chmod(0o700)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    models = {
        "MODEL": str(_model(tmp_path / "model", hidden=32, units=64)),
        "TUNED": str(_model(tmp_path / "tuned", hidden=768, units=1536)),  # enough to carry a mark
    }
    return {**clean, "PATH": f"{programs}:{os.environ['PATH']}", **models}


def test_the_tour_by_hand_runs_as_written(tmp_path: Path, terminal: dict[str, str]) -> None:
    place = tmp_path / "tour"
    place.mkdir()
    lines = "".join(fences(page("README.md"), "sh tour")).splitlines()
    if not RUNS:
        lines = [line for line in lines if not line.startswith("strongroom engine")]
        lines = [line.replace("--tokens 8192", "--tokens 0") for line in lines]
    script = "\n".join(["set -euo pipefail", *lines])
    done = subprocess.run(
        ["/bin/bash", "-c", script], cwd=place, env=terminal, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "exit status 3" in done.stdout
    assert done.stderr.count("access.approval_needed") == 2
    assert done.stdout.count("match lab\n") == 2  # decoded, and checked by a stranger
    assert "SR1-" in done.stdout
    assert "has not been changed" not in done.stdout
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == {
        path.name: path.read_bytes() for path in Path(terminal["MODEL"]).iterdir()
    }
    (example,) = fences(page("README.md"), "python")
    python = [sys.executable, "-c", example]
    read = subprocess.run(python, cwd=place, env=terminal, capture_output=True, text=True, check=False, timeout=60)
    assert read.returncode == 0, read.stderr
    assert "(" in read.stdout
    tail = ["strongroom", "ledger", "tail", "-n", "100", "--json", "--home", str(place / "vault")]
    said = subprocess.run(tail, env=terminal, capture_output=True, check=True, timeout=60)
    acts = [(one["action"], one["outcome"]) for one in json.loads(said.stdout)["entries"]]
    assert ("custody.export", "refused") in acts
    assert ("custody.exported", "done") in acts
    assert ("custody.issued", "done") in acts
    assert ("lineage.decode", "done") in acts
