"""Links over a Unix socket: length-prefixed MessagePack, after each end has proved that it knows the secret.

The socket lies in a folder that only its owner may enter. The proof is HMAC-SHA-256 (RFC 2104) over both ends' fresh
nonces and the connecting end's role, so that neither a stranger who squats on the path nor a replay learns or opens
anything. Specified in docs/formats/link-1.md.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec

from strongroom.core.errors import StoreUnavailable
from strongroom.core.log import log
from strongroom.core.secrets import Secret
from strongroom.ports.links import Accept, End, Link, Listening, Receiver

_LENGTH: Final = struct.Struct(">I")
_MOST: Final = 16 << 20  # bytes of one message
_NONCE: Final = 32
_FIRST: Final = 4096  # bytes that an end may send before it has proved itself
_PATIENCE: Final = 5.0  # seconds for the handshake
_ENCODER: Final = msgspec.msgpack.Encoder()


class _Hello(msgspec.Struct, frozen=True):
    """The connecting end's first message."""

    role: str
    nonce: bytes


class _Proof(msgspec.Struct, frozen=True):
    """An end's proof, with its nonce where the other has not seen it yet."""

    proof: bytes
    nonce: bytes = b""


def _prove(secret: Secret, side: str, role: str, *, nonces: bytes) -> bytes:
    text = f"strongroom/link@1 {side} {role}\n".encode() + nonces
    return hmac.digest(secret.reveal(), text, "sha256")


class _Wire(asyncio.Protocol, ABC):
    """Cuts a byte stream into messages. Subclasses do the handshake, then hand over to a receiver."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._decode: Callable[[bytes], object] | None = None
        self._receiver: Receiver | None = None
        self._nonce = secrets.token_bytes(_NONCE)
        self._deadline: asyncio.TimerHandle | None = None

    # ── Link ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, message: msgspec.Struct) -> None:
        """Send a message, whole."""
        raw = _ENCODER.encode(message)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_LENGTH.pack(len(raw)) + raw)

    def close(self) -> None:
        """End the link."""
        if self._transport is not None:
            self._transport.close()

    # ── asyncio.Protocol ─────────────────────────────────────────────────────────────────────────────────────────────
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, without saying so
        self._deadline = asyncio.get_running_loop().call_later(_PATIENCE, self._refuse, "it was silent")

    def data_received(self, data: bytes) -> None:
        """Take bytes; pass on every whole message."""
        self._buffer += data
        start, most = 0, _FIRST if self._receiver is None else _MOST
        while len(self._buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, start)
            if size > most:
                return self._refuse("a message is too long")
            end = start + _LENGTH.size + size
            if len(self._buffer) < end:
                break
            raw = bytes(self._buffer[start + _LENGTH.size : end])
            start = end
            try:
                self._take(raw)
            except msgspec.MsgspecError:
                return self._refuse("a message does not parse")
        del self._buffer[:start]
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver."""
        del exc
        self._settle()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_lost()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _take(self, raw: bytes) -> None:
        if self._receiver is not None and self._decode is not None:
            self._receiver.on_message(self._decode(raw))
        else:
            self._greet(raw)

    @abstractmethod
    def _greet(self, raw: bytes) -> None:
        """Take a message of the handshake."""

    def _open(self, incoming: object, receiver: Receiver) -> None:
        self._settle()
        self._decode = msgspec.msgpack.Decoder(cast("type[object]", incoming)).decode
        self._receiver = receiver
        receiver.on_open(self)

    def _refuse(self, why: str) -> None:
        log.warning("link refused", reason=why)
        if self._transport is not None:
            self._transport.abort()

    def _settle(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Answering(_Wire):
    """The end that listens: hello in, own nonce and proof out, the other's proof in."""

    def __init__(self, secret: Secret, accept: Accept, wires: set[_Wire]) -> None:
        super().__init__(secret)
        self._accept = accept
        self._wires = wires
        self._hello: _Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wires.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wires.discard(self)
        super().connection_lost(exc)

    def _greet(self, raw: bytes) -> None:
        if self._hello is None:
            self._hello = msgspec.msgpack.decode(raw, type=_Hello)
            nonces = self._hello.nonce + self._nonce
            return self.send(_Proof(_prove(self._secret, "listener", self._hello.role, nonces=nonces), self._nonce))
        role, nonces = self._hello.role, self._nonce + self._hello.nonce
        proof = msgspec.msgpack.decode(raw, type=_Proof).proof
        known = hmac.compare_digest(proof, _prove(self._secret, "caller", role, nonces=nonces))
        taken = self._accept(role) if known else None
        if taken is None:
            return self._refuse("its proof or its role is wrong")
        self.send(_Proof(b""))  # welcome: only now may the caller count on being let in
        self._open(*taken)
        return None


class _Calling(_Wire):
    """The end that connects."""

    def __init__(self, end: End, receiver: Receiver) -> None:
        super().__init__(end.secret)
        self._end = end
        self._owner = receiver
        self._proved = False
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(_Hello(self._end.role, self._nonce))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(_lost(self._end.path))
        super().connection_lost(exc)

    def _greet(self, raw: bytes) -> None:
        theirs = msgspec.msgpack.decode(raw, type=_Proof)
        if self._proved:
            self.opened.set_result(None)
            return self._open(self._end.incoming, self._owner)
        wanted = _prove(self._secret, "listener", self._end.role, nonces=self._nonce + theirs.nonce)
        if len(theirs.nonce) != _NONCE or not hmac.compare_digest(theirs.proof, wanted):
            return self._refuse("the listener does not know the secret")
        self._proved = True
        return self.send(_Proof(_prove(self._secret, "caller", self._end.role, nonces=theirs.nonce + self._nonce)))


class _Listener:
    """A listening socket and the links that came in by it."""

    def __init__(self, server: asyncio.AbstractServer, wires: set[_Wire], path: Path) -> None:
        self._server = server
        self._wires = wires
        self._path = path

    def close(self) -> None:
        """Take no more, and end those that are open."""
        self._server.close()
        for wire in list(self._wires):
            wire.close()
        self._path.unlink(missing_ok=True)


async def listen(path: Path, secret: Secret, accept: Accept) -> Listening:
    """Listen at `path` (replaced if a dead process left it) for ends that know `secret`.

    Raises:
        StoreUnavailable: the socket can't be made.

    """
    wires: set[_Wire] = set()
    loop = asyncio.get_running_loop()
    try:
        _clear(path)
        server = await loop.create_unix_server(lambda: _Answering(secret, accept, wires), str(path))
    except OSError as error:
        raise StoreUnavailable(f"the socket can't be made ({error.strerror})", where=str(path)) from None
    return _Listener(server, wires, path)


async def connect(end: End, receiver: Receiver) -> Link:
    """Connect to whoever listens at `end`; return once both have proved themselves.

    Raises:
        StoreUnavailable: nobody listens there, or it does not know the secret.

    """
    loop = asyncio.get_running_loop()
    try:
        _, wire = await loop.create_unix_connection(lambda: _Calling(end, receiver), str(end.path))
    except OSError:
        raise _lost(end.path) from None
    try:
        await wire.opened
    except asyncio.CancelledError:
        wire.close()
        raise
    return wire


def _clear(path: Path) -> None:
    path.unlink(missing_ok=True)


def _lost(path: Path) -> StoreUnavailable:
    return StoreUnavailable("nobody answers there who knows the secret", where=str(path), remedy=_UP)


_UP: Final = "Start it with `strongroom up`."
