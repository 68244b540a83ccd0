"""What a gateway is told when it starts: one JSON line on standard input, for secrets have no place in arguments."""

from __future__ import annotations

import os
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from strongroom.core.errors import BadInput

_LONGEST: Final = 1 << 20
_Seconds = Annotated[float, Meta(gt=0, le=3600)]
_Many = Annotated[int, Meta(ge=1, le=1 << 24)]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The gateway's own limits, for all accounts alike."""

    body_bytes: _Many = 1 << 20
    header_bytes: _Many = 16 << 10
    read_seconds: _Seconds = 10.0  # for a whole request, from its first byte
    idle_seconds: _Seconds = 60.0  # for a connection between requests
    stall_seconds: _Seconds = 20.0  # for a client that does not read
    stall_bytes: _Many = 256 << 10  # that wait for such a client
    connections: _Many = 1024
    open_requests: _Many = 16  # of one account
    chat_tokens: _Many = 1024  # max_tokens of a chat that names none
    context_tokens: _Many = 131_072  # of the longest prompt that a budget is held for
    slice_tokens: _Many = 4096  # leased at least
    roster_seconds: _Seconds = 30.0  # without control, until nobody is let in
    stop_seconds: _Seconds = 10.0  # for open requests when the gateway stops


class GatewaySetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of JSON."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    control: str  # path of control's socket
    secret: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]  # of the links to control and engine, in hexadecimal
    engine: str  # unix:/path, http://host:port or https://host
    engine_secret: str = ""  # of the link to a unix engine, in hexadecimal
    engine_key: str = ""  # of an http engine
    spool: str  # folder of the usage lines
    models: tuple[str, ...] = ()  # names that an http engine goes by; empty: the roster's
    log: Literal["debug", "info", "warning", "error"] = "warning"
    bounds: Bounds = Bounds()


def read_setup(descriptor: int) -> GatewaySetup:
    """Read the line, and not a byte more, so that the end of the file can be waited for afterwards.

    Raises:
        BadInput: there is no such line, or it does not say what a gateway must know.

    """
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < _LONGEST:
        more = os.read(descriptor, 1)
        if not more:
            break
        line += more
    try:
        return msgspec.json.decode(bytes(line), type=GatewaySetup)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # msgspec may quote a value, and one of them is a secret
        raise BadInput("the first line is no GatewaySetup", where="stdin") from None
