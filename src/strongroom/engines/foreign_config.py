"""A checkpoint's JSON files, read as data: whatever in them would fetch or run code is refused.

The lists below are what transformers 5 acts on: `auto_map` and its kin name Python files inside the model; an attention
or experts implementation of the form ``owner/name`` fetches a compiled kernel; a quantisation config picks a third
party's package to run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import msgspec

from strongroom.core.errors import BadInput
from strongroom.core.serving_errors import UntrustedCode
from strongroom.ports.weights import WeightSource

Document = dict[str, object]

_CODE = {
    "auto_map",
    "custom_generate",
    "custom_pipelines",
    "fusion_config",
    "kernel_config",
    "quantization_config",
    "trust_remote_code",
    "use_kernels",
    "use_pretrained_backbone",
}
_IMPLEMENTATIONS = {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention", "grouped_mm"}


def read_document(source: WeightSource, path: str) -> Document | None:
    """Return the JSON object in the file `path` of the checkpoint, or None if there is no such file.

    Raises:
        BadInput: the file is no JSON object.
        UntrustedCode: it asks for code to be fetched or run.

    """
    if path not in source.files():
        return None
    try:
        document = msgspec.json.decode(source.read_file(path), type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadInput("not a JSON object", where=path) from None
    refuse_code(document, where=path)
    return document


def refuse_code(document: Document, *, where: str) -> None:
    """Return if nothing in `document`, at any depth, asks for code.

    Raises:
        UntrustedCode: something does; the message names the key, never its value.

    """
    for key, value in _pairs(document):
        asked = key in _CODE and bool(value)
        fetched = key.endswith("_implementation") and not _implementation_is_plain(value)
        if asked or fetched:
            raise UntrustedCode(f"{key!r} asks for code that transformers does not ship", where=where)


def _implementation_is_plain(value: object) -> bool:
    """Say whether an implementation is unset or one of transformers' own, for every part of the model."""
    if isinstance(value, dict):
        return all(_implementation_is_plain(part) for part in cast("Document", value).values())
    return value is None or value in _IMPLEMENTATIONS


def _pairs(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in cast("Document", value).items():
            yield key, inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in cast("list[object]", value):
            yield from _pairs(inner)
