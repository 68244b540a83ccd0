"""OpenAI's wire format as a client of it sees it: requests out of asks, answers out of bodies. No I/O.

Fields that we don't know are ignored (servers add their own), what we know is typed, and no text of an upstream's error
is passed on: it may quote the prompt.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

import msgspec

from strongroom.backends.http_vectors import Vectors
from strongroom.core.errors import InputTooLarge
from strongroom.ports.completions import Answer, Ask, Begun, Embed, Ended, Failed, Finish, Piece, TokenLogprob, Turn

_LINE_LIMIT: Final = 1 << 20  # bytes of one event
_BODY_LIMIT: Final = 32 << 20  # bytes of a whole answer
_ERROR_LIMIT: Final = 65_536
_TOO_LONG: Final = frozenset({"exceed_context_size_error", "context_length_exceeded"})
_CODES: Final = {400: "bad_prompt", 404: "bad_prompt", 413: "prompt_too_long", 422: "bad_prompt", 429: "busy"}
_MESSAGES: Final = {
    "bad_prompt": "the engine does not take this prompt or option",
    "prompt_too_long": "the prompt leaves no room for an answer",
    "busy": "the engine has too much to do",
    "unsupported": "the engine has no such thing",
    "unavailable": "the engine is not there",
    "failed": "the engine's answer can't be read",
}

Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]  # below 0 they would give a budget back what was used of it


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────
class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request's body; what is at its default is left out, for servers refuse what they don't know."""

    model: str
    prompt: str | None = None
    messages: tuple[Turn, ...] = ()
    max_tokens: int
    temperature: float | None = None
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] = {}
    stream: bool = False
    stream_options: dict[str, bool] | None = None


