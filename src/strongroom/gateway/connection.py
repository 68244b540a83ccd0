"""One client's connection: bytes in, requests out, answers back in order. No task, no timer of its own.

The parser only collects; nothing is decided inside its callbacks, so that an error of ours is never taken for one of
the client's. Deadlines are looked at by the front's tick.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from collections import deque
from typing import Final, Protocol, cast

import httptools

from strongroom.core.log import log
from strongroom.gateway import heads
from strongroom.gateway.front import Front
from strongroom.gateway.request import Request, check_head
from strongroom.gateway.services import Work
from strongroom.serving.wire_errors import Refusal, document, refuse

_QUEUE: Final = 8  # requests that may wait on a connection behind the one that is answered
_LINGER: Final = 2.0  # seconds in which a refused client may read why, while what it still sends is thrown away
_HIGH: Final = 64 << 10  # bytes towards a client, until it counts as one that does not read
_RESET: Final = struct.pack("ii", 1, 0)
_FOREVER: Final = math.inf


class Parser(Protocol):
    """What is used of httptools' parser."""

    def feed_data(self, data: bytes) -> None:
        """Parse on."""
        ...

    def get_method(self) -> bytes:
        """Return the method."""
        ...

    def get_http_version(self) -> str:
        """Return the version."""
        ...

    def should_keep_alive(self) -> bool:
        """Whether the client wants to go on."""
        ...


