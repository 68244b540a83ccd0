"""A stock inference server, as far as it matters to a thief: what vLLM, llama.cpp and OpenAI's first API tell anybody.

``python -m strongroom.attacks.stock_server`` reads one line of JSON (`Setup`) from standard input, prints its port, and
serves on loopback until its input ends. It is real HTTP in front of real logits; only the forward pass is a look-up.
Nothing is refused but a wrong key: that is the point.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import httptools
import msgspec
import numpy as np
import uvloop

from strongroom.attacks.stock_logits import Places

MODEL: Final = "stock"
KEY: Final = "sk-stock-on-loopback-only"
_MOST: Final = 4096  # tokens that one answer may have


class Setup(msgspec.Struct, frozen=True):
    """What is served, and a softening of the kind that does not help: rounding, or noise that is fresh each time."""

    folder: str
    decimals: int | None = None
    noise: float = 0.0  # standard deviation, nats


class _Message(msgspec.Struct):
    content: str = ""


class _Body(msgspec.Struct):
    """What of a body counts here; all else is let pass, as such servers do."""

    prompt: str = ""
    messages: list[_Message] = []
    input: str | list[str] = ""
    max_tokens: int = 16
    logprobs: bool | int | None = None
    top_logprobs: int = 0
    logit_bias: dict[int, float] = {}
    n_probs: int = 0
    echo: bool = False
    prompt_logprob_token_ids: list[int] = []


_decode = msgspec.json.Decoder(_Body, strict=False).decode
_encode = msgspec.json.Encoder().encode


class Stock:
    """What the server answers."""

    def __init__(self, setup: Setup) -> None:
        """Open the logits."""
        self._places = Places.at(Path(setup.folder))
        self._setup = setup
        self._noise = np.random.default_rng(1)

    def answer(self, path: bytes, raw: bytes) -> bytes | None:
        """Return the body of the answer; None: there is no such path."""
        if path == b"/v1/models":
            return _encode({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        make = {
            b"/v1/chat/completions": self._chat,
            b"/v1/completions": self._text,
            b"/completion": self._llama,
            b"/v1/embeddings": self._embeddings,
        }.get(path)
        return None if make is None else _encode(make(_decode(raw)))

    def _chat(self, body: _Body) -> object:
        text = body.messages[-1].content if body.messages else ""
        top = body.top_logprobs if body.logprobs else 0
        written = self._write(body, text, max(1, top))
        names = self._places.names
        content = [
            {
                "token": names[chosen[0][0]],
                "logprob": self._shown(chosen[0][1]),
                "top_logprobs": [{"token": names[token], "logprob": self._shown(value)} for token, value in chosen],
            }
            for chosen in written
        ]
        message = {"role": "assistant", "content": "".join(names[chosen[0][0]] for chosen in written)}
        logprobs = {"content": content} if body.logprobs else None
        return self._document({"message": message, "logprobs": logprobs}, len(written))

    def _text(self, body: _Body) -> object:
        names = self._places.names
        if body.echo:
            return self._echoed(body)
        written = self._write(body, body.prompt, max(1, int(body.logprobs or 0)))
        tops = [{names[token]: self._shown(value) for token, value in chosen} for chosen in written]
        tokens = [names[chosen[0][0]] for chosen in written]
        own = [self._shown(chosen[0][1]) for chosen in written]
        logprobs = {"tokens": tokens, "token_logprobs": own, "top_logprobs": tops}
        choice: dict[str, object] = {"text": "".join(tokens), "logprobs": None if body.logprobs is None else logprobs}
        if body.prompt_logprob_token_ids:
            ids = body.prompt_logprob_token_ids
            values = self._places.named(self._places.row(body.prompt), ids)
            told = {str(one): {"logprob": self._shown(value)} for one, value in zip(ids, values, strict=True)}
            choice["prompt_logprobs"] = [told]
        return self._document(choice, len(written))

    def _echoed(self, body: _Body) -> object:
        """Repeat the prompt with the log probability of its last word, which is a token."""
        before, _, last = body.prompt.rpartition(" ")
        token = self._places.names.index(last)
        value = self._places.named(self._places.row(before), (token,))[0]
        logprobs = {"tokens": [before, last], "token_logprobs": [None, self._shown(value)]}
        return self._document({"text": body.prompt, "logprobs": logprobs}, 0)

    def _llama(self, body: _Body) -> object:
        """llama.cpp's own route: `n_probs` up to the whole vocabulary."""
        row = self._places.row(body.prompt)
        if body.n_probs < len(self._places.names):
            chosen = self._places.likeliest(row, list(body.logit_bias.items()), max(1, body.n_probs))
        else:
            values: list[float] = self._places.whole(row).tolist()
            chosen = list(enumerate(values))
        probs = [{"id": token, "logprob": self._shown(value)} for token, value in chosen]
        return {"content": "", "tokens_predicted": 1, "completion_probabilities": [{"top_logprobs": probs}]}

    def _embeddings(self, body: _Body) -> object:
        """Give hidden states as they are: pooling `none`, not normalised."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        rows = [self._places.states[self._places.row(text)].tolist() for text in texts]
        data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
        tokens = sum(len(text.split()) for text in texts)
        return {"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}

    def _write(self, body: _Body, text: str, count: int) -> list[list[tuple[int, float]]]:
        bias = list(body.logit_bias.items())
        steps = range(max(1, min(body.max_tokens, _MOST)))
        return [self._places.likeliest(self._places.row(text, step), bias, count) for step in steps]

    def _document(self, choice: dict[str, object], tokens: int) -> object:
        usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
        whole = {"index": 0, "finish_reason": "length"} | choice
        return {"id": "stock", "object": "completion", "model": MODEL, "choices": [whole], "usage": usage}

    def _shown(self, value: float) -> float:
        if self._setup.noise:
            value += float(self._noise.normal(0.0, self._setup.noise))
        return value if self._setup.decimals is None else round(value, self._setup.decimals)


class _Connection(asyncio.Protocol):
    """One connection; requests are answered in the order in which they come."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""
        self._body = bytearray()
        self._may = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, without saying so

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        self._may = False
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._may = value == b"Bearer " + KEY.encode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if not self._may:
            self._send(b"401 Unauthorized", b'{"error":{"code":"invalid_api_key"}}')
            return
        try:
            said = self._stock.answer(self._path, bytes(self._body))
        except (msgspec.MsgspecError, IndexError, ValueError):
            self._send(b"400 Bad Request", b'{"error":{"code":"bad_request"}}')
            return
        self._send(b"200 OK", said) if said is not None else self._send(b"404 Not Found", b"{}")

    def _send(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        if self._transport is not None:
            self._transport.write(head + body)


@contextmanager
def serving(setup: Setup) -> Generator[tuple[int, int]]:
    """Run the server in a process of its own; give its port and its process id."""
    command = [sys.executable, "-m", "strongroom.attacks.stock_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own module
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - pipes were asked for
        process.stdin.write(msgspec.json.encode(setup) + b"\n")
        process.stdin.flush()
        try:
            yield json.loads(process.stdout.readline())["port"], process.pid
        finally:
            process.stdin.close()
            process.wait(10)


async def _serve(setup: Setup) -> None:
    loop, stock = asyncio.get_running_loop(), Stock(setup)
    server = await loop.create_server(lambda: _Connection(stock), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)  # noqa: T201 - how processes tell
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    uvloop.run(_serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=Setup)))
