"""Secrets: keys, tokens and passwords, by the marks that their makers give them or the name before them."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from typing import Final

_STANDS_FOR_ONE: Final = re.compile(
    rb"(?i)(?:true|false|none|null|nil|undefined|change_?me|example|password|passwd|secret|token|your|my|dummy|test|xxx"
    rb"|\*\*\*|\.\.\.|foo|bar|placeholder|redacted|masked|removed|todo|optional|required|string|value)"
)
_CODE: Final = re.compile(
    rb"[$%]?[{(<\[]{1,2}[^{}()<>]*[})>\]]{0,2}"  # ${NAME} {{ name }} <name> [name]
    rb"|[$%@][A-Za-z_][\w.]*[%@]?|%[sdr]"
    rb"|[(!*&]*[\w.>\-]*[A-Za-z_][(\[].*"  # a call, an index
    rb"|.*(?:::|->|\$\{|\{\{|%\(|\(\)|\\[nrt]|</).*|https?://.*|/.*|[A-Za-z_]+(?:\.[A-Za-z_]+)+",
    re.DOTALL,
)
_PLAIN_NAME: Final = re.compile(rb"[_*&]*[A-Za-z]+(?:[_.\-]+[A-Za-z]\w*)*_*|[_*]*[A-Za-z]{2,}[0-9]{0,2}")
_FEWEST: Final = 8
_BITS: Final = 2.6  # a letter, at least: words have about as much, so they are looked at apart


def entropy(text: bytes) -> float:
    """Return the bits that each byte has by how often it stands in `text`."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values()) if text else 0.0


def opaque(value: bytes) -> bool:
    """Say whether what is assigned looks like a secret: long, mixed, no name, no call and no place holder."""
    if len(value) < _FEWEST or _STANDS_FOR_ONE.match(value) or _CODE.fullmatch(value) or _PLAIN_NAME.fullmatch(value):
        return False
    kinds = sum(bool(re.search(one, value)) for one in (rb"[a-z]", rb"[A-Z]", rb"[0-9]", rb"[^A-Za-z0-9]"))
    return kinds > 1 and entropy(value) >= _BITS and not re.fullmatch(rb"[0-9.,:x\-]+", value)


def credentials(value: bytes) -> bool:
    """Say whether ``user:password`` are no place holders."""
    password = value.partition(b":")[2]
    return not (_STANDS_FOR_ONE.match(password) or _CODE.fullmatch(password) or password.isdigit())


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
