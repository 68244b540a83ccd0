"""The thief's side of a gateway that streams: what came through, and how it ended."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from strongroom.attacks.recite_server import MODEL
from strongroom.core.errors import StoreUnavailable

_PATIENCE: Final = 60.0  # seconds
_TOKENS: Final = 2048  # of an answer
_OK: Final = 200
_NOT_YET: Final = frozenset({"recall_unavailable", "engine_unavailable", "control_unavailable"})
_LOOKS: Final = 200
_PAUSE: Final = 0.05  # seconds between two
_LOCKED: Final = "recall_limit_exceeded"
_WHOLE: Final = frozenset({"stop", "length"})
_HELD_BACK: Final = frozenset({"content_filter", "recall_withheld", _LOCKED})

Turns = Sequence[tuple[str, str]]  # role and content


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Error(msgspec.Struct):
    code: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


_decode: Final = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True)
class Heard:
    """What came through, and how it ended."""

    text: str
    finish: str  # stop, length, content_filter or an error's code

    @property
    def locked(self) -> bool:
        """Whether the account is shut out for the day."""
        return self.finish == _LOCKED

    @property
    def told(self) -> bool:
        """Whether the gateway says that something was held back."""
        return self.finish in _HELD_BACK


class Door:
    """A gateway on loopback, asked by the holder of one key, one request after the other."""

    def __init__(self, port: int, key: str) -> None:
        """Knock at `port`."""
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        self._fields: Mapping[str, str] = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def ask(self, said: str | Turns, heat: float = 1.0) -> Heard:
        """Ask for an answer to a prompt or a conversation, streamed.

        Raises:
            StoreUnavailable: the gateway is not ready, again and again, or does not answer, or fails: what did not come
                out because of that, no guard has stopped.

        """
        turns = None if isinstance(said, str) else [{"role": role, "content": text} for role, text in said]
        asked = {"prompt": said} if turns is None else {"messages": turns}
        path = "/v1/completions" if turns is None else "/v1/chat/completions"
        body = json.dumps({"model": MODEL, **asked, "stream": True, "temperature": heat, "max_tokens": _TOKENS})
        for _ in range(_LOOKS):
            heard = self._posted(path, body)
            if heard.finish in _WHOLE | _HELD_BACK:
                return heard
            if heard.finish not in _NOT_YET:
                raise StoreUnavailable(f"the gateway fails: {heard.finish}", where="gateway")
            time.sleep(_PAUSE)
        raise StoreUnavailable("the gateway does not serve", where="gateway")

    def close(self) -> None:
        """Leave."""
        self._line.close()

    def _posted(self, path: str, body: str) -> Heard:
        try:
            try:
                answer = self._sent(path, body)
            except http.client.RemoteDisconnected:  # a gateway may hang up after an answer that it cut
                self._line.close()
                answer = self._sent(path, body)
            raw = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._line.close()
            raise StoreUnavailable(f"no answer: {type(error).__name__}", where="gateway") from None
        if answer.status != _OK:
            error = _decode(raw).error
            return Heard("", (error and error.code) or str(answer.status))
        return _heard(raw)

    def _sent(self, path: str, body: str) -> http.client.HTTPResponse:
        self._line.request("POST", path, body.encode(), dict(self._fields))
        return self._line.getresponse()


def _heard(raw: bytes) -> Heard:
    """Read a stream of events."""
    text, finish = list[str](), "cut"
    for line in raw.split(b"\n\n"):
        if not line.startswith(b"data: {"):
            continue
        event = _decode(line[6:])
        if event.error is not None:
            finish = event.error.code or "error"
        for choice in event.choices:
            text.append((choice.delta.content if choice.delta else choice.text) or "")
            finish = choice.finish_reason or finish
    return Heard("".join(text), finish)
