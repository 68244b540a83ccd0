"""The heads of answers. They name no product and no version."""

from __future__ import annotations

import http
import math
from email.utils import formatdate
from typing import Final

from strongroom.serving.wire_errors import Refusal

_LINES: Final = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in http.HTTPStatus}
_JSON: Final = b"%bdate: %b\r\nx-request-id: %b\r\n%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_SSE: Final = (
    b"HTTP/1.1 200 OK\r\ndate: %b\r\nx-request-id: %b\r\n%bcontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE: Final = b"connection: close\r\n"


def http_date(seconds: float) -> bytes:
    """Return a time as HTTP writes it."""
    return formatdate(seconds, usegmt=True).encode()


def json_head(status: int, request: str, *, date: bytes, fields: bytes, length: int) -> bytes:
    """Return the head of an answer that is one JSON document."""
    return _JSON % (_LINES[status], date, request.encode(), fields, length)


def stream_head(request: str, *, date: bytes, fields: bytes) -> bytes:
    """Return the head of an answer that is a stream of events."""
    return _SSE % (date, request.encode(), fields)


def chunk(data: bytes) -> bytes:
    """Return `data` in the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST: Final = b"0\r\n\r\n"


def refusal_fields(refusal: Refusal) -> bytes:
    """Return the header fields that a refusal brings along."""
    fields = b""
    if refusal.retry_after is not None:
        fields += b"retry-after: %d\r\n" % max(1, math.ceil(refusal.retry_after))
        if refusal.retry_after < 60:  # noqa: PLR2004 - the official client looks at milliseconds first, up to a minute
            fields += b"retry-after-ms: %d\r\n" % math.ceil(refusal.retry_after * 1000)
    kind = refusal.kind
    if kind.retry is not None:
        fields += b"x-should-retry: true\r\n" if kind.retry else b"x-should-retry: false\r\n"
    if kind.status == http.HTTPStatus.UNAUTHORIZED:
        fields += b"www-authenticate: Bearer\r\n"
    return fields


def limit_fields(limit: int, remaining: int, *, reset: float, tokens: int) -> bytes:
    """Return x-ratelimit-*: what the caller has left of the minute, and the day's limit of tokens.

    How many tokens are left of the day only control knows: several gateways may be leasing.
    """
    form = (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n"
        b"x-ratelimit-reset-requests: %dms\r\nx-ratelimit-limit-tokens: %d\r\n"
    )
    return form % (limit, remaining, math.ceil(reset * 1000), tokens)
