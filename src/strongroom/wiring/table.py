"""URL scheme → class, per port. Adding a technology is one file in `backends` or `engines` and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from strongroom.core.errors import BadSettings, MissingExtra

TABLE: Final[Mapping[str, Mapping[str, str]]] = {
    "ledger": {"sqlite": "strongroom.backends.sqlite_log:SqliteLog"},
    "records": {"sqlite": "strongroom.backends.sqlite_records:SqliteRecords"},
    "blobs": {"file": "strongroom.backends.localfs:LocalBlobs"},
    "snapshot": {"sqlite": "strongroom.backends.sqlite_snapshot:snapshot"},
    "sessions": {"agent": "strongroom.backends.session_agent:AgentSessions"},
    "link": {"unix": "strongroom.backends.link_unix:connect"},
    "kept-link": {"unix": "strongroom.backends.link_kept:keep"},
    "listen": {"unix": "strongroom.backends.link_unix:listen"},
    "completions": {
        "unix": "strongroom.backends.engine_link:LinkCompletions",
        "http": "strongroom.backends.engine_http:HttpCompletions",
        "https": "strongroom.backends.engine_http:HttpCompletions",
    },
    "service": {"transformers": "strongroom.engines.service:Service"},
    "gateways": {"link": "strongroom.engines.link_server:gateways"},
    "engine": {"transformers": "strongroom.engines.transformers_engine:Engine"},
    "tokenizer": {"hf": "strongroom.engines.text_ids:TextIds"},
    "tensors": {
        "np": "strongroom.custody.tensors:as_numpy",
        "pt": "strongroom.engines.torch_tensors:make_tensor",
    },
    "demo-model": {
        "smollm2": "strongroom.engines.demo_model:demo_model",
        "fine-tuned": "strongroom.engines.reference_host:fine_tuned",
        "neighbour": "strongroom.engines.reference_host:neighbour",
        "stranger": "strongroom.engines.tiny_models:stranger",
    },
    "suspects": {
        "safetensors": "strongroom.lineage.suspects:SafetensorsFiles",
        "torch": "strongroom.lineage.pickled:TorchFiles",
        "gguf": "strongroom.engines.gguf_weights:GgufTensors",
    },
    "vectors": {"veil": "strongroom.serving.veil_vectors:VectorVeil"},
    "measure": {"perplexity": "strongroom.engines.mark_cost:mark_cost"},
    "leak": {
        "gguf": "strongroom.engines.gguf_write:write_gguf",
        "laundered": "strongroom.attacks.symmetries:laundered",
    },
    "corpus": {
        "order": "strongroom.privacy.windows.build:order_of",
        "plan": "strongroom.privacy.windows.build:planned",
        "index": "strongroom.privacy.windows.build:build",
        "filter": "strongroom.privacy.filter.run:filter_corpus",
        "wanted": "strongroom.privacy.filter.run:Wanted",
        "deny": "strongroom.privacy.filter.deny:read_deny",
        "against": "strongroom.privacy.overlap:Overlap",
    },
    "recall": {"windows": "strongroom.privacy.windows.reader:open_windows"},
    "attack": {
        "collude": "strongroom.attacks.collude:run",
        "launder": "strongroom.attacks.launder:run",
        "project": "strongroom.attacks.project:run",
        "recite": "strongroom.attacks.recite:run",
    },
}
_EXTRAS: Final[Mapping[str, str]] = {"corpus": "privacy"}  # of a port whose packages are not those of models
_KEYS: Final[Mapping[str, str]] = {"ledger": "ledger.store", "records": "records.store", "blobs": "custody.store"}


def split(port: str, url: str) -> tuple[str, str]:
    """Return a store URL's scheme and the rest: a path that stays under the home, whoever wrote the settings.

    Raises:
        BadSettings: nothing answers to that scheme for `port`, or the path leads out of the home.

    """
    scheme, _, rest = url.partition(":")
    if scheme not in TABLE[port]:
        raise BadSettings(f"no {port} store for {scheme[:20]!r}; there are: {', '.join(TABLE[port])}", where=port)
    place = PurePosixPath(rest)
    if place.is_absolute() or not place.parts or ".." in place.parts or not rest.isprintable():
        raise BadSettings(f"{_KEYS[port]} is no path under the home", where=_KEYS[port])
    return scheme, rest


def load(port: str, scheme: str) -> Any:  # noqa: ANN401 - the caller's annotation says which port it is
    """Return the class or function behind a scheme, imported now.

    Raises:
        MissingExtra: the package that it needs is not installed.

    """
    module, _, name = TABLE[port][scheme].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("strongroom"):
            raise
        remedy = f"Install it with: pip install 'strongroom[{_EXTRAS.get(port, 'torch')}]'"
        raise MissingExtra(f"{scheme} needs {error.name}, which is not installed", where=port, remedy=remedy) from None
