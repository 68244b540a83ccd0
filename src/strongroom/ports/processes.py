"""What each process of `strongroom up` is told on standard input when it starts, and what it says when it is ready.

One line of JSON each, so that no secret is in a process list, an environment or a file. Secrets are hexadecimal.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

_Seconds = Annotated[float, Meta(gt=0, le=3600)]
_Many = Annotated[int, Meta(ge=1, le=1 << 24)]
_Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A process's setup."""


class ControlSetup(_Setup, frozen=True, kw_only=True):
    """Control: the home, who started it, what is served, and where the others will knock."""

    home: str
    operator: str
    seed: str  # the operator's unlocked keys
    model: str  # NAME:TAG, or empty for a foreign engine
    names: tuple[str, ...]  # what clients may call the model
    sockets: str  # a private folder: it listens at gateway, engine-control and command in it
    gateway_secret: _Hex  # one secret per door: a gateway can't pose as an engine
    engine_secret: _Hex
    command_secret: _Hex
    api_token: str
    api_port: int  # 0: any


class ControlReady(msgspec.Struct, frozen=True, kw_only=True):
    """Control listens everywhere."""

    api_port: int


class EngineSetup(_Setup, frozen=True, kw_only=True):
    """Engine: where gateways ask it, where it asks control, and how it runs. It holds no home and nobody's key."""

    home: str  # only its settings and sealed payloads are read
    engine: str  # path of the socket where gateways are answered
    engine_secret: _Hex
    control: str  # path of the socket where control listens
    control_secret: _Hex
    threads: int = 0  # 0 leaves torch its way
    max_batch: int = 8
    max_waiting: int = 32


class EngineReady(msgspec.Struct, frozen=True, kw_only=True):
    """The model is loaded, and gateways may ask."""

    model: str


class WorkerSetup(_Setup, frozen=True, kw_only=True):
    """Worker: the home that it works for."""

    home: str


class WorkerReady(msgspec.Struct, frozen=True, kw_only=True):
    """The worker has begun, and brought in what was left."""

    summaries: int


class Bounds(_Setup, frozen=True, kw_only=True):
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


class GatewaySetup(_Setup, frozen=True, kw_only=True):
    """Gateway: where it listens, whom it asks, and where it writes usage lines."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    gateways: Annotated[int, Meta(ge=1, le=64)] = 1  # that listen at the same port: the system deals connections out
    control: str  # path of control's socket
    secret: _Hex  # of that link
    engine: str  # unix:/path, http://host:port or https://host
    engine_secret: Annotated[str, Meta(pattern="^([0-9a-f]{64})?$")] = ""  # of the link to a unix engine
    engine_key: str = ""  # of an http engine
    spool: str  # folder of the usage lines
    models: tuple[str, ...] = ()  # names that an http engine goes by; empty: the roster's
    log: Literal["debug", "info", "warning", "error"] = "warning"
    bounds: Bounds = Bounds()


class GatewayReady(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway listens."""

    port: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A process can't start: the error as `StrongroomError.document` tells it."""

    error: dict[str, str]