class Connection(asyncio.Protocol):
    """The protocol of one connection; it is what a request's work writes its answer to, too."""

    __slots__ = (
        "_all_head", "_current", "_deaf", "_front", "_in_head", "_loop", "_out", "_parser", "_queue", "_reading",
        "_transport", "_turning", "_waiting", "_work", "due", "peer", "stalled",
    )  # fmt: skip

    def __init__(self, front: Front) -> None:
        """Belong to `front`."""
        self._front = front
        self._loop = front.loop
        self._parser: Parser | None = None
        self._transport: asyncio.Transport | None = None
        self._reading: Request | None = None  # what the parser is at
        self._in_head = False
        self._all_head = False  # the chunk that is parsed holds nothing but the head that is read
        self._queue: deque[Request] = deque()
        self._current: Request | None = None  # what is being answered
        self._work: Work | None = None
        self._deaf = False  # nothing more is read
        self._turning = False
        self._out: list[bytes] = []  # events of this turn of the loop…
        self._waiting = 0  # … and their bytes
        self.peer = ""  # the client's address
        self.due = _FOREVER  # when the client must have sent more
        self.stalled = _FOREVER  # when the client must have read more

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, if there is room."""
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's transports are none by class
        transport.set_write_buffer_limits(high=_HIGH)
        self._parser = httptools.HttpRequestParser(self)
        self.due = self._loop.time() + self._front.bounds.idle_seconds
        self.peer = str((transport.get_extra_info("peername") or ("",))[0])
        if not self._front.enter(self):
            self._broken("too_many_connections")

    def data_received(self, data: bytes) -> None:
        """Parse on, then answer what has come in whole."""
        if self._deaf or self._parser is None:
            return
        fault = ""
        self._all_head = self._reading is None or self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._deaf = True  # the request is refused in its turn
        except httptools.HttpParserCallbackError:
            log.error("a parser callback failed")
            fault = "bad_request"
        except httptools.HttpParserError:
            fault = "bad_request"
        if self._in_head and self._reading is not None and not fault:
            # an unfinished field never reaches on_header: whole chunks are counted while the head goes on
            self._reading.arrived += len(data) if self._all_head else 0
            fault = "headers_too_large" if self._reading.arrived > self._front.bounds.header_bytes else ""
        if fault:
            self._broken(fault)
        self._next()

    def eof_received(self) -> bool:
        """The client will send no more: it has left, for all that we know."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone: stop what was done for it."""
        del exc
        self._deaf = True
        self._front.leave(self)
        work, self._work = self._work, None
        self._current = self._reading = self._parser = self._transport = None
        self._queue.clear()
        self._out.clear()
        if work is not None:
            work.gone()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.stalled = self._loop.time() + self._front.bounds.stall_seconds

    def resume_writing(self) -> None:
        """It reads again."""
        self.stalled = _FOREVER

    # ── httptools ────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_message_begin(self) -> None:
        """A request begins."""
        self._reading = Request(self._front.new_id())
        self._in_head = True
        if self._current is None:
            self.due = self._loop.time() + self._front.bounds.read_seconds

    def on_url(self, url: bytes) -> None:
        """Its target, or a part of it."""
        if self._reading is not None:
            self._reading.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its head; after the body, a trailer, which only a refused coding can bring."""
        if self._reading is not None:
            self._reading.head.append((name, value))

    def on_headers_complete(self) -> None:
        """Its head is here: is it one that is read on?"""
        request, parser = self._reading, self._parser
        if request is None or parser is None:
            return
        self._in_head = False
        request.method = parser.get_method()
        request.version = parser.get_http_version()
        request.keep = parser.should_keep_alive()
        over = request.take_head() + len(request.target) > self._front.bounds.header_bytes
        request.refusal = Refusal("headers_too_large") if over else check_head(request, self._front.bounds)

    def on_body(self, data: bytes) -> None:
        """A part of its body, which is no longer than its head has said."""
        if self._reading is not None and self._reading.refusal is None:
            self._reading.body.append(data)

    def on_message_complete(self) -> None:
        """It is whole."""
        request, self._reading = self._reading, None
        self._all_head = False
        if request is not None:
            request.whole = True
            self._queue.append(request)

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def attach(self, work: Work) -> None:
        """Remember who is to be told when the client leaves."""
        self._work = work

    def answer(self, status: int, body: bytes, *, fields: bytes = b"") -> None:
        """Send a whole answer, and go on to the next request."""
        request = self._current
        if request is None:
            return
        fields = self._fields(request, fields)
        head = heads.json_head(status, request.id, date=self._front.date, fields=fields, length=len(body))
        self._write(head if request.method == b"HEAD" else head + body)
        self._done(request)

    def refuse(self, refusal: Refusal, *, fields: bytes = b"") -> None:
        """Send a refusal."""
        request = self._current
        if request is not None and (not request.whole or request.refusal is not None):
            request.keep = False
        self.answer(refusal.kind.status, document(refusal), fields=fields + heads.refusal_fields(refusal))

    def open_stream(self, data: bytes) -> None:
        """Begin to send events."""
        request = self._current
        if request is not None:
            fields = self._fields(request, b"")
            head = heads.stream_head(request.id, date=self._front.date, fields=fields)
            self._collect(head + heads.chunk(data) if data else head)

    def stream(self, data: bytes) -> None:
        """Send more events: those of one turn of the loop with one system call."""
        self._collect(heads.chunk(data))

    def end_stream(self, data: bytes, *, keep: bool = True) -> None:
        """Send the last events, and go on to the next request, or close."""
        request = self._current
        if request is not None:
            request.keep = request.keep and keep
            self._collect(heads.chunk(data) + heads.LAST)
            self._flush()
            self._done(request)

    # ── the front's ──────────────────────────────────────────────────────────────────────────────────────────────────
    def idle(self) -> bool:
        """Whether nothing is going on here."""
        return self._current is None and self._reading is None and not self._queue

    def at_work(self) -> bool:
        """Whether a request of somebody with a valid key is read or answered here."""
        reading = self._reading
        return self._current is not None or bool(self._queue) or (reading is not None and reading.caller is not None)

    def give_place(self) -> None:
        """End the connection for the sake of another, saying why if a request was on its way."""
        if self._reading is None:
            self.close()
        else:
            self._broken("too_many_connections")

    def close(self) -> None:
        """End the connection when all is sent, or soon."""
        self._deaf = True
        self.due = self._loop.time() + _LINGER
        if self._transport is not None:
            self._transport.close()

    def tick(self, now: float) -> None:
        """See to the deadlines."""
        if now >= self.stalled or (now >= self.due and self._deaf):
            self.abort()
        elif now >= self.due and self._current is None:
            if self._reading is None:
                self.close()
            else:
                self._broken("request_timeout")
                self._next()

    def abort(self) -> None:
        """End the connection at once."""
        self._deaf = True
        work, self._work = self._work, None
        if work is not None:
            work.gone()
        if self._transport is not None:
            # the kernel would go on for minutes with what it holds for a client that hardly reads: reset instead; one
            # that was told to close when all is sent is aborted as well, for its client may never read all
            with contextlib.suppress(OSError):
                sock = self._transport.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _next(self) -> None:
        """Answer what waits, one after the other; those that take longer come back here when they are done."""
        if self._turning:
            return
        self._turning = True
        while self._current is None and self._queue:
            self._start(self._queue.popleft())
        self._turning = False
        reading = self._reading
        if self._current is None and reading is not None and not self._in_head and not reading.judged:
            self._look_ahead(reading)
        if len(self._queue) > _QUEUE:
            self.abort()

    def _start(self, request: Request) -> None:
        self._current = request
        self.due = _FOREVER
        refusal = request.refusal or (None if request.judged else self._judge(request))
        if refusal is None:
            self._front.handle(request, self)
        else:
            self._front.refuse(request, self, refusal=refusal)

    def _judge(self, request: Request) -> Refusal | None:
        refusal = self._front.judge(request)
        if request.caller is not None:
            self._front.known(self)
        return refusal

    def _look_ahead(self, request: Request) -> None:
        """Refuse by the head alone where that can be done, before a body is waited for."""
        request.judged = True
        refusal = request.refusal or self._judge(request)
        if refusal is not None:
            self._current, self._reading = request, None
            self._front.refuse(request, self, refusal=refusal)
        elif b"expect" in request.fields:
            self._write(heads.CONTINUE)

    def _broken(self, code: str) -> None:
        """Answer what can't be read, after those before it; then close."""
        request, self._reading = self._reading or Request(self._front.new_id()), None
        request.refusal = refuse(code)
        self._deaf = True
        self._queue.append(request)
        self._next()

    def _fields(self, request: Request, fields: bytes) -> bytes:
        if not request.keep or self._front.stopping:
            request.keep = False
            fields += heads.CLOSE
        return fields + request.limits

    def _done(self, request: Request) -> None:
        self._current = self._work = None
        if not request.keep:
            self._linger()
            return
        bounds = self._front.bounds
        self.due = self._loop.time() + (bounds.idle_seconds if self._reading is None else bounds.read_seconds)
        self._next()

    def _linger(self) -> None:
        """Close our side, and take in for a while what the client still sends, so that it gets to read the answer."""
        self._deaf = True
        self._queue.clear()
        self._reading = None
        self.due = self._loop.time() + _LINGER
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def _collect(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)
        self._waiting += len(data)
        if self._waiting > _HIGH:
            self._flush()

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
            self._out.clear()
            self._waiting = 0
            self._write(data)

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if self.stalled != _FOREVER and transport.get_write_buffer_size() > self._front.bounds.stall_bytes:
            self.abort()
