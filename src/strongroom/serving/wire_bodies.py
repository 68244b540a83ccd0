"""The bodies that the gateway takes, field by field. What is not named here is refused (rule 5).

Every optional field may be `null`, for clients send that. A field that is named only to be pinned to its default
(`n`, `best_of`, `echo`, `response_format`) is one that clients send without need.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MOST_TOKENS: Final = 1_000_000
MOST_BIASED: Final = 1024  # entries of a logit_bias; the tier says how many of these
MOST_TEXTS: Final = 64  # that are embedded at once
MOST_DIMENSIONS: Final = 256  # of a vector
_Count = Annotated[int, Meta(ge=1, le=MOST_TOKENS)]
_Stop = Annotated[str, Meta(min_length=1, max_length=256)]
_TokenId = Annotated[str, Meta(pattern=r"^(?:0|[1-9][0-9]{0,8})\Z")]  # one spelling a token
_Bias = Annotated[float, Meta(ge=-100, le=100)]
_Text = Annotated[str, Meta(min_length=1)]
_Named = Annotated[str, Meta(min_length=1, max_length=256)]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`stream_options`: obfuscation is accepted and not done."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class _TextFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`response_format`, of which there is one."""

    type: Literal["text"]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A turn. `refusal` is taken as null only, for clients send our own answers back."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[tuple[_Part, ...], Meta(min_length=1, max_length=256)]
    refusal: None = None

    def text(self) -> str:
        """Return the content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both routes share."""

    model: _Named
    max_tokens: _Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=1e-6, le=1)] | None = None
    stop: _Stop | Annotated[tuple[_Stop, ...], Meta(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    n: Literal[1] | None = None
    user: Annotated[str, Meta(max_length=1024)] | None = None


class ChatBody(_Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/chat/completions."""

    messages: Annotated[tuple[Message, ...], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: _Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None  # the tier says how many of these
    logit_bias: Annotated[dict[_TokenId, _Bias], Meta(max_length=MOST_BIASED)] | None = None
    response_format: _TextFormat | None = None


class TextBody(_Body, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/completions."""

    prompt: str
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    best_of: Literal[1] | None = None


class EmbedBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST /v1/embeddings."""

    model: _Named
    input: _Text | Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=MOST_DIMENSIONS)] | None = None
    user: Annotated[str, Meta(max_length=1024)] | None = None


class AcceptBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /terms."""

    digest: Annotated[str, Meta(min_length=1, max_length=200)]


REASONS: Final = {
    "top_logprobs": "From 0 to 20, and only with `logprobs`.",
    "logprobs": "At most 5.",
    "logit_bias": 'Token ids as text, each once: {"50256": -100}; from -100 to 100.',
    "seed": "From 0 to 2^63 - 1.",
    "top_p": "From 0.000001 to 1.",
    "prompt": "One text; lists and token ids are not taken.",
    "input": f"One text or up to {MOST_TEXTS}, none empty; token ids are not taken.",
    "dimensions": f"Up to {MOST_DIMENSIONS}, and no more than the vectors have.",
    "response_format": 'Only {"type": "text"}.',
}
