"""What `serving prove-limits` sends to a gateway, and what it makes of the answers. Real HTTP, one connection each."""

from __future__ import annotations

import http.client
from typing import Final

import msgspec

_SECONDS: Final = 20.0


class Came(msgspec.Struct, frozen=True):
    """An answer, or as much of it as counts."""

    status: int
    code: str = ""
    message: str = ""
    param: str | None = None
    finish: str = ""
    prompt: int = 0  # tokens
    answer: int = 0  # tokens
    done: bool = False


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""
    param: str | None = None


class _Problem(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


def send(port: int, key: str, route: tuple[str, str], *, body: object = None) -> Came:
    """Send a request to a route, method and path; return what came."""
    method, target = route
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    try:
        line.request(method, target, *_content(key, body))
        answer = line.getresponse()
        return _read(answer.status, answer.read())
    except (OSError, http.client.HTTPException):
        return Came(0)
    finally:
        line.close()


def hold_open(port: int, key: str, target: str, *, body: object) -> http.client.HTTPConnection:
    """Send a request whose answer never comes; it is open until the connection is closed."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    line.request("POST", target, *_content(key, body))
    return line


def _content(key: str, body: object) -> tuple[bytes | None, dict[str, str]]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if body is None:
        return None, headers
    return msgspec.json.encode(body), headers | {"Content-Type": "application/json"}


def _read(status: int, raw: bytes) -> Came:
    if status != http.HTTPStatus.OK:
        try:
            error = msgspec.json.decode(raw, type=_Problem).error
        except msgspec.MsgspecError:
            error = _Error()
        return Came(status, error.code, error.message, error.param)
    finish, used = "", _Usage()
    for line in raw.splitlines():
        if line.startswith(b"data: {"):
            event = msgspec.json.decode(line[6:], type=_Event)
            finish = next((one.finish_reason for one in event.choices if one.finish_reason), finish)
            used = event.usage or used
    done = raw.rstrip().endswith(b"data: [DONE]")
    return Came(status, finish=finish, prompt=used.prompt_tokens, answer=used.completion_tokens, done=done)
