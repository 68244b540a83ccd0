"""A model that many ask at once: what the gateway says to an engine, and what comes back, piece by piece.

The messages are the wire of the local link, too (docs/formats/link-1.md). An ask names an account, never a key: the
engine fetches that account's mark itself, so that nobody who can speak to the gateway can choose or leave out a mark.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

import msgspec

Finish = Literal["stop", "length"]

ENGINE_CODES: Final = (
    "bad_prompt",  # empty, or the model takes no conversations: the client's fault (400)
    "prompt_too_long",  # leaves no room in the model's context, or in the budget (400)
    "busy",  # the queue is full: come back later (429 with Retry-After)
    "cancelled",  # the asker said so
    "unsupported",  # this engine has no such thing, embeddings say (501)
    "unavailable",  # the engine is starting, stopping or gone (503)
    "mark_unavailable",  # the account's mark can't be had: nothing is written unmarked (503)
    "failed",  # anything else inside the engine (500): details are in its log, without any text
)


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A message about one request."""

    id: str


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message of an engine over a link: the model is loaded. `context` 0: its length is not known."""

    model: str
    context: int


class Turn(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Ask(_Message, frozen=True, kw_only=True):
    """Continue `prompt`, or answer `turns` (exactly one of them is given).

    `budget` bounds prompt and completion tokens together: a prompt that leaves no room is refused (prompt_too_long),
    and writing ends there with "length". `top_logprobs` None: no logprobs; n: the chosen token's and the n likeliest's.
    """

    account: str
    model: str
    prompt: str | None = None
    turns: tuple[Turn, ...] = ()
    max_tokens: int
    budget: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()  # token and what is added to its logit before the draw
    streamed: bool = True


class Embed(_Message, frozen=True, kw_only=True):
    """Say where `texts` lie: one vector each. `budget` bounds the tokens of all together."""

    account: str
    model: str
    texts: tuple[str, ...]
    budget: int


class Cancel(_Message, frozen=True, kw_only=True):
    """Stop writing: the client has left, or the gateway has cut it."""


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token's text, bytes and log probability (natural) under the model, and the likeliest in its place."""

    token: str
    bytes: tuple[int, ...]
    logprob: float
    top: tuple[tuple[str, tuple[int, ...], float], ...] = ()


class Begun(_Message, frozen=True, kw_only=True):
    """The prompt was read: this many tokens (0: not known before the end).

    `marked`: text from here on carries the account's mark where it can.
    """

    prompt_tokens: int
    marked: bool


class Piece(_Message, frozen=True, kw_only=True):
    """The next characters, and how many sampled tokens stand behind them since the last piece.

    `text` may be empty (a character that waits for its last byte, a possible stop string that is held back).
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning: str = ""  # what the model thought, where its server tells that apart


class Ended(_Message, frozen=True, kw_only=True):
    """All is written. `marked_tokens` of the `completion_tokens` were drawn under the mark."""

    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    marked_tokens: int


class Failed(_Message, frozen=True, kw_only=True):
    """It went wrong: one of `ENGINE_CODES`, and a sentence that quotes nothing from prompt or answer."""

    code: str
    message: str


class Embedded(_Message, frozen=True, kw_only=True):
    """The vectors, one after the other: `width` little-endian float32 each. Nothing follows."""

    width: int
    vectors: bytes
    prompt_tokens: int


Last = Ended | Embedded | Failed
Answer = Begun | Piece | Ended | Embedded | Failed


class Sink(Protocol):
    """Whoever asked. Called on the event loop, in order; nothing follows `Ended`, `Embedded` or `Failed`."""

    def on_answer(self, answer: Answer) -> None:
        """Take the next message about the request."""
        ...


class Completions(Protocol):
    """An engine, wherever it runs. One event loop, no blocking calls."""

    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        """Begin. Whatever happens, `sink` gets exactly one `Ended` (of an `Embed`: `Embedded`) or `Failed`."""
        ...

    def cancel(self, request: str) -> None:
        """Stop the request of that id; its sink hears nothing any more."""
        ...

    def ready(self) -> bool:
        """Whether an ask would reach a loaded model now."""
        ...

    def close(self) -> None:
        """Let go; every open ask fails with "unavailable"."""
        ...
