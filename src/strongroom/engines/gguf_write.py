"""Writes a Llama checkpoint in a folder as a quantised GGUF file, as anybody does who passes a model on.

llama.cpp, and what is built on it, load the file: metadata, tokenizer and order of query and key rows are its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.folder import Folder, disk_error
from strongroom.engines.foreign_config import Document, read_document
from strongroom.engines.gguf_llama import llama_name, rows_interleaved
from strongroom.engines.gguf_weights import CODECS, encode

try:
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "reading GGUF needs the library gguf, not installed",
        where=str(missing.name),
        remedy="Install it with: pip install 'strongroom[demo]'",
    ) from missing

Progress = Callable[[int, int], None]
Array = npt.NDArray[np.float32]

_FILE_TYPES = {
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}
_HEADS = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}
_OUTSIDE = {"model.embed_tokens.weight", "lm_head.weight"}  # always 8-bit: what they lose is lost in every token
_BLOCK = 32
_T = TypeVar("_T", int, float)
_IDS = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def write_gguf(folder: Path, target: Path, quantisation: str, *, progress: Progress | None = None) -> None:
    """Write the Llama model in `folder` to the file `target`, in Q8_0, Q4_0 or Q4_1; `progress` counts tensors.

    Norms stay float32, the embedding is Q8_0, and rows that are no whole blocks are float16. A tokenizer that is not
    byte-level BPE is left out.

    Raises:
        BadInput: the folder holds no Llama, one that GGUF's metadata don't describe, or `quantisation` is another.
        StorageError: the disk said no; nothing is left at `target`.

    """
    if quantisation not in CODECS:
        raise BadInput(f"unknown quantisation; one of {', '.join(CODECS)}", where=quantisation[:40])
    source = Folder(folder)
    config = _config(source)
    partial = target.with_name(target.name + ".partial")
    writer = GGUFWriter(partial, "llama")
    try:
        _describe(writer, config, quantisation)
        _add_tokenizer(writer, source)
        names = source.keys()
        for count, name in enumerate(names, start=1):
            _add_tensor(writer, name, _values(source, name, config), quantisation=quantisation)
            if progress is not None:
                progress(count, len(names))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        partial.replace(target)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        partial.unlink(missing_ok=True)


def _config(source: Folder) -> Document:
    """Return the config of a plain Llama."""
    config = read_document(source, "config.json") or {}
    rope = cast("Document", config.get("rope_parameters") or config.get("rope_scaling") or {})
    if config.get("model_type") != "llama" or rope.get("rope_type", "default") != "default":
        raise BadInput("not a Llama with plain rotary positions", where="config.json")
    return config


def _describe(writer: GGUFWriter, config: Document, quantisation: str) -> None:
    """Add what llama.cpp must know of the architecture."""
    heads, width = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
    writer.add_file_type(_FILE_TYPES[quantisation])
    writer.add_quantization_version(2)
    writer.add_block_count(_whole(config, "num_hidden_layers"))
    writer.add_context_length(_whole(config, "max_position_embeddings"))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(_whole(config, "intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(_whole(config, "num_key_value_heads"))
    writer.add_vocab_size(_whole(config, "vocab_size"))
    head = _whole(config, "head_dim") if config.get("head_dim") else width // heads
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(_real(config, "rms_norm_eps"))
    rope = cast("Document", config.get("rope_parameters") or {})
    writer.add_rope_freq_base(_real(config | rope, "rope_theta"))


def _add_tokenizer(writer: GGUFWriter, source: Folder) -> None:
    """Add a byte-level BPE tokenizer; another is left out."""
    document = read_document(source, "tokenizer.json") or {}
    model = cast("Document", document.get("model") or {})
    if model.get("type") != "BPE" or "ByteLevel" not in str(document.get("pre_tokenizer")):
        return
    words = cast("Mapping[str, int]", model.get("vocab") or {})
    added = cast("list[Document]", document.get("added_tokens") or [])
    ids = {**words, **{str(one["content"]): cast("int", one["id"]) for one in added}}
    tokens = {place: word for word, place in ids.items()}
    kinds = {ids[str(one["content"])]: _kind(one) for one in added}
    places = range(max(tokens) + 1)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if "individual_digits" in str(document.get("pre_tokenizer")) else "gpt-2")
    writer.add_token_list([tokens.get(at, f"[PAD{at}]") for at in places])
    writer.add_token_types([kinds.get(at, TokenType.NORMAL if at in tokens else TokenType.UNUSED) for at in places])
    merges = cast("list[str | list[str]]", model.get("merges") or [])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    _add_special(writer, read_document(source, "tokenizer_config.json") or {}, ids)


def _kind(added: Document) -> TokenType:
    """Return llama.cpp's type of an added token."""
    return TokenType.CONTROL if added.get("special") else TokenType.USER_DEFINED


def _add_special(writer: GGUFWriter, settings: Document, ids: Mapping[str, int]) -> None:
    """Add the special tokens' ids and the chat template."""
    for name, key in _IDS.items():
        token = settings.get(key)
        word = cast("Document", token).get("content") if isinstance(token, dict) else token
        if isinstance(word, str) and word in ids:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", ids[word])
    writer.add_bool("tokenizer.ggml.add_bos_token", val=False)
    writer.add_bool("tokenizer.ggml.add_space_prefix", val=False)
    if isinstance(template := settings.get("chat_template"), str):
        writer.add_chat_template(template)


def _values(source: Folder, name: str, config: Document) -> Array:
    """Return a tensor as float32, query and key rows in llama.cpp's order."""
    values = cast("Array", source.get_tensor(name).float().numpy())
    for part, heads in _HEADS.items():
        if f".{part}." in name:
            return rows_interleaved(values, _whole(config, heads))
    return values


def _add_tensor(writer: GGUFWriter, name: str, values: Array, *, quantisation: str) -> None:
    """Add a tensor in the type that it is to have."""
    theirs = llama_name(name, where="checkpoint")
    if values.ndim == 1:
        writer.add_tensor(theirs, values)
    elif values.shape[-1] % _BLOCK:
        writer.add_tensor(theirs, values.astype(np.float16))
    else:
        chosen = "Q8_0" if name in _OUTSIDE else quantisation
        writer.add_tensor(theirs, encode(values, chosen), raw_dtype=GGMLQuantizationType[chosen])


def _whole(config: Document, key: str) -> int:
    """Return a whole number of the config."""
    return _convert(config, key, int)


def _real(config: Document, key: str) -> float:
    """Return a number of the config."""
    return _convert(config, key, float)


def _convert(config: Document, key: str, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(config.get(key), kind)
    except msgspec.ValidationError:
        raise BadInput(f"no number {key}", where="config.json") from None
