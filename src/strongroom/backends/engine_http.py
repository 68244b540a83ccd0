"""Completions of any server that speaks OpenAI's HTTP API: llama.cpp, vLLM, a service elsewhere. Nothing is marked.

Straight on asyncio's protocols, with a pool of connections that stay open: a proxy pays for every layer in between on
every chunk.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from strongroom.backends.http_answers import Reading, body, failed, reading
from strongroom.backends.http_wire import Pool, Wire
from strongroom.core.errors import BadSettings, LimitError, StoreUnavailable
from strongroom.core.log import log
from strongroom.core.secrets import Secret
from strongroom.ports.completions import Answer, Ask, Embed, Failed, Last, Sink

_PORTS: Final = {"http": 80, "https": 443}
_PROBE: Final = Ask(id="", account="", model="", max_tokens=1, budget=1)
_OK: Final = 200
_NEVER: Final = math.inf
_KINDS: Final = ("completions", "chat/completions", "embeddings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How many seconds to wait: for a connection, for the first byte of an answer, for the next one."""

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 60.0
    probe: float = 2.0  # between two looks at whether the server is there


class HttpCompletions:
    """A server at a URL ``http://host:port[/v1]``."""

    def __init__(
        self,
        url: str,
        key: Secret | None = None,
        *,
        model: str | None = None,
        patience: Patience | None = None,
        most: int = 256,
    ) -> None:
        """Ask the server at `url`, as the holder of `key`, for `model` (None: the one that the asker names).

        At most `most` requests are open at once, each over a connection of its own.

        Raises:
            BadSettings: the URL is none, or holds more than scheme, host, port and path.

        """
        scheme, host, port, path = _parts(url)
        self._patience = patience or Patience()
        self._pool = Pool(host, port, secure=scheme == "https", connect_s=self._patience.connect)
        self._model = model
        self._most = most
        bearer = b"" if key is None else b"Authorization: Bearer " + _checked(key) + b"\r\n"
        name = f"[{host}]" if ":" in host else host
        shared = f"Host: {name}:{port}\r\nAccept: application/json, text/event-stream\r\n".encode() + bearer
        post = b" HTTP/1.1\r\n" + shared + b"Content-Type: application/json\r\nContent-Length: "
        self._heads = {kind: f"POST {path}/{kind}".encode() + post for kind in _KINDS}
        self._probe = f"GET {path}/models HTTP/1.1\r\n".encode() + shared + b"\r\n"
        self._open: dict[str, _Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._there = self._closed = self._sweeping = False
        self._gone = asyncio.Event()

    async def start(self) -> None:
        """Begin to look whether the server is there, and go on. Returns at once."""
        self._spawn(self._watch())

    # ── Completions ──────────────────────────────────────────────────────────────────────────────────────────────────
    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        """Begin. Whatever happens, `sink` gets exactly one `Ended`, `Embedded` or `Failed`."""
        refusal = self._refusal(ask)
        if refusal is not None:
            asyncio.get_running_loop().call_soon(sink.on_answer, refusal)
            return
        raw = body(ask, self._model or ask.model)
        head = self._heads[_kind(ask)]
        exchange = _Exchange(self, ask, sink, request=b"%s%d\r\n\r\n%s" % (head, len(raw), raw))
        self._open[ask.id] = exchange
        self._launch(exchange, self._pool.idle())

    def cancel(self, request: str) -> None:
        """Stop the request of that id by closing its connection; its sink hears nothing any more."""
        exchange = self._open.pop(request, None)
        if exchange is not None:
            exchange.abort()

    def ready(self) -> bool:
        """Whether the server answered when it was last spoken to."""
        return self._there and not self._closed

    def close(self) -> None:
        """Let go; every open ask fails with "unavailable"."""
        self._closed = True
        for exchange in list(self._open.values()):
            exchange.give(failed(exchange.ask, "unavailable"))
            exchange.abort()
        for task in self._tasks:
            task.cancel()
        self._pool.close()

    # ── for exchanges ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def patience(self) -> Patience:
        """How long to wait for what."""
        return self._patience

    def over(self, request: str) -> None:
        """Hear that a request has had its last answer."""
        self._open.pop(request, None)

    def lost(self) -> None:
        """Hear that the server did not answer: look whether it is there, from now on."""
        self._there = False
        self._gone.set()

    def again(self, exchange: _Exchange) -> None:
        """Send a request anew, over a fresh connection."""
        self._launch(exchange, None)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _refusal(self, ask: Ask | Embed) -> Failed | None:
        if self._closed:
            return failed(ask, "unavailable")
        if ask.id in self._open:
            return Failed(id=ask.id, code="failed", message="a request of that id is open")
        if isinstance(ask, Ask) and not ask.prompt and not ask.turns:
            return failed(ask, "bad_prompt")
        return failed(ask, "busy") if len(self._open) >= self._most else None

    def _launch(self, exchange: _Exchange, wire: Wire | None) -> None:
        if not self._sweeping:
            self._sweeping = True
            self._spawn(self._sweep())
        if wire is not None:
            exchange.send(wire)
        else:
            self._spawn(self._connect(exchange))

    async def _connect(self, exchange: _Exchange) -> None:
        try:
            wire = await self._pool.fresh()
        except StoreUnavailable:
            self.lost()
            exchange.give(failed(exchange.ask, "unavailable"))
            return
        exchange.send(wire)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Probe the server until it answers; again whenever it seems to be gone."""
        while True:
            self._gone.clear()
            probe = _Probe()
            try:
                wire = self._pool.idle() or await self._pool.fresh()
                wire.send(self._probe, probe)
                async with asyncio.timeout(self._patience.connect):
                    self._there = await probe.answered
            except (StoreUnavailable, TimeoutError):
                self._there = False
            if self._there:
                await self._gone.wait()
            else:
                await asyncio.sleep(self._patience.probe)

    async def _sweep(self) -> None:
        """Give up on requests to which the server says nothing: one timer for all, for each would cost as much."""
        patience = self._patience
        every = min(patience.first_byte, patience.idle, 8.0) / 8
        while True:
            await asyncio.sleep(every)
            now = asyncio.get_running_loop().time()
            for exchange in [one for one in self._open.values() if one.due <= now]:
                exchange.give_up(now)


class _Probe:
    """Waits for a sign of life."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._well = False

    def on_head(self, status: int, content_type: bytes) -> None:
        del content_type
        self._well = status == _OK

    def on_body(self, data: bytes) -> None:
        del data

    def on_end(self, *, whole: bool, retry: bool) -> None:
        del retry
        if not self.answered.done():
            self.answered.set_result(whole and self._well)


class _Exchange:
    """One request and its response, from ask to last answer."""

    def __init__(self, owner: HttpCompletions, ask: Ask | Embed, sink: Sink, *, request: bytes) -> None:
        self.ask = ask
        self._owner = owner
        self._sink: Sink | None = sink
        self._request = request
        self._wire: Wire | None = None
        self._reading: Reading | None = None
        self._loop = asyncio.get_running_loop()
        self._last = 0.0  # when the server last said something
        self.due = _NEVER  # when it must have, or must be looked at again

    def send(self, wire: Wire) -> None:
        """Send the request over `wire`, if anybody still waits for the answer."""
        if self._sink is None:
            wire.abort()
            return
        self._wire = wire
        self.due = self._loop.time() + self._owner.patience.first_byte
        wire.send(self._request, self)

    def abort(self) -> None:
        """Hear no more, and close the connection."""
        self._sink = None
        self.due = _NEVER
        if self._wire is not None:
            self._wire.abort()

    def give(self, answer: Answer) -> None:
        """Pass an answer on; nothing follows the last one."""
        sink = self._sink
        if sink is None:
            return
        if isinstance(answer, Last):
            self._sink = None
            self._owner.over(self.ask.id)
        sink.on_answer(answer)

    def give_up(self, now: float) -> None:
        """Give up on a server that says nothing, unless it has said something since."""
        self.due = self._last + self._owner.patience.idle
        if self._reading is not None and now < self.due:
            return
        self.due = _NEVER
        if self._wire is not None:
            self._wire.abort()
        if self._sink is not None:
            self._owner.lost()
            self.give(failed(self.ask, "unavailable"))

    # ── Listener ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_head(self, status: int, content_type: bytes) -> None:
        """Decide how to read the body."""
        self._last = self._loop.time()
        self.due = self._last + self._owner.patience.idle
        if status != _OK:
            log.warning("upstream refused", status=status)
        self._reading = reading(self.ask, status, content_type)

    def on_body(self, data: bytes) -> None:
        """Read on."""
        self._last = self._loop.time()
        if self._reading is not None:
            self._read(self._reading.feed, data)

    def on_end(self, *, whole: bool, retry: bool) -> None:
        """Say the last word."""
        self.due = _NEVER
        self._wire = None
        if whole and self._reading is not None:
            self._read(self._reading.end)
        if self._sink is None:
            return
        if retry:
            self._owner.again(self)
        else:
            self._owner.lost()
            self.give(failed(self.ask, "unavailable"))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _read(self, step: Callable[..., list[Answer]], *data: bytes) -> None:
        try:
            answers = step(*data)
        except (msgspec.MsgspecError, LimitError, UnicodeDecodeError, RecursionError) as error:
            log.warning("upstream unreadable", code=type(error).__name__)
            answers = [failed(self.ask, "failed")]
            if self._wire is not None:
                self._wire.abort()
                self.due = _NEVER
        for answer in answers:
            self.give(answer)


def _kind(ask: Ask | Embed) -> str:
    """Return the last words of the path that `ask` goes to."""
    if isinstance(ask, Embed):
        return "embeddings"
    return "chat/completions" if ask.prompt is None else "completions"


def _checked(key: Secret) -> bytes:
    """Return a key's bytes, if they can stand in a header."""
    raw = key.reveal()
    if not raw or not all(0x21 <= byte <= 0x7E for byte in raw):  # noqa: PLR2004 - ASCII's visible letters
        raise BadSettings("a server's key is one word of visible ASCII letters", where="engine key")
    return raw


def _parts(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path of a server's URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        raise BadSettings("that is no URL of a server", where="engine") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if not plain or parts.scheme not in _PORTS or not parts.hostname:
        raise BadSettings("a server's URL is http://HOST:PORT or https://HOST:PORT", where="engine")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise BadSettings(
            "a server's URL holds scheme, host, port and path only; a key is no part of it", where="engine"
        )
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/") or "/v1"
