"""Reads a Llama-like GGUF file: weights under transformers' names, its config and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra

try:
    from gguf import GGUFReader, ReaderTensor, dequantize
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "reading GGUF needs the library gguf, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[demo]'",
    ) from missing

_CONTROL = 3  # llama.cpp's type of a token that is never text
OUTSIDE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
"""Transformers' names, by llama.cpp's, of a Llama's tensors outside its blocks."""
INSIDE: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""The same for the tensors of a block, without number and ``weight``."""


class Gguf:
    """An open GGUF file of the llama architecture."""

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            BadInput: it is no GGUF file, or of another architecture.

        """
        self.where = path.name
        try:
            self._reader = GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise BadInput(f"not a GGUF file: {type(error).__name__}", where=self.where) from error
        self._tensors: dict[str, ReaderTensor] = {one.name: one for one in self._reader.tensors}
        if self.value("general.architecture") != "llama":
            raise BadInput("not of the llama architecture", where=self.where)

    def value(self, key: str) -> object:
        """Return a metadata value.

        Raises:
            BadInput: there is none of that key.

        """
        field = self._reader.get_field(key)
        if field is None:
            raise BadInput(f"no metadata {key}", where=self.where)
        return field.contents()

    def number(self, key: str) -> int:
        """Return a metadata value that is a whole number."""
        return int(cast("int", self.value(key)))

    def real(self, key: str) -> float:
        """Return a metadata value that was written as float32, as the decimal it was meant to be."""
        return float(str(np.float32(cast("float", self.value(key)))))

    def names(self) -> list[str]:
        """Return the tensors' names, llama.cpp's."""
        return list(self._tensors)

    def tensor(self, name: str) -> tuple[str, npt.NDArray[np.float32]]:
        """Return a tensor's name in transformers and its values, out of their quantisation."""
        one = self._tensors[name]
        values = cast("npt.NDArray[np.float32]", dequantize(one.data, one.tensor_type))
        for part, count in (("attn_q", "head_count"), ("attn_k", "head_count_kv")):
            if f".{part}." in name:
                values = rows_back(values, self.number(f"llama.attention.{count}"))
        return transformers_name(name, where=self.where), values


def transformers_name(name: str, *, where: str) -> str:
    """Return transformers' name of llama.cpp's tensor `name`.

    Raises:
        BadInput: Llama has no such tensor.

    """
    if name in OUTSIDE:
        return OUTSIDE[name]
    match name.split("."):
        case ["blk", block, part, "weight"] if part in INSIDE and block.isdecimal():
            return f"model.layers.{block}.{INSIDE[part]}.weight"
        case _:
            raise BadInput("a tensor that Llama doesn't have", where=f"{where}: {name[:80]}")


def llama_name(name: str, *, where: str) -> str:
    """Return llama.cpp's name of transformers' tensor `name`.

    Raises:
        BadInput: Llama has no such tensor.

    """
    outside = {theirs: ours for ours, theirs in OUTSIDE.items()}
    inside = {theirs: ours for ours, theirs in INSIDE.items()}
    if name in outside:
        return outside[name]
    match name.split("."):
        case ["model", "layers", layer, *part, "weight"] if ".".join(part) in inside and layer.isdecimal():
            return f"blk.{layer}.{inside['.'.join(part)]}.weight"
        case _:
            raise BadInput("a tensor that Llama doesn't have", where=f"{where}: {name[:80]}")


def rows_back(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Undo llama.cpp's order of rows: it interleaves the two halves of each head, for its way of rotating them."""
    pairs = values.reshape(heads, values.shape[0] // heads // 2, 2, values.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def rows_interleaved(values: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Return query or key weights, (rows, columns), in llama.cpp's order of rows: the inverse of `rows_back`."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, values.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def config_document(source: Gguf) -> dict[str, object]:
    """Return the model's ``config.json``."""
    heads = source.number("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float16",
        "hidden_act": "silu",
        "hidden_size": source.number("llama.embedding_length"),
        "intermediate_size": source.number("llama.feed_forward_length"),
        "num_hidden_layers": source.number("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": source.number("llama.attention.head_count_kv"),
        "head_dim": source.number("llama.embedding_length") // heads,
        "max_position_embeddings": source.number("llama.context_length"),
        "rms_norm_eps": source.real("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": source.real("llama.rope.freq_base"),
        "vocab_size": source.number("llama.vocab_size"),
        "tie_word_embeddings": "output.weight" not in source.names(),
        "bos_token_id": source.number("tokenizer.ggml.bos_token_id"),
        "eos_token_id": source.number("tokenizer.ggml.eos_token_id"),
        "pad_token_id": source.number("tokenizer.ggml.padding_token_id"),
    }


def tokenizer_files(source: Gguf) -> dict[str, dict[str, object]]:
    """Return ``tokenizer.json`` (byte-level BPE, each digit by itself) and ``tokenizer_config.json``."""
    tokens = cast("list[str]", source.value("tokenizer.ggml.tokens"))
    types = cast("list[int]", source.value("tokenizer.ggml.token_type"))
    merges = [pair.split(" ") for pair in cast("list[str]", source.value("tokenizer.ggml.merges"))]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    control = [index for index, kind in enumerate(types) if kind == _CONTROL]
    bytes_as_text = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [{"id": index, "content": tokens[index], **flags} for index in control],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [digits, {"type": "ByteLevel", **bytes_as_text}]},
        "decoder": {"type": "ByteLevel", **bytes_as_text},
        "model": {"type": "BPE", "vocab": {token: index for index, token in enumerate(tokens)}, "merges": merges},
    }
    named = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    settings: dict[str, object] = {
        name: tokens[source.number(f"tokenizer.ggml.{key}_token_id")] for name, key in named.items()
    }
    settings["chat_template"] = source.value("tokenizer.chat_template")
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": settings}
