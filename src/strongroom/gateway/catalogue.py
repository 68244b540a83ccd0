"""GET /v1/models and below: what is served."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from strongroom.gateway.services import Reply
from strongroom.serving.wire_answers import model_card, model_list
from strongroom.serving.wire_errors import Refusal

MODELS = b"/v1/models"


def show_models(target: bytes, reply: Reply, *, models: Sequence[str], created: int) -> Refusal | None:
    """Answer a request for the list, or for one of its models; return why not, if so."""
    if target == MODELS:
        reply.answer(200, model_list(models, created=created))
        return None
    name = unquote(target[len(MODELS) + 1 :].decode("ascii", "replace"))
    if name not in models:
        return Refusal("model_not_found", "model")
    reply.answer(200, model_card(name, created=created))
    return None
