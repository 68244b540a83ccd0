"""The whole policy on one request, for people: everything that it would be refused for, not only the first thing.

The gateway asks the same readers and the same tier, and stops at the first no. Here they are asked again without what
they have refused, until nothing is left: so the two can't disagree about whether a request is let in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, cast

import msgspec

from strongroom.serving.disclosure import gate
from strongroom.serving.disclosure.fields import FINE_TUNING, UNKNOWN, field_rule, path_rule
from strongroom.serving.disclosure.tiers import Tier
from strongroom.serving.wire import Vectors, Wanted, read_acceptance, read_chat, read_embed, read_text
from strongroom.serving.wire_bodies import AcceptBody, ChatBody, EmbedBody, TextBody
from strongroom.serving.wire_errors import Refusal

CHAT: Final = "/v1/chat/completions"
TEXT: Final = "/v1/completions"
EMBED: Final = "/v1/embeddings"
MODELS: Final = "/v1/models"
TERMS: Final = "/terms"
METHODS: Final[Mapping[str, tuple[str, ...]]] = {
    CHAT: ("POST",),
    TEXT: ("POST",),
    EMBED: ("POST",),
    MODELS: ("GET",),
    "/health": ("GET",),
    TERMS: ("GET", "POST"),
    FINE_TUNING: ("GET", "POST", "DELETE"),
}

_Body = dict[str, object]
_RULES: Final = {"invalid_value": "value", "missing_parameter": "missing", "invalid_json": "json"}
_STAND_INS: Final[_Body] = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "prompt": "x",
    "input": "x",
    "digest": "x",
}
_MOST: Final = 64  # refusals of one request that are looked for


class Finding(msgspec.Struct, frozen=True):
    """A field (or ``path``, ``method``, ``body``) that is refused, and the rule: one of `disclosure.fields.RULES`."""

    field: str
    rule: str


class _Route(msgspec.Struct, frozen=True):
    """How a route's body is read, and which fields it may have."""

    read: Callable[[bytes], Wanted | Vectors | str | Refusal]
    fields: tuple[str, ...]


def _chat(raw: bytes) -> Wanted | Refusal:
    return read_chat(raw, default_tokens=1)


_ROUTES: Final = {
    CHAT: _Route(_chat, ChatBody.__struct_fields__),
    TEXT: _Route(read_text, TextBody.__struct_fields__),
    EMBED: _Route(read_embed, EmbedBody.__struct_fields__),
    TERMS: _Route(read_acceptance, AcceptBody.__struct_fields__),
}


def route_of(target: str) -> str:
    """Return the route that a request's target means; the target itself where it means none."""
    if target.startswith(f"{MODELS}/"):
        return MODELS
    return FINE_TUNING if target == FINE_TUNING or target.startswith(f"{FINE_TUNING}/") else target


def fields_of(path: str) -> tuple[str, ...]:
    """Return the fields that the body of a path's POST may have; none where it has no body."""
    return _ROUTES[path].fields if path in _ROUTES else ()


def check(method: str, path: str, raw: bytes, *, tier: Tier) -> tuple[Finding, ...]:
    """Return everything that a request is refused for under `tier`; nothing: it is let in, as far as its words go.

    What depends on the moment (keys, limits, how many sets of biases were asked already) is not looked at.
    """
    route = route_of(path)
    if route not in METHODS:
        return (Finding("path", path_rule(path)),)
    if method not in METHODS[route]:
        return (Finding("method", "method"),)
    if route == FINE_TUNING:
        return (Finding("path", gate.fine_tuning(tier).rule),)
    found = list[Finding]()
    if route == EMBED and gate.embeddings(tier) is not None:
        found.append(Finding("path", "embeddings"))
    if method == "POST":
        found += _body(_ROUTES[route], raw, tier)
    return tuple(dict.fromkeys(found))


def _body(route: _Route, raw: bytes, tier: Tier) -> list[Finding]:
    found = list[Finding]()
    asked = route.read(raw)
    if isinstance(asked, Refusal):
        body = _object(raw)
        if body is None or asked.code == "invalid_json":
            return [Finding("body", _rule(asked))]
        found = [Finding(name, field_rule(name)) for name in body if name not in route.fields]
        kept = {name: value for name, value in body.items() if name in route.fields}
        asked, more = _without(route, kept)
        found += more
    if isinstance(asked, Wanted):
        found += [Finding(one.param or "body", one.rule) for one in gate.refusals(asked, tier)]
    return found


def _without(route: _Route, body: _Body) -> tuple[object, list[Finding]]:
    """Read a body again and again, each time without what was refused."""
    found = list[Finding]()
    for _ in range(_MOST):
        asked = route.read(json.dumps(body).encode())
        if not isinstance(asked, Refusal):
            return asked, found
        found.append(Finding(asked.param or "body", _rule(asked)))
        name = (asked.param or "").partition(".")[0].partition("[")[0]
        if name not in route.fields:
            break
        body.pop(name, None)
        if name in _STAND_INS:
            body[name] = _STAND_INS[name]
    return None, found


def _object(raw: bytes) -> _Body | None:
    """Return a body that is a JSON object."""
    try:
        body: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return cast("_Body", body) if isinstance(body, dict) else None


def _rule(refusal: Refusal) -> str:
    return refusal.rule or _RULES.get(refusal.code, UNKNOWN)
