"""A customer of the tour: the official ``openai`` client, unchanged, in a process of its own.

``python -m strongroom.cli.tour_client`` reads one JSON request on standard input and prints what came back.
"""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from strongroom.core.errors import MissingExtra

try:
    from openai import APIStatusError, OpenAI
except ModuleNotFoundError as missing:
    install = "Install it with: pip install 'strongroom[demo]'"
    raise MissingExtra("the tour's customers need openai", where=str(missing.name), remedy=install) from missing


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to send: a streamed chat, with whatever else goes into the body."""

    base_url: str
    api_key: str
    model: str
    prompt: str
    max_tokens: int
    extra: dict[str, dict[str, int] | int | bool] = {}


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: a text and how it ended, or an error."""

    text: str = ""
    finish: str = ""
    tokens: int = 0
    status: int = 200
    code: str = ""


def main() -> None:
    """Ask once, print what came."""
    came = _ask(msgspec.json.decode(sys.stdin.buffer.read(), type=Ask))
    sys.stdout.buffer.write(msgspec.json.encode(came))


def _ask(ask: Ask) -> Came:
    client = OpenAI(base_url=ask.base_url, api_key=ask.api_key, max_retries=0, timeout=240)
    role: Literal["user"] = "user"
    try:
        stream = client.chat.completions.create(
            model=ask.model,
            messages=[{"role": role, "content": ask.prompt}],
            max_tokens=ask.max_tokens,
            temperature=1.0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=ask.extra,
        )
        text, finish, tokens = "", "", 0
        for chunk in stream:
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    except APIStatusError as error:
        return Came(status=error.status_code, code=str(error.code))
    return Came(text=text, finish=finish, tokens=tokens)


if __name__ == "__main__":
    main()
