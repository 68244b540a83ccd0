"""What each process of `strongroom up` is told on standard input when it starts, and what it says when it is ready.

One line of JSON each, so that no secret is in a process list, an environment or a file. Secrets are hexadecimal.
"""

from __future__ import annotations

import msgspec


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
    gateway_secret: str  # one secret per door: a gateway can't pose as an engine
    engine_secret: str
    command_secret: str
    api_token: str
    api_port: int  # 0: any


class ControlReady(msgspec.Struct, frozen=True, kw_only=True):
    """Control listens everywhere."""

    api_port: int


class EngineSetup(_Setup, frozen=True, kw_only=True):
    """Engine: where gateways ask it, where it asks control, and how it runs. It holds no home and nobody's key."""

    home: str  # only its settings and sealed payloads are read
    engine: str  # path of the socket where gateways are answered
    engine_secret: str
    control: str  # path of the socket where control listens
    control_secret: str
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


class GatewaySetup(_Setup, frozen=True, kw_only=True):
    """Gateway."""

    host: str
    port: int
    control: str
    secret: str
    engine: str
    engine_secret: str
    engine_key: str
    spool: str
    log: str


class GatewayReady(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway listens."""

    port: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A process can't start: the error as `StrongroomError.document` tells it."""

    error: dict[str, str]
