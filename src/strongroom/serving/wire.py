"""Request bytes in OpenAI's format → what is asked for, or a refusal. Pure: no I/O, no state, no clock."""

from __future__ import annotations

import json
import re
from typing import Final, Literal, TypeVar

import msgspec

from strongroom.ports.completions import Turn
from strongroom.serving.disclosure.fields import UNKNOWN, field_rule, why
from strongroom.serving.wire_bodies import REASONS, AcceptBody, ChatBody, EmbedBody, TextBody
from strongroom.serving.wire_errors import Refusal

_T = TypeVar("_T", bound=msgspec.Struct)
Shape = Literal["chat", "text"]

_CHAT: Final = msgspec.json.Decoder(ChatBody)
_TEXT: Final = msgspec.json.Decoder(TextBody)
_EMBED: Final = msgspec.json.Decoder(EmbedBody)
_ACCEPT: Final = msgspec.json.Decoder(AcceptBody)
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?([^`]{0,200})`$")
_UNKNOWN = re.compile(r"Object contains unknown field `([A-Za-z_][A-Za-z0-9_.]{0,63})`")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_TEXT_DEFAULT: Final = 16  # OpenAI's default for /v1/completions
_COLD: Final = 1e-4  # temperatures below are taken as 0: logits divided by them are no numbers an engine can draw by
_FRAME: Final = 256  # tokens a chat template may add around a conversation…
_FRAME_TURN: Final = 16  # … and around each turn
_PINNED: Final = frozenset({"n", "best_of", "response_format"})


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for. `room` bounds the tokens of its prompt: no tokenizer makes more tokens than bytes."""

    shape: Shape
    model: str
    prompt: str | None = None
    turns: tuple[Turn, ...] = ()
    room: int
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    seed: int | None
    top_logprobs: int | None
    logit_bias: tuple[tuple[int, float], ...] = ()  # by token; without those of 0, which change nothing
    biased: int = 0  # entries as they were sent
    stream: bool
    include_usage: bool


class Vectors(msgspec.Struct, frozen=True, kw_only=True):
    """What a request for embeddings asks for. `room` bounds the tokens of all texts together."""

    model: str
    texts: tuple[str, ...]
    room: int
    base64: bool
    dimensions: int | None


def read_chat(raw: bytes, *, default_tokens: int) -> Wanted | Refusal:
    """Read the body of POST /v1/chat/completions."""
    body = _read(_CHAT, raw)
    if isinstance(body, Refusal):
        return body
    refusal = _odd(body) or _odd_chat(body)
    if refusal is not None:
        return refusal
    return Wanted(
        shape="chat",
        model=body.model,
        turns=tuple([Turn(one.role, one.text()) for one in body.messages]),
        room=len(raw) + _FRAME + _FRAME_TURN * len(body.messages),
        max_tokens=body.max_completion_tokens or body.max_tokens or default_tokens,
        temperature=_temperature(body),
        top_p=body.top_p or 1.0,
        stop=_stops(body),
        seed=body.seed,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        logit_bias=_bias(body.logit_bias) if body.logit_bias else (),
        biased=len(body.logit_bias) if body.logit_bias else 0,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def read_text(raw: bytes) -> Wanted | Refusal:
    """Read the body of POST /v1/completions."""
    body = _read(_TEXT, raw)
    if isinstance(body, Refusal):
        return body
    refusal = _odd(body) or (_unsupported("echo") if body.echo else None)
    if refusal is not None:
        return refusal
    return Wanted(
        shape="text",
        model=body.model,
        prompt=body.prompt,
        room=len(raw) + _FRAME,
        max_tokens=body.max_tokens or _TEXT_DEFAULT,
        temperature=_temperature(body),
        top_p=body.top_p or 1.0,
        stop=_stops(body),
        seed=body.seed,
        top_logprobs=body.logprobs,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def read_embed(raw: bytes) -> Vectors | Refusal:
    """Read the body of POST /v1/embeddings."""
    body = _read(_EMBED, raw)
    if isinstance(body, Refusal):
        return body
    texts = (body.input,) if isinstance(body.input, str) else body.input
    return Vectors(
        model=body.model,
        texts=texts,
        room=len(raw) + _FRAME_TURN * len(texts),
        base64=body.encoding_format == "base64",
        dimensions=body.dimensions,
    )


def read_acceptance(raw: bytes) -> str | Refusal:
    """Read the body of POST /terms: the digest of the terms that are accepted."""
    body = _read(_ACCEPT, raw)
    return body if isinstance(body, Refusal) else body.digest


def _bias(given: dict[str, float]) -> tuple[tuple[int, float], ...]:
    return tuple(sorted((int(token), value) for token, value in given.items() if value))


def _stops(body: ChatBody | TextBody) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else body.stop


def _temperature(body: ChatBody | TextBody) -> float:
    if body.temperature is None:
        return 1.0
    return 0.0 if body.temperature < _COLD else body.temperature


def _odd(body: ChatBody | TextBody) -> Refusal | None:
    if body.stream_options is not None and not body.stream:
        return Refusal("invalid_value", "stream_options", detail="Only with `stream`.")
    return None


def _odd_chat(body: ChatBody) -> Refusal | None:
    if body.top_logprobs is not None and not body.logprobs:
        return Refusal("invalid_value", "top_logprobs", detail=REASONS["top_logprobs"])
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        return Refusal("invalid_value", "max_tokens", detail="Not beside `max_completion_tokens`.")
    return None


def _unsupported(name: str, *, within: str = "") -> Refusal:
    param = f"{within}.{name}" if within else name
    return Refusal("unsupported_parameter", param, detail=REASONS.get(name) or why(name), rule=field_rule(name))


def _read(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T | Refusal:
    try:
        body = decoder.decode(raw)
        if not _all_counted(body, raw):
            _ONCE(raw.decode())
    except msgspec.ValidationError as error:
        return _explained(str(error))
    except (ValueError, RecursionError):
        return Refusal("invalid_json")
    return body


def _all_counted(body: msgspec.Struct, raw: bytes) -> bool:
    """Whether a count shows already that no name came twice.

    Every name is a quote and a colon, with or without space between. Where there is none with, and no more without
    than the body has values (two a message, one a bias), no name is left over that could have come twice.
    """
    if b" :" in raw or b"\t:" in raw or b"\n:" in raw or b"\r:" in raw:
        return False
    values = msgspec.structs.astuple(body)
    inner = 2 * len(body.messages) + len(body.logit_bias or ()) if isinstance(body, ChatBody) else 0
    return raw.count(b'":') == len(values) - values.count(None) + inner


def _explained(text: str) -> Refusal:
    """Say what is wrong with a field: msgspec's own words where they quote no value."""
    place = _PLACE.search(text)
    within = place.group(1) if place else ""
    if unknown := _UNKNOWN.match(text):
        return _unsupported(unknown.group(1), within=within)
    if missing := _MISSING.match(text):
        return Refusal("missing_parameter", f"{within}.{missing.group(1)}" if within else missing.group(1))
    if text.startswith("Object contains unknown field"):
        return Refusal("unsupported_parameter", rule=UNKNOWN)
    name = within.partition(".")[0].partition("[")[0]
    if name in _PINNED:
        return _unsupported(name)
    said = _PLACE.sub("", text) + "." if text.startswith("Expected ") else ""
    return Refusal("invalid_value", within or None, detail=f"{said} {REASONS.get(name, '')}".strip())


def _single(pairs: list[tuple[str, object]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError


# msgspec keeps the last of two fields of one name; what another reader makes of such a body is anybody's guess, so one
# that may have two is read a second time
_ONCE: Final = json.JSONDecoder(object_pairs_hook=_single).decode
