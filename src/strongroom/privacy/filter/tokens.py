"""Secrets: keys, tokens and passwords, by the marks that their makers give them or the name before them."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from typing import Final

_NO_SECRET: Final = re.compile(
    rb"(?i)^(?:true|false|none|null|nil|undefined|change_?me|example|password|passwd|secret|token|your|my|dummy|test"
    rb"|xxx|\*\*\*|\.\.\.|foo|bar|placeholder|redacted|masked|removed|todo|optional|required|string|value)"
    rb"|^[$%&<{\[(@]|\$\{|\{\{|%\(|[()\[\]{}<>;]|::|->|\.\.\.|^/|^https?:|\\[nt]"
)
_PLAIN_NAME: Final = re.compile(rb"[a-z]+(?:[_.\-][a-z]+)*|[A-Z]+(?:[_.\-][A-Z]+)*|[A-Za-z]?[a-z]+(?:[A-Z][a-z]+)*")
_FEWEST: Final = 8
_BITS: Final = 2.6  # a letter, at least: words have about as much, so they are looked at apart


def entropy(text: bytes) -> float:
    """Return the bits that each byte has by how often it stands in `text`."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values()) if text else 0.0


def opaque(value: bytes) -> bool:
    """Say whether what is assigned looks like a secret: long, mixed, no name, no call and no place holder."""
    if len(value) < _FEWEST or _NO_SECRET.search(value) or _PLAIN_NAME.fullmatch(value):
        return False
    kinds = sum(bool(re.search(one, value)) for one in (rb"[a-z]", rb"[A-Z]", rb"[0-9]", rb"[^A-Za-z0-9]"))
    return kinds >= 2 and entropy(value) >= _BITS and not re.fullmatch(rb"[0-9.,:x\-]+", value)


def random_token(value: bytes) -> bool:
    """Say whether a token with its maker's mark is a real one: not ``xxxx`` and not a word."""
    return entropy(value) >= _BITS


def jwt(value: bytes) -> bool:
    """Say whether this begins as a JSON web token does (RFC 7519): its header is JSON with an algorithm."""
    head = value.split(b".", 1)[0]
    try:
        return b'"alg"' in base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return False
