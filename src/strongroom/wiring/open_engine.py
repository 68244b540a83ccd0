"""Whether a foreign engine answers people who show no key, or by routes that go round the gateway.

What the gateway refuses is worth nothing if the engine behind it gives the same to whoever asks it directly. vLLM's key
guards a few prefixes of its paths, llama.cpp's has to be asked for, and both listen without one by default.
"""

from __future__ import annotations

import http.client
from typing import Final
from urllib.parse import urlsplit

import msgspec

_PATIENCE: Final = 10.0  # seconds; a server that takes longer than that to say no is at work on an answer
_OK: Final = range(200, 300)

_PROMPT: Final = {"prompt": "x", "max_tokens": 1, "n_predict": 1}
_CHAT: Final = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
_TEXT: Final = {"input": "x", "prompt": "x", "content": "x"}
_Body = dict[str, object]
# no list of models: llama.cpp shows its names to everybody, and they open nothing. Nothing here changes a server.
_ROUTES: Final[tuple[tuple[str, _Body | None], ...]] = (
    ("/v1/chat/completions", {**_CHAT}),
    ("/v1/completions", {**_PROMPT}),
    ("/v1/embeddings", {"input": "x"}),
    ("/v1/responses", {"input": "x", "max_output_tokens": 1}),
    ("/v1/messages", {**_CHAT}),
    ("/chat/completions", {**_CHAT}),
    ("/completions", {**_PROMPT}),
    ("/completion", {**_PROMPT}),
    ("/generate", {"inputs": "x", "text": "x", **_PROMPT}),
    ("/infill", {"input_prefix": "x", "input_suffix": "y", **_PROMPT}),
    ("/invocations", {**_CHAT}),
    ("/inference/v1/generate", {"token_ids": [1], "sampling_params": {"max_tokens": 1}}),
    ("/pooling", {"input": "x"}),
    ("/classify", {"input": "x"}),
    ("/score", {"text_1": "x", "text_2": "y"}),
    ("/rerank", {"query": "x", "documents": ["y"]}),
    ("/embedding", {**_TEXT}),
    ("/embeddings", {**_TEXT}),
    ("/tokenize", {**_TEXT}),
    ("/detokenize", {"tokens": [1]}),
    ("/apply-template", {**_CHAT}),
    ("/api/generate", {"stream": False, "options": {"num_predict": 1}, **_PROMPT}),
    ("/api/chat", {"stream": False, "options": {"num_predict": 1}, **_CHAT}),
    ("/props", None),
    ("/slots", None),
    ("/metrics", None),
    ("/server_info", None),
    ("/get_server_info", None),
    ("/tokenizer_info", None),
)


def open_routes(url: str, model: str) -> tuple[str, ...]:
    """Return the routes by which the server at `url` answers somebody without a key; `model` is one that it serves.

    Each is asked once for as little as can be: one token, one vector. A route that can't be reached is not open; one
    that is silent for ten seconds is taken to be.
    """
    return tuple(
        route for route, body in _ROUTES if _answers(url, route, None if body is None else {"model": model} | body)
    )


def _answers(url: str, route: str, body: _Body | None) -> bool:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    line = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    path = parts.path.rstrip("/").removesuffix("/v1") + route
    try:
        if body is None:
            line.request("GET", path)
        else:
            line.request("POST", path, body=msgspec.json.encode(body), headers={"Content-Type": "application/json"})
        return line.getresponse().status in _OK  # by its head: who breaks off in the middle has answered
    except TimeoutError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()
