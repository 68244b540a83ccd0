"""What the engine says → JSON and server-sent events in OpenAI's format. Pure: values in, bytes out.

A stream's events share everything but the text, so the frame is made once a stream and the text is put into it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from strongroom.ports.completions import TokenLogprob
from strongroom.serving.wire import Shape, Wanted
from strongroom.serving.wire_errors import Refusal, document

DONE: Final = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode
_LEAST: Final = -9999.0  # JSON has no -inf; OpenAI's own stand-in


class Totals(msgspec.Struct, frozen=True):
    """The tokens of a request."""

    prompt: int
    completion: int
    reasoning: int = 0  # of the completion's: thoughts, as far as they are told
    thought: str = ""  # what was thought, where it is shown apart from the answer


class Frames:
    """The bytes around an answer: one of these a request."""

    __slots__ = ("_after", "_chat", "_id", "_model", "_offset", "_start", "_tail", "_usage")

    def __init__(self, wanted: Wanted, *, request: str, created: int) -> None:
        """Prepare for an answer to `wanted`, whose id is made from the request's."""
        self._chat = wanted.shape == "chat"
        self._usage = wanted.include_usage
        self._id = ("chatcmpl-" if self._chat else "cmpl-") + request.removeprefix("req_")
        self._model = _encode(wanted.model)
        self._offset = 0  # characters written: legacy log probabilities name their place in the text
        kind = _OBJECTS[wanted.shape, wanted.stream]
        head = f'{{"id":"{self._id}","object":"{kind}","created":{created},"model":'.encode()
        self._start = head + self._model + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._usage else b"]}\n\n"
        self._after = b"null}" + self._tail

    # ── whole ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def whole(self, text: str, logprobs: Sequence[TokenLogprob] | None, *, finish: str, totals: Totals) -> bytes:
        """Return the whole answer as one JSON document."""
        said = b'"message":{"role":"assistant","content":%b,"refusal":null}' if self._chat else b'"text":%b'
        if self._chat and totals.thought:
            said = said[:-1] + b',"reasoning_content":' + _encode(totals.thought).replace(b"%", b"%%") + b"}"
        shown = b"null" if logprobs is None else self._logprobs(logprobs)
        choice = b'{"index":0,%b,"logprobs":%b,"finish_reason":"%b"}' % (said % _encode(text), shown, finish.encode())
        return self._start + choice + b'],"usage":' + usage(totals) + b"}"

    # ── in a stream ──────────────────────────────────────────────────────────────────────────────────────────────────
    def opening(self) -> bytes:
        """Return the event that a chat begins with: whose turn it is."""
        if not self._chat:
            return b""
        delta = b'{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":'
        return b"data: " + self._start + delta + self._after

    def piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> bytes:
        """Return the event for the next characters."""
        shown = self._logprobs(logprobs) if logprobs else b"null"
        said = b'{"index":0,"delta":{"content":%b},"logprobs":%b,"finish_reason":%b'
        form = said if self._chat else b'{"index":0,"text":%b,"logprobs":%b,"finish_reason":%b'
        return b"data: " + self._start + form % (_encode(text), shown, self._after)

    def thought(self, text: str) -> bytes:
        """Return the event for what the model thinks next; of the older form there is none."""
        if not self._chat:
            return b""
        said = b'{"index":0,"delta":{"reasoning_content":%b},"logprobs":null,"finish_reason":%b'
        return b"data: " + self._start + said % (_encode(text), self._after)

    def closing(self, finish: str, totals: Totals) -> bytes:
        """Return the last events: why it ended, the usage where it was asked for, and that this is all."""
        said = b'"delta":{}' if self._chat else b'"text":""'
        choice = b'{"index":0,%b,"logprobs":null,"finish_reason":"%b"}' % (said, finish.encode())
        last = b"data: " + self._start + choice + self._tail
        if self._usage:
            last += b"data: " + self._start + b'],"usage":' + usage(totals) + b"}\n\n"
        return last + DONE

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> bytes:
        if self._chat:
            return _encode({"content": [_chat_logprob(one) for one in logprobs], "refusal": None})
        offsets: list[int] = []
        for one in logprobs:
            offsets.append(self._offset)
            self._offset += len(one.token)
        return _encode(
            {
                "tokens": [one.token for one in logprobs],
                "token_logprobs": [_shown(one.logprob) for one in logprobs],
                "top_logprobs": [{token: _shown(value) for token, _, value in one.top} for one in logprobs],
                "text_offset": offsets,
            }
        )


def usage(totals: Totals) -> bytes:
    """Return the usage object."""
    more = b',"completion_tokens_details":{"reasoning_tokens":%d}' % totals.reasoning if totals.reasoning else b""
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d%b}' % (
        totals.prompt,
        totals.completion,
        totals.prompt + totals.completion,
        more,
    )


def failure(refusal: Refusal) -> bytes:
    """Return the event that a stream ends with when it goes wrong."""
    return b"data: " + document(refusal) + b"\n\n"


def model_list(models: Sequence[str], *, created: int) -> bytes:
    """Return the body of GET /v1/models."""
    return _encode({"object": "list", "data": [_model(one, created) for one in models]})


def model_card(model: str, *, created: int) -> bytes:
    """Return the body of GET /v1/models/{id}."""
    return _encode(_model(model, created))


def _model(model: str, created: int) -> dict[str, str | int]:
    return {"id": model, "object": "model", "created": created, "owned_by": "strongroom"}


def _chat_logprob(one: TokenLogprob) -> dict[str, object]:
    top = [{"token": token, "bytes": raw, "logprob": _shown(value)} for token, raw, value in one.top]
    return {"token": one.token, "bytes": one.bytes, "logprob": _shown(one.logprob), "top_logprobs": top}


def _shown(logprob: float) -> float:
    return max(logprob, _LEAST)


_OBJECTS: Final[dict[tuple[Shape, bool], str]] = {
    ("chat", False): "chat.completion",
    ("chat", True): "chat.completion.chunk",
    ("text", False): "text_completion",
    ("text", True): "text_completion",
}
