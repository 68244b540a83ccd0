"""Which of transformers' tensors a tensor of llama.cpp's is, and how its values were changed on the way there.

llama.cpp's converter renames, interleaves the rows of queries and keys for some architectures, and adds one to the
norms of Gemma, which transformers adds when it computes. All of that is undone, so that a suspect is what transformers'
own file of the model would be (https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.engines.gguf_llama import INSIDE, OUTSIDE

_NORMS_OF_HEADS: Final = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_AROUND: Final = {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED: Final = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}
_OTHERS: Final[Mapping[str, Mapping[str, str]]] = {
    "gemma2": _AROUND,
    "gemma3": _AROUND | _NORMS_OF_HEADS,
    "qwen3": _NORMS_OF_HEADS,
    "phi3": _FUSED,
}
_INTERLEAVED: Final = frozenset({"llama", "granite", "minicpm", "mistral3", "smollm3"})
_IN_ORDER: Final = frozenset({"qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3"})
_RAISED: Final = frozenset({"gemma", "gemma2", "gemma3"})
_TURNED: Final = ("attn_q", "attn_k")
_HALVES: Final = {".lora_a": "lora_A", ".lora_b": "lora_B"}


def name_of(name: str, architecture: str) -> str | None:
    """Return transformers' name of llama.cpp's tensor `name`; None for one that it doesn't have.

    Whoever passes a file on can write any architecture into it. The names in a block are the same in nearly all, so
    one that is not known is read too, but for queries and keys: nobody knows the order of their rows. The halves of a
    low-rank adapter (``blk.0.attn_q.weight.lora_a``) get PEFT's names.
    """
    stem, half = name[: -len(".lora_a")], _HALVES.get(name[-len(".lora_a") :])
    if half is not None:
        base = _base_name(stem, architecture)
        return None if base is None else f"{base.removesuffix('.weight')}.{half}.weight"
    return _base_name(name, architecture)


def _base_name(name: str, architecture: str) -> str | None:
    if name in OUTSIDE:
        return OUTSIDE[name]
    known = architecture in _INTERLEAVED or architecture in _IN_ORDER
    match name.split("."):
        case ["blk", block, part, "weight" | "bias" as kind] if block.isascii() and block.isdecimal():
            theirs = {**INSIDE, **_OTHERS.get(architecture, {})}.get(part)
            in_order = architecture in _IN_ORDER or (known and kind == "weight")
            if theirs is None or (part in _TURNED and not in_order):
                return None
            return f"model.layers.{block}.{theirs}.{kind}"
        case _:
            return None


def interleaves(name: str, architecture: str) -> str | None:
    """Return the metadata that says of how many heads the rows of llama.cpp's tensor `name` are; None if in order."""
    if architecture not in _INTERLEAVED:
        return None
    part = name.removesuffix(".lora_b").split(".")[-2:-1]  # a B's rows are those of its base, an A's are the adapter's
    return {"attn_q": "head_count", "attn_k": "head_count_kv"}.get("".join(part))


def raised(name: str, architecture: str) -> bool:
    """Say whether llama.cpp's tensor `name` has one added to its values."""
    return architecture in _RAISED and name.endswith("norm.weight")
