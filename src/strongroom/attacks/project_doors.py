"""Where the projection attack knocks: a server over real sockets, and a purse that counts what was asked."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Generator, Sequence
from typing import Final, Protocol

from strongroom.attacks.project_wire import PATHS, Answer, Codec, Query, batched
from strongroom.core.errors import StoreUnavailable

_LINES: Final = 16  # connections
_DEEP: Final = 8  # requests that are sent ahead on one: a gateway hangs up on whoever sends many more
_TRIES: Final = 5  # at a connection that is closed without an answer
_PATIENCE: Final = 60.0  # seconds


class Door(Protocol):
    """Something that answers."""

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers, in order."""
        ...


class Purse:
    """A door that keeps count, and answers no more than `most` requests (None: all). Refused ones count."""

    def __init__(self, door: Door, most: int | None = None) -> None:
        """Count from nothing."""
        self._door = door
        self.most = most
        self.queries = self.refused = self.tokens = 0
        self.first_refused = 0  # which request was the first that was refused; 0: none
        self.codes: Counter[str] = Counter()

    @property
    def left(self) -> int:
        """How many may still be asked."""
        return 1 << 40 if self.most is None else self.most - self.queries

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers to as many as may still be asked, in order."""
        answers = self._door.ask(queries[: self.left])
        for answer in answers:
            self.queries += 1
            self.tokens += answer.tokens
            if not answer.is_given:
                self.refused += 1
                self.first_refused = self.first_refused or self.queries
                self.codes[f"{answer.status} {answer.code}"] += 1
        return answers


class Wired:
    """A server on loopback, over a few connections on which some requests are sent ahead."""

    def __init__(self, port: int, key: str) -> None:
        """Knock at `port` with an API key."""
        self._port = port
        self._fields = f" HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        self._lines: list[_Line] = []

    def post(self, requests: Sequence[tuple[str, bytes]]) -> list[tuple[int, bytes]]:
        """Send bodies to paths; return status and body of each answer, in order.

        Raises:
            StoreUnavailable: the server hangs up again and again.

        """
        found = list[tuple[int, bytes]]()
        for some in batched(requests, _LINES * _DEEP):
            parts = list(batched([self._raw(path, body) for path, body in some], _DEEP))
            while len(self._lines) < len(parts):
                self._lines.append(_Line(self._port))
            for line, part in zip(self._lines, parts, strict=False):
                line.send(part)
            for line, part in zip(self._lines, parts, strict=False):
                found += line.receive(part)
        return found

    def close(self) -> None:
        """Leave."""
        for line in self._lines:
            line.close()

    def _raw(self, path: str, body: bytes) -> bytes:
        head = f"POST {path}{self._fields}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        return head.encode() + body


class Live:
    """The thief's side of a server."""

    def __init__(self, wired: Wired, codec: Codec) -> None:
        """Speak to `wired`."""
        self._wired = wired
        self._codec = codec

    def ask(self, queries: Sequence[Query]) -> list[Answer]:
        """Return the answers, in order."""
        bodies = [(PATHS[query.kind], self._codec.body(query).encode("utf-8", "surrogatepass")) for query in queries]
        answers = self._wired.post(bodies)
        return [self._codec.answer(query, *answer) for query, answer in zip(queries, answers, strict=True)]


class _Line:
    """One connection, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = self._open()
        self._buffer = bytearray()

    def send(self, requests: Sequence[bytes]) -> None:
        """Send all of them."""
        with contextlib.suppress(ConnectionError):  # `receive` finds out, and sends what was not answered again
            self._socket.sendall(b"".join(requests))

    def receive(self, requests: Sequence[bytes]) -> Generator[tuple[int, bytes]]:
        """Give status and body of each answer; what a closed connection left unanswered is asked again.

        Raises:
            StoreUnavailable: it is closed again and again.

        """
        for at in range(len(requests)):
            yield self._next() or self._again(requests[at:])

    def _again(self, requests: Sequence[bytes]) -> tuple[int, bytes]:
        for _ in range(_TRIES):
            self._socket.close()
            self._socket, self._buffer = self._open(), bytearray()
            self.send(requests)
            if (found := self._next()) is not None:
                return found
        raise StoreUnavailable("the server hangs up without an answer", where=f"127.0.0.1:{self._port}")

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=_PATIENCE)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def _next(self) -> tuple[int, bytes] | None:
        """Return the next answer; None: the server has closed."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._more():
                return None
        head = bytes(self._buffer[:end]).lower()
        status, field = int(head[9:12]), head.find(b"\r\ncontent-length:")
        length = int(head[field + 17 : end].partition(b"\r\n")[0]) if field >= 0 else 0
        whole = end + 4 + length
        while len(self._buffer) < whole:
            if not self._more():
                return None
        body = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        return status, body

    def _more(self) -> bool:
        try:
            data = self._socket.recv(1 << 18)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)
