"""The routes and field rules that `serving prove-limits` breaks, one request each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

EMBEDDINGS: Final = "/v1/embeddings"
_CHAT: Final = "/v1/chat/completions"
_TEXT: Final = "/v1/completions"
_ROUTES: Final = (("POST", _CHAT), ("POST", _TEXT), ("GET", "/v1/models"), ("GET", "/terms"))
# Routes that servers of other makes have, and that go round what is governed here.
_CLOSED: Final = ("/invocations", "/props", "/slots", "/tokenize", "/pooling", "/completion", "/v1/fine_tuning/jobs")
_FIELDS: Final[dict[str, object]] = {
    "tools": [],
    "prediction": {},
    "store": True,
    "top_k": 5,
    "grammar": "root",
    "n_probs": 10,
    "watermarking": False,
    "vllm_xargs": {},
    "prompt_logprobs": 5,
    "prompt_logprob_token_ids": [1],
    "allowed_token_ids": [1],
}
_MESSAGES: Final[dict[str, object]] = {"messages": [{"role": "user", "content": "go"}]}


class Rule(msgspec.Struct, frozen=True):
    """A request that must be refused with `code`, about the field `param`."""

    name: str
    method: str
    target: str
    code: str
    param: str | None = None
    body: dict[str, object] | None = None


def routes_and_fields() -> Iterator[Rule]:
    """Yield every rule that is to be tried: routes without a key, routes that are closed, fields that are not taken."""
    for method, target in _ROUTES:
        body: dict[str, object] | None = {} if method == "POST" else None
        yield Rule(f"route {method} {target} wants a key", method, target, "missing_api_key", body=body)
    for target in _CLOSED:
        yield Rule(f"route POST {target} is closed", "POST", target, "not_found", body={})
    for target, needed in ((_CHAT, _MESSAGES), (_TEXT, {"prompt": "go"})):
        for field, value in _FIELDS.items():
            body = {**needed, field: value}
            yield Rule(f"field {field} of {target} is refused", "POST", target, "unsupported_parameter", field, body)
