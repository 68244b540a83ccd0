"""One HTTP/1.1 connection to an upstream server, and a pool that keeps such connections alive.

httptools (llhttp) cuts the bytes; nothing here looks into a body. Whatever a server does wrong ends its connection.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, Protocol, cast

import httptools

from strongroom.core.errors import StoreUnavailable

_HEAD_LIMIT: Final = 65_536  # bytes of a response's head
_FINAL: Final = 200  # statuses below are interim


class Listener(Protocol):
    """Whoever waits for one response."""

    def on_head(self, status: int, content_type: bytes) -> None:
        """Take status and content type."""
        ...

    def on_body(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        ...

    def on_end(self, *, whole: bool, retry: bool) -> None:
        """Hear that the response is complete, or broken.

        `retry`: it was sent over a connection that the server had closed meanwhile, and nothing came.
        """
        ...


class Wire(asyncio.Protocol):
    """A connection. One response at a time."""

    def __init__(self, pool: Pool) -> None:
        """Belong to `pool`."""
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._used = 0
        self._reset()

    def _reset(self) -> None:
        self._heard = self._in_body = self._framed = self._done = self._keep = self._bad = False
        self._head_bytes = 0
        self._type = b""

    def send(self, request: bytes, listener: Listener) -> None:
        """Send a whole request; `listener` hears of the response."""
        self._reset()
        self._used += 1
        self._listener = listener
        if self._transport is not None:
            self._transport.write(request)

    def abort(self) -> None:
        """End the connection now; the listener hears nothing any more."""
        self._listener = None
        if self._transport is not None:
            self._transport.abort()

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, without saying so

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._listener is None:  # nobody asked for anything
            return self.abort()
        self._heard = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._bad = True
        if self._done:
            return self._finish()
        if self._bad or (not self._in_body and self._head_bytes > _HEAD_LIMIT):
            self._break(whole=False)
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the other end is gone: the end of a body that had no stated length, trouble else."""
        self._pool.forget(self)
        self._break(whole=exc is None and self._in_body and not self._framed)

    # ── httptools ────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_message_begin(self) -> None:
        """Notice a second response to one request."""
        self._bad = self._bad or self._done

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        lower = name.lower()
        if lower == b"content-type":
            self._type = value.lower()
        elif lower in {b"content-length", b"transfer-encoding"}:
            self._framed = True

    def on_headers_complete(self) -> None:
        """Pass on the head, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status < _FINAL or self._done or self._listener is None:
            return
        self._in_body = True
        self._listener.on_head(status, self._type)

    def on_body(self, data: bytes) -> None:
        """Pass on a part of the body."""
        if self._listener is not None and not self._done:
            self._listener.on_body(data)

    def on_message_complete(self) -> None:
        """Note the end; what follows it is not for us."""
        if self._in_body and not self._done:
            self._done = True
            self._keep = self._parser.should_keep_alive()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _finish(self) -> None:
        listener, self._listener = self._listener, None
        if self._keep and not self._bad:
            self._pool.give_back(self)
        elif self._transport is not None:
            self._transport.close()
        if listener is not None:
            listener.on_end(whole=True, retry=False)

    def _break(self, *, whole: bool) -> None:
        listener = self._listener
        self.abort()
        if listener is not None:
            listener.on_end(whole=whole, retry=not self._heard and self._used > 1)


class Pool:
    """Connections to one server."""

    def __init__(self, host: str, port: int, *, secure: bool, connect_s: float) -> None:
        """Connect to `host` and `port`, by TLS if `secure`, within `connect_s` seconds."""
        self._host = host
        self._port = port
        self._tls = ssl.create_default_context() if secure else None
        self._patience = connect_s
        self._idle: list[Wire] = []
        self._wires: set[Wire] = set()

    def idle(self) -> Wire | None:
        """Return a connection that waits for work, the one used last."""
        return self._idle.pop() if self._idle else None

    async def fresh(self) -> Wire:
        """Return a new connection.

        Raises:
            StoreUnavailable: nobody answers there, or not in time, or not with a certificate that holds.

        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._patience):
                _, wire = await loop.create_connection(lambda: Wire(self), self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError, ValueError):  # ssl's errors are OSError; a bad host name is ValueError
            raise StoreUnavailable("nobody answers there", where=f"{self._host}:{self._port}") from None
        self._wires.add(wire)
        return wire

    def give_back(self, wire: Wire) -> None:
        """Take a connection that can be used again."""
        self._idle.append(wire)

    def forget(self, wire: Wire) -> None:
        """Hear that a connection has ended."""
        self._wires.discard(wire)
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        """End all connections."""
        for wire in list(self._wires):
            wire.abort()
