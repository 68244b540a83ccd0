"""What models a foreign OpenAI-compatible server offers."""

from __future__ import annotations

import http.client
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret

_MOST: Final = 1 << 20  # bytes of an answer
_PATIENCE: Final = 10.0  # seconds
_REMEDY: Final = "Start the engine first, or name its model with --model."


class _Model(msgspec.Struct):
    """One model in the list."""

    id: str


class _Models(msgspec.Struct):
    """The list."""

    data: list[_Model]


def models_of(url: str, key: Secret | None = None) -> tuple[str, ...]:
    """Return the ids of the models that the server at `url` lists.

    Raises:
        StoreUnavailable: it does not answer, or not as OpenAI would.

    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    line = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    path = parts.path.rstrip("/").removesuffix("/v1") + "/v1/models"
    try:
        line.request("GET", path, headers={"Authorization": f"Bearer {key.reveal().decode()}"} if key else {})
        answer = line.getresponse()
        if answer.status in {401, 403}:
            key_remedy = "Give its key with --engine-key-file."
            raise StoreUnavailable(f"it answers {answer.status}", where=_place(parts), remedy=key_remedy)
        models = msgspec.json.decode(answer.read(_MOST), type=_Models).data
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        reason = f"no list of models ({type(error).__name__})"
        raise StoreUnavailable(reason, where=_place(parts), remedy=_REMEDY) from None
    finally:
        line.close()
    if not models:
        raise StoreUnavailable("it lists no model", where=_place(parts), remedy=_REMEDY)
    return tuple(model.id for model in models)


def _place(parts: SplitResult) -> str:
    return f"{parts.hostname}:{parts.port or parts.scheme}"
