"""A whole Llama in memory, for attacks that change more than single weights: shapes, layers, vocabulary, coordinates.

A body is a `ports.weights.WeightSource`, so that it runs as it is; its config follows its tensors. Written down, it is
what a thief would pass on: a folder that transformers loads, a GGUF file, or a part of either.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.engines.folder import FLOATS, Folder, disk_error, write_like
from strongroom.engines.gguf_weights import CODECS
from strongroom.engines.gguf_write import write_gguf

Array = npt.NDArray[np.float32]

EMBEDDING: Final = "model.embed_tokens.weight"
HEAD: Final = "lm_head.weight"
FINAL_NORM: Final = "model.norm.weight"
GATE, UP, DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"
QUERY, KEY, VALUE, OUTPUT = "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"
ATTENTION_NORM, MLP_NORM = "input_layernorm", "post_attention_layernorm"
MATRICES: Final = (QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN)

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_LAYER: Final = re.compile(r"^model\.layers\.(\d+)\.(.+)\.weight$")


def tensor_name(layer: int, part: str) -> str:
    """Return the name of a layer's tensor."""
    return f"model.layers.{layer}.{part}.weight"


def layer_of(name: str) -> tuple[int, str] | None:
    """Return the layer and the part that a tensor's name says, or None: it is outside the layers."""
    found = _LAYER.match(name)
    return (int(found[1]), found[2]) if found else None


def is_projection(name: str) -> bool:
    """Say whether it is the weight of a layer's linear map."""
    place = layer_of(name)
    return place is not None and place[1] in MATRICES


@dataclass(frozen=True, slots=True)
class Body:
    """A model: its tensors in float32, and the files beside them. Nobody changes the arrays of a body in place."""

    tensors: Mapping[str, Array]
    config: Mapping[str, object]
    beside: Mapping[str, bytes]  # tokenizer and the like, by name
    stored: str  # how it is written: float16, bfloat16, float32, or GGUF's Q8_0, Q4_0, Q4_1

    @property
    def layers(self) -> int:
        """How many layers there are tensors of."""
        return len({place[0] for name in self.tensors if (place := layer_of(name))})

    @property
    def heads(self) -> tuple[int, int]:
        """The number of query heads, and of key and value heads."""
        return cast("int", self.config["num_attention_heads"]), cast("int", self.config["num_key_value_heads"])

    def part(self, layer: int, part: str) -> Array:
        """Return a layer's tensor."""
        return self.tensors[tensor_name(layer, part)]

    def changed(self, tensors: Mapping[str, Array]) -> Body:
        """Return a body with these tensors in the place of its own, or beside them; a GGUF file's becomes bfloat16."""
        stored = self.stored if self.stored in FLOATS else "bfloat16"
        return replace(self, tensors={**self.tensors, **tensors}, stored=stored)

    # ── as a model (`ports.weights.WeightSource`) ───────────────────────────────────────────────────────────────────
    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return list(self.tensors)

    def get_tensor(self, name: str) -> Array:
        """Return a tensor."""
        return self.tensors[name]

    def files(self) -> list[str]:
        """Return the names of the files."""
        return [_CONFIG, *self.beside]

    def read_file(self, path: str) -> bytes:
        """Return one of them; the config is written anew from the tensors."""
        if path != _CONFIG:
            return self.beside[path]
        embedding = self.tensors.get(EMBEDDING)
        document = dict(self.config) | {"dtype": "float32", "num_hidden_layers": self.layers}
        document["tie_word_embeddings"] = HEAD not in self.tensors
        if gate := [values for name, values in self.tensors.items() if GATE in name]:
            document["intermediate_size"] = gate[0].shape[0]
        if embedding is not None:
            document["vocab_size"] = embedding.shape[0]
        return json.dumps(document, indent=1).encode()


def body_of(folder: Path) -> Body:
    """Return the Llama in a folder.

    Raises:
        BadInput: it holds none, or one with tensors that a plain Llama doesn't have.

    """
    source = Folder(folder)
    tensors = {name: cast("Array", source.get_tensor(name).float().numpy()) for name in source.keys()}  # noqa: SIM118 - a source is no mapping
    for name in tensors:
        place = layer_of(name)
        if name not in {EMBEDDING, HEAD, FINAL_NORM} and (
            place is None or place[1] not in {*MATRICES, ATTENTION_NORM, MLP_NORM}
        ):
            raise BadInput("a tensor that a plain Llama doesn't have", where=name[:200])
    config = cast("dict[str, object]", json.loads(source.read_file(_CONFIG)))
    beside = {one: source.read_file(one) for one in source.files() if one != _CONFIG and not one.endswith("tensors")}
    return Body(tensors, config, beside, str(config.get("dtype") or "float32"))


def write_body(body: Body, target: Path) -> Path:
    """Write `body` as it is stored: to the folder `target`, or to the GGUF file `target`.gguf; return which.

    Raises:
        BadInput: a type that nothing is stored in.
        StorageError: the disk said no.

    """
    if body.stored not in CODECS:
        write_like(body, body.tensors, target, dtype=body.stored)
        return target
    plain, file = target.with_name(target.name + ".plain"), target.with_name(target.name + ".gguf")
    try:
        write_like(body, body.tensors, plain, dtype="float32")
        write_gguf(plain, file, body.stored)
    finally:
        shutil.rmtree(plain, ignore_errors=True)
    return file


def write_some(body: Body, layers: Collection[int], target: Path) -> Path:
    """Write the tensors of some layers, and nothing else, to the file `target`.safetensors, as a shard that got out.

    Raises:
        StorageError: the disk said no.

    """
    kept = {name: one for name, one in body.tensors.items() if (place := layer_of(name)) and place[0] in layers}
    return _lone_file(replace(body, tensors=kept), target)


def write_cut(body: Body, share: float, target: Path) -> Path:
    """Write the weights to the file `target`.safetensors and cut it off after `share` of its bytes.

    Raises:
        StorageError: the disk said no.

    """
    file = _lone_file(body, target)
    with file.open("rb+") as stream:
        stream.truncate(int(share * file.stat().st_size))
    return file


def _lone_file(body: Body, target: Path) -> Path:
    """Write the weights alone."""
    folder, file = target.with_name(target.name + ".plain"), target.with_name(target.name + ".safetensors")
    try:
        write_like(body, body.tensors, folder, dtype=body.stored)
        (folder / _WEIGHTS).replace(file)
    except OSError as error:
        raise disk_error(error, target) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return file
