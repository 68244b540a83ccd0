"""Checkpoints in memory, and small models with random weights that transformers itself wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

torch.set_num_threads(1)  # on shared cores, threads that wait for each other cost more than they bring


class MemorySource:
    """A WeightSource over the bytes of a plain directory, as custody's open checkpoint is one over sealed bytes."""

    def __init__(self, directory: Path) -> None:
        self.blobs = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
        self.tensors: dict[str, Any] = {}
        for name, blob in self.blobs.items():
            if name.endswith(".safetensors"):
                self.tensors |= self._parse(bytearray(blob))

    @staticmethod
    def _parse(blob: bytearray) -> dict[str, object]:
        from strongroom.engines.torch_tensors import make_tensor

        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        header.pop("__metadata__", None)
        view = memoryview(blob)[8 + length :]
        return {
            name: make_tensor(view[slice(*entry["data_offsets"])], entry["dtype"], tuple(entry["shape"]))
            for name, entry in header.items()
        }

    def keys(self) -> list[str]:
        return list(self.tensors)

    def get_tensor(self, name: str) -> object:
        return self.tensors[name]

    def files(self) -> list[str]:
        return list(self.blobs)

    def read_file(self, path: str) -> bytes:
        return self.blobs[path]

    def document(self, path: str) -> dict[str, object]:
        return json.loads(self.blobs[path])

    def change(self, path: str, **changes: object) -> None:
        self.blobs[path] = json.dumps(self.document(path) | changes).encode()


WORDS = ["<s>", "</s>", "<|user|>", "<|model|>", *(chr(ordinal) for ordinal in range(32, 127))]
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|model|>"


def _tokenizer() -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": WORDS[index], **flags} for index in range(4)],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": {word: index for index, word in enumerate(WORDS)}, "unk_token": " "},
    }


def small_config(kind: str, *, tied: bool) -> object:
    common = {"vocab_size": len(WORDS), "tie_word_embeddings": tied, "bos_token_id": 0, "eos_token_id": 1}
    if kind == "gpt2":
        return transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **common)
    return transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        rope_theta=20000.0,
        **common,
    )


def write_wide(directory: Path) -> Path:
    """Write a small Llama whose MLP is large enough to carry a mark: 7 million weights in bfloat16, off any grid."""
    torch.manual_seed(11)
    config = transformers.LlamaConfig(
        hidden_size=96,
        intermediate_size=1536,
        num_hidden_layers=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        vocab_size=len(WORDS),
        bos_token_id=0,
        eos_token_id=1,
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.to(torch.bfloat16).save_pretrained(directory)
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    return directory


def write_plain(directory: Path, kind: str = "llama", *, tied: bool = True, dtype: str = "float32") -> Path:
    """Write a plain model directory: by architecture, tied or not, and type."""
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(small_config(kind, tied=tied))
    model.to(getattr(torch, dtype)).save_pretrained(directory)
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer()))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return directory
