"""A request's head: what of it counts, and whether it is one that the gateway reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.ports.processes import Bounds
from strongroom.serving.admit import Caller
from strongroom.serving.wire_errors import Refusal

KNOWN: Final = frozenset(
    {
        b"host",
        b"authorization",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"transfer-encoding",
        b"expect",
        b"upgrade",
    }
)


class Request:
    """One request while it is read and answered."""

    __slots__ = (
        "arrived", "body", "caller", "fields", "head", "id", "judged", "keep", "limits", "method", "origin", "paid",
        "refusal", "route", "target", "twice", "version", "whole",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        """Begin with nothing but an id."""
        self.id = name
        self.method = b""
        self.target = b""
        self.version = ""
        self.keep = False
        self.fields: dict[bytes, bytes] = {}
        self.twice = False  # a field that decides came twice
        self.head: list[tuple[bytes, bytes]] = []  # its fields as they come; trailers after them are not looked at
        self.arrived = 0  # bytes that came while the head went on
        self.body: list[bytes] = []
        self.whole = False  # the body is here
        self.judged = False
        self.refusal: Refusal | None = None
        self.route = ""
        self.caller: Caller | None = None
        self.paid = False  # it is let in by every limit of requests a minute
        self.origin = ""  # keyed hash of the client's address
        self.limits = b""  # x-ratelimit-* for the answer

    def take_head(self) -> int:
        """Keep the fields that count; return how many bytes all of them have."""
        seen = 0
        for name, value in self.head:
            seen += len(name) + len(value) + 4
            lower = name.lower()
            if lower in KNOWN:
                self.twice = self.twice or lower in self.fields
                self.fields[lower] = value
        self.head.clear()
        return seen


def check_head(request: Request, bounds: Bounds) -> Refusal | None:
    """Return why the head is refused, if so. The parser has refused what is no HTTP at all."""
    fields = request.fields
    if request.version != "1.1":
        return Refusal("http_version_not_supported")
    if request.twice or b"host" not in fields or b"upgrade" in fields or request.target[:1] != b"/":
        return Refusal("bad_request")
    if b"transfer-encoding" in fields:
        return Refusal("length_required")
    if fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Refusal("expectation_failed")
    if int(fields.get(b"content-length", b"0")) > bounds.body_bytes:
        return Refusal("body_too_large")
    return _check_post(fields) if request.method == b"POST" else _check_get(fields)


def _check_post(fields: Mapping[bytes, bytes]) -> Refusal | None:
    if b"content-length" not in fields:
        return Refusal("length_required")
    kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json" or b"content-encoding" in fields:
        return Refusal("unsupported_media_type")
    return None


def _check_get(fields: Mapping[bytes, bytes]) -> Refusal | None:
    return None if fields.get(b"content-length", b"0") == b"0" else Refusal("bad_request")