class _EmbedBody(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    input: tuple[str, ...]


_ENCODER: Final = msgspec.json.Encoder()


def body(ask: Ask | Embed, model: str) -> bytes:
    """Return the JSON body that asks `model` for what `ask` says."""
    if isinstance(ask, Embed):
        return _ENCODER.encode(_EmbedBody(model=model, input=ask.texts))
    chat = ask.prompt is None
    # one at least: some servers take 0 to mean that no logprobs are wanted at all
    top = None if ask.top_logprobs is None else max(ask.top_logprobs, 1)
    return _ENCODER.encode(
        _Body(
            model=model,
            prompt=ask.prompt,
            messages=ask.turns,
            max_tokens=min(ask.max_tokens, ask.budget),
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            seed=ask.seed,
            stop=ask.stop,
            logprobs=True if chat and top else top,
            top_logprobs=top if chat else None,
            logit_bias={str(token): value for token, value in ask.logit_bias},
            stream=ask.streamed,
            stream_options={"include_usage": True} if ask.streamed else None,
        )
    )


# ── what comes back ──────────────────────────────────────────────────────────────────────────────────────────────────
class _Top(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[Byte, ...] | None = None


class _Token(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: tuple[Byte, ...] | None = None
    top_logprobs: tuple[_Top, ...] = ()


class _Logprobs(msgspec.Struct, frozen=True):
    """Both shapes: the chat one has `content`, the older one three lists side by side."""

    content: tuple[_Token, ...] | None = None
    tokens: tuple[str, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None


class _Said(msgspec.Struct, frozen=True):
    content: str | None = None
    reasoning_content: str | None = None  # llama.cpp, DeepSeek, vLLM before 0.12…
    reasoning: str | None = None  # … and after


class _Choice(msgspec.Struct, frozen=True):
    text: str | None = None
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None

    @property
    def said(self) -> str:
        """The text, wherever it stands."""
        holder = self.delta or self.message
        return (holder.content if holder else self.text) or ""

    @property
    def thought(self) -> str:
        """What was thought, where it stands apart."""
        holder = self.delta or self.message
        return (holder.reasoning_content or holder.reasoning or "") if holder else ""


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Tokens = 0
    completion_tokens: Tokens = 0  # 0: not told


class _Chunk(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


class _Error(msgspec.Struct, frozen=True):
    type: str | None = None
    code: str | int | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Error = _Error()


_DECODE: Final = msgspec.json.Decoder(_Chunk).decode


class Reading(Protocol):
    """Turns the bytes of one response into answers."""

    def feed(self, data: bytes) -> list[Answer]:
        """Take the next bytes.

        Raises:
            InputTooLarge: they are more than there may be.
            msgspec.MsgspecError: they are not what was expected.

        """
        ...

    def end(self) -> list[Answer]:
        """Return what is left to say at the end of the body.

        Raises:
            msgspec.MsgspecError: the body is not what was expected.

        """
        ...


def reading(ask: Ask | Embed, status: int, content_type: bytes) -> Reading:
    """Return what reads a response of that status and content type."""
    if isinstance(ask, Embed):
        return Vectors(ask, status)
    if status != 200:  # noqa: PLR2004 - HTTP's OK
        return _Refused(ask, status)
    return _Streamed(ask) if content_type.startswith(b"text/event-stream") else _Whole(ask)


def failed(ask: Ask | Embed, code: str) -> Failed:
    """Return the failure of `ask` in our own words."""
    return Failed(id=ask.id, code=code, message=_MESSAGES[code])


class _Streamed:
    """Server-sent events, one JSON chunk a line."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._rest = b""
        self._begun = False
        self._finish: Finish | None = None
        self._usage: _Usage | None = None
        self._counted = 0
        self._left = 2 * ask.max_tokens + 64  # chunks that there may be, for a server that never ends
        self._over = False

    def feed(self, data: bytes) -> list[Answer]:
        lines = (self._rest + data if self._rest else data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LINE_LIMIT:
            raise InputTooLarge("an event is too long", where="upstream")
        said: list[Answer] = []
        for line in lines:
            if line.startswith(b"data:") and not self._over:
                said += self._event(line[5:].strip())
        return said

    def end(self) -> list[Answer]:
        return [] if self._over else [self._ended()]

    def _event(self, raw: bytes) -> list[Answer]:
        if raw == b"[DONE]":
            self._over = True
            return [self._ended()]
        chunk = _DECODE(raw)
        self._left -= 1
        if chunk.error is not None or self._left < 0:
            self._over = True
            return [failed(self._ask, "failed")]
        self._usage = chunk.usage or self._usage
        return self._chosen(chunk.choices[0]) if chunk.choices else []

    def _chosen(self, choice: _Choice) -> list[Answer]:
        said: list[Answer] = []
        if not self._begun:
            self._begun = True
            said.append(Begun(id=self._ask.id, prompt_tokens=0, marked=False))
        self._finish = _finish(choice.finish_reason) or self._finish
        text, thought, logprobs = choice.said, choice.thought, _logprobs(self._ask, choice)
        if text or logprobs or thought:
            tokens = len(logprobs) or 1
            self._counted += tokens
            # some servers list the tokens of a thought with those of the text
            shown = () if thought and not text else logprobs
            said.append(Piece(id=self._ask.id, text=text, tokens=tokens, logprobs=shown, reasoning=thought))
        return said

    def _ended(self) -> Ended | Failed:
        if self._finish is None:
            return failed(self._ask, "unavailable")
        return _ended(self._ask, self._finish, _told(self._usage, self._counted))


class _Whole:
    """One JSON document."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        self._body += data
        if len(self._body) > _BODY_LIMIT:
            raise InputTooLarge("the answer is too long", where="upstream")
        return []

    def end(self) -> list[Answer]:
        chunk = _DECODE(self._body)
        finish = _finish(chunk.choices[0].finish_reason) if chunk.choices else None
        if chunk.error is not None or finish is None:
            return [failed(self._ask, "failed")]
        choice = chunk.choices[0]
        thought, logprobs = choice.thought, _logprobs(self._ask, choice)
        wrote = chunk.usage is None or choice.said or thought
        usage = _told(chunk.usage, (len(logprobs) or self._ask.max_tokens) if wrote else 0)
        return [
            Begun(id=self._ask.id, prompt_tokens=usage.prompt_tokens, marked=False),
            Piece(
                id=self._ask.id,
                text=choice.said,
                tokens=usage.completion_tokens,
                logprobs=logprobs,
                reasoning=thought,
            ),
            _ended(self._ask, finish, usage),
        ]


class _Refused:
    """An error's body, of which only the kind is looked at."""

    def __init__(self, ask: Ask, status: int) -> None:
        self._ask = ask
        self._status = status
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        self._body += data[: _ERROR_LIMIT - len(self._body)]
        return []

    def end(self) -> list[Answer]:
        code = _CODES.get(self._status, "unavailable")
        try:
            error = msgspec.json.decode(self._body, type=_ErrorBody).error
        except msgspec.MsgspecError:
            error = _Error()
        if code == "bad_prompt" and (error.type in _TOO_LONG or error.code in _TOO_LONG):
            code = "prompt_too_long"
        return [failed(self._ask, code)]


def _finish(reason: str | None) -> Finish | None:
    if reason is None:
        return None
    return "length" if reason == "length" else "stop"


def _told(usage: _Usage | None, counted: int) -> _Usage:
    """Return the usage that the server tells, with the tokens of the answer that were `counted` where it tells none."""
    usage = usage or _Usage()
    return usage if usage.completion_tokens else _Usage(usage.prompt_tokens, counted)


def _ended(ask: Ask, finish: Finish, usage: _Usage) -> Ended:
    return Ended(
        id=ask.id,
        finish=finish,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        marked_tokens=0,
    )


def _logprobs(ask: Ask, choice: _Choice) -> tuple[TokenLogprob, ...]:
    """Return the logprobs, if they were asked for, in whichever shape they came."""
    given = choice.logprobs
    if given is None or ask.top_logprobs is None:
        return ()
    if given.content is not None:
        return tuple(_token(one, ask.top_logprobs) for one in given.content)
    tokens, values = given.tokens or (), given.token_logprobs or ()
    tops = given.top_logprobs or (None,) * len(tokens)
    return tuple(
        _token(_Token(token, value or 0.0, None, tuple(_Top(*pair) for pair in (top or {}).items())), ask.top_logprobs)
        for token, value, top in zip(tokens, values, tops, strict=False)
    )


def _token(one: _Token, count: int) -> TokenLogprob:
    top = tuple((other.token, _bytes(other), other.logprob) for other in one.top_logprobs[:count])
    return TokenLogprob(one.token, _bytes(one), one.logprob, top)


def _bytes(one: _Token | _Top) -> tuple[int, ...]:
    return tuple(one.token.encode("utf-8", "replace")) if one.bytes is None else one.bytes
