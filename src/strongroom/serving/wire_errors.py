"""What a client is told when it is refused: one table of codes, in the shape of OpenAI's errors.

These are answers, not exceptions: they cross no package border as an error, they are values that end up as bytes. A
refusal never quotes what the client sent, but for the name of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A code's HTTP status, OpenAI's name for its family, and what is said."""

    status: int
    family: str
    message: str
    retry: bool | None = None  # what the official client is told in x-should-retry; None: its own rules are right


class Refusal(msgspec.Struct, frozen=True):
    """No, and why: a code of `KINDS`, the field it is about, and when to come back (seconds)."""

    code: str
    param: str | None = None
    retry_after: float | None = None
    detail: str = ""  # a sentence of ours about the field; never a word of the client's
    rule: str = ""  # of what may be disclosed: the one that fired (disclosure.fields.RULES)

    @property
    def kind(self) -> Kind:
        """The row of the table."""
        return KINDS[self.code]


_REQUEST: Final = "invalid_request_error"
_RATE: Final = "rate_limit_error"
_SERVER: Final = "server_error"

KINDS: Final[Mapping[str, Kind]] = {
    # the request's bytes
    "bad_request": Kind(400, _REQUEST, "This is not a request of HTTP/1.1 as the gateway reads it."),
    "http_version_not_supported": Kind(505, _REQUEST, "Speak HTTP/1.1. Behind nginx: proxy_http_version 1.1."),
    "length_required": Kind(411, _REQUEST, "Send the body with a Content-Length; chunked bodies are not taken."),
    "request_timeout": Kind(408, _REQUEST, "The request did not arrive in time.", retry=False),
    "headers_too_large": Kind(431, _REQUEST, "The request's headers are over the limit."),
    "body_too_large": Kind(413, _REQUEST, "The request's body is over the limit."),
    "unsupported_media_type": Kind(415, _REQUEST, "Send application/json, not compressed."),
    "expectation_failed": Kind(417, _REQUEST, "Only `Expect: 100-continue` is understood."),
    "not_found": Kind(404, _REQUEST, "There is no such path."),
    "method_not_allowed": Kind(405, _REQUEST, "This path does not take that method."),
    # the body
    "invalid_json": Kind(400, _REQUEST, "The body is not JSON (RFC 8259, UTF-8, no name twice in an object)."),
    "invalid_value": Kind(400, _REQUEST, "A field's value is not of the expected form."),
    "missing_parameter": Kind(400, _REQUEST, "A required field is missing."),
    "unsupported_parameter": Kind(400, _REQUEST, "This gateway does not take that field."),
    "model_not_found": Kind(404, _REQUEST, "There is no such model; GET /v1/models lists those that are served."),
    "bad_prompt": Kind(400, _REQUEST, "The model can't answer this prompt: it is empty, or takes no conversations."),
    "prompt_too_long": Kind(400, _REQUEST, "The prompt leaves no room in the model's context."),
    # who asks
    "missing_api_key": Kind(401, "authentication_error", "Send your key as `Authorization: Bearer KEY`."),
    "invalid_api_key": Kind(401, "authentication_error", "The API key is unknown or was revoked."),
    "account_inactive": Kind(403, "permission_error", "The account is not active."),
    "terms_not_accepted": Kind(
        403,
        "permission_error",
        "The terms of use were not accepted with this key. Read them at GET /terms and accept them with POST /terms "
        '{"digest": "..."}, or have the operator record it (`strongroom serving terms accept`).',
    ),
    "terms_changed": Kind(409, _REQUEST, "Those are not the terms in force: GET /terms shows them.", retry=False),
    # what may be disclosed
    "not_in_tier": Kind(403, "permission_error", "This account's tier does not have that."),
    "bias_sets_exceeded": Kind(
        429, _RATE, "The account has asked with too many distinct sets of biases on this UTC day.", retry=False
    ),
    "recall_withheld": Kind(
        403, "permission_error", "The answer was withheld: it repeats text that the model was trained on.", retry=False
    ),
    "recall_limit_exceeded": Kind(
        429, _RATE, "Too many of the account's answers had to be withheld on this UTC day.", retry=False
    ),
    "not_served": Kind(501, _SERVER, "Nothing here serves that.", retry=False),
    # how much
    "rate_limit_exceeded": Kind(429, _RATE, "There were too many requests within a minute."),
    "too_many_open_requests": Kind(429, _RATE, "Too many requests are open at once."),
    "tokens_per_day_exceeded": Kind(429, _RATE, "Too few tokens are left for this UTC day.", retry=False),
    "money_per_day_exceeded": Kind(429, _RATE, "Too little money is left for this UTC day.", retry=False),
    "embeddings_per_day_exceeded": Kind(429, _RATE, "Too few embeddings are left for this UTC day.", retry=False),
    "busy": Kind(429, _RATE, "The model's queue is full."),
    # the house
    "engine_unavailable": Kind(503, _SERVER, "The model can't be reached now."),
    "mark_unavailable": Kind(503, _SERVER, "The account's mark can't be had, and nothing is written unmarked."),
    "control_unavailable": Kind(503, _SERVER, "Accounts and budgets can't be looked up now."),
    "usage_unavailable": Kind(503, _SERVER, "Usage can't be recorded now, so nothing is served."),
    "recall_unavailable": Kind(503, _SERVER, "What answers must be compared with can't be had, so nothing is served."),
    "stopping": Kind(503, _SERVER, "The gateway is stopping."),
    "too_many_connections": Kind(503, _SERVER, "Too many connections are open."),
    "engine_failed": Kind(500, _SERVER, "The model failed while it wrote. The engine's log says more."),
}

# ports.completions.ENGINE_CODES as the client hears of them
OF_ENGINE: Final[Mapping[str, str]] = {
    "bad_prompt": "bad_prompt",
    "prompt_too_long": "prompt_too_long",
    "busy": "busy",
    "cancelled": "engine_unavailable",
    "unavailable": "engine_unavailable",
    "mark_unavailable": "mark_unavailable",
    "unsupported": "not_served",
    "failed": "engine_failed",
}
_RETRY_SOON: Final = 1.0


def refuse(code: str, *, retry_after: float | None = None, param: str | None = None) -> Refusal:
    """Return the refusal of a code; whoever may come back is told when."""
    if retry_after is None and KINDS[code].status in {429, 503}:
        retry_after = _RETRY_SOON
    return Refusal(code, param, retry_after)


def document(refusal: Refusal) -> bytes:
    """Return the error as OpenAI's clients read it."""
    kind = refusal.kind
    about = f" ({refusal.param})" if refusal.param else ""  # some clients print the message alone
    message = f"{kind.message}{about} {refusal.detail}".rstrip()
    error = {"message": message, "type": kind.family, "param": refusal.param, "code": refusal.code}
    return msgspec.json.encode({"error": error})
