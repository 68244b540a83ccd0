"""An engine that says what it was given to say: real samples of a real model, or what a willing model would write.

Samples are drawn once by the model itself and said again here, so that every guard is tried on the very same answers.
OpenAI's format over HTTP on loopback, streamed a word at a time as engines stream. Asked the same again, it gives the
next sample, as a model would that is asked once more.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

MODEL: Final = "reciter"
KEY: Final = "sk-reciter-on-loopback-only"
Samples = Mapping[tuple[str, float], Sequence[str]]  # by prompt and temperature

_PIECE: Final = re.compile(r"\s*\S{1,12}|\s+$")
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n"
_NOTHING: Final = "I have nothing to say to that."


class _Message(msgspec.Struct):
    content: str = ""


class _Body(msgspec.Struct):
    """What of a body counts here."""

    prompt: str | None = None
    messages: list[_Message] = []
    temperature: float = 1.0
    stream: bool = False


class Says:
    """What is said to which prompt."""

    def __init__(self, samples: Samples) -> None:
        """Begin with the first sample of each."""
        self._samples = samples
        self._asked: dict[tuple[str, float], int] = {}
        self._heats: dict[str, list[float]] = {}
        for prompt, heat in samples:
            self._heats.setdefault(prompt, []).append(heat)

    def next(self, prompt: str, heat: float) -> str:
        """Return the next sample: at that temperature, or at the nearest one that there is."""
        heats = self._heats.get(prompt)
        if not heats:
            return _NOTHING
        at = (prompt, min(heats, key=lambda one: abs(one - heat)))
        count = self._asked.get(at, 0)
        self._asked[at] = count + 1
        return self._samples[at][count % len(self._samples[at])]


class _Server:
    def __init__(self, says: Says) -> None:
        self._says = says

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                found = re.search(rb"(?i)content-length: *(\d+)", head)
                raw = await reader.readexactly(int(found.group(1))) if found else b""
                writer.writelines(self._answer(head.split(b" ", 2)[1], raw))
                await writer.drain()
        writer.close()

    def _answer(self, path: bytes, raw: bytes) -> list[bytes]:
        if path == b"/v1/models":
            return _whole({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        body = msgspec.json.decode(raw, type=_Body, strict=False)
        chat = body.prompt is None
        prompt = body.messages[-1].content if chat and body.messages else body.prompt or ""
        said = self._says.next(prompt, body.temperature)
        return _streamed(said, chat=chat) if body.stream else _whole(_document(said, chat=chat))


def _document(said: str, *, chat: bool) -> dict[str, object]:
    shown = {"message": {"role": "assistant", "content": said}} if chat else {"text": said}
    usage = {"prompt_tokens": 8, "completion_tokens": len(_PIECE.findall(said))}
    return {"choices": [shown | {"index": 0, "finish_reason": "stop"}], "usage": usage}


def _whole(document: dict[str, object]) -> list[bytes]:
    raw = json.dumps(document).encode()
    return [_HEAD % (b"application/json", b"Content-Length: %d\r\n" % len(raw)), raw]


def _streamed(said: str, *, chat: bool) -> list[bytes]:
    """Return a stream of events, each in a chunk of its own."""
    pieces: list[str] = _PIECE.findall(said)
    events: list[dict[str, object]] = [
        {"choices": [{"index": 0, **({"delta": {"content": one}} if chat else {"text": one})}]} for one in pieces
    ]
    last: dict[str, object] = {"delta": {}} if chat else {"text": ""}
    events.append({"choices": [{"index": 0, "finish_reason": "stop", **last}]})
    events.append({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": len(pieces)}})
    lines = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in events] + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%b\r\n" % (len(line), line) for line in lines]
    return [_HEAD % (b"text/event-stream", b"Transfer-Encoding: chunked\r\n"), *chunks, b"0\r\n\r\n"]


@contextmanager
def saying(samples: Samples) -> Generator[int]:
    """Run the engine in a thread; give its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = _Server(Says(samples))
    opening = asyncio.start_server(server.on_connection, "127.0.0.1", 0)
    listening = asyncio.run_coroutine_threadsafe(opening, loop).result(10)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_shut(listening), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _shut(listening: asyncio.Server) -> None:
    """Close, with every connection that is open."""
    listening.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
