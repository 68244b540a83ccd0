"""Canonical bytes for anything that is signed or hashed, and the strict way back.

Bytes follow RFC 8785 (JSON Canonicalization Scheme), written by the library ``rfc8785``. Reading goes through msgspec
with the expected type, refuses unknown fields, and can insist that the bytes are canonical, so that one meaning has one
spelling.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec
import rfc8785

from strongroom.core.errors import BadInput

T = TypeVar("T")


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of every value that is stored, signed or sent: frozen, slotted, unknown fields refused."""


def encode(value: Any) -> bytes:  # noqa: ANN401 - any JSON-shaped value or msgspec struct may be canonicalised
    """Return the RFC 8785 bytes of a struct or JSON-shaped value.

    Raises:
        BadInput: the value has no canonical form (a NaN, an integer beyond ±2^53-1, an unknown type).

    """
    try:
        return rfc8785.dumps(msgspec.to_builtins(value))
    except (rfc8785.CanonicalizationError, TypeError) as error:
        raise BadInput(f"no canonical form: {type(error).__name__}", where=type(value).__name__) from None


def decode(data: bytes, kind: type[T], *, where: str, canonical: bool = True) -> T:
    """Read a `kind` from JSON bytes; with `canonical`, refuse any other spelling than `encode`'s.

    Raises:
        BadInput: the bytes are not JSON, do not fit the type, or are not canonical. The message never quotes contents.

    """
    try:
        value = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        shape = str(error).split(" - at ")[-1] if " - at " in str(error) else "malformed JSON"
        raise BadInput(f"does not fit {kind.__name__}: {shape[:120]}", where=where) from None
    if canonical and encode(value) != data:
        raise BadInput("JSON is not in canonical form (RFC 8785)", where=where)
    return value


def digest(value: Any) -> str:  # noqa: ANN401 - as encode
    """Return the lower-case hexadecimal SHA-256 of the canonical bytes of `value`."""
    return hashlib.sha256(encode(value)).hexdigest()
