"""Embeddings in OpenAI's wire format, as a client of it sees them. No I/O."""

from __future__ import annotations

from array import array
from typing import Annotated, Final

import msgspec

from strongroom.core.errors import InputTooLarge
from strongroom.ports.completions import Answer, Embed, Embedded, Failed

_BODY_LIMIT: Final = 64 << 20  # bytes: 64 vectors of 8,192 numbers as text, four times over
_OK: Final = 200
_CODES: Final = {
    400: "bad_prompt",
    404: "unsupported",
    405: "unsupported",
    413: "prompt_too_long",
    422: "bad_prompt",
    429: "busy",
    501: "unsupported",
}
_MESSAGES: Final = {
    "bad_prompt": "the engine does not take these texts",
    "unsupported": "the engine makes no embeddings",
    "prompt_too_long": "the texts are too long",
    "busy": "the engine has too much to do",
    "unavailable": "the engine is not there",
    "failed": "the engine's answer can't be read",
}


class _Vector(msgspec.Struct, frozen=True):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0  # 0: not told


class _Document(msgspec.Struct, frozen=True):
    data: list[_Vector]
    usage: _Usage = _Usage()


_DECODE: Final = msgspec.json.Decoder(_Document).decode


class Vectors:
    """Reads one JSON document."""

    def __init__(self, embed: Embed, status: int) -> None:
        """Read the answer to `embed`, which came with `status`."""
        self._embed = embed
        self._status = status
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """Take the next bytes.

        Raises:
            InputTooLarge: they are more than there may be.

        """
        self._body += data
        if len(self._body) > _BODY_LIMIT:
            raise InputTooLarge("the answer is too long", where="upstream")
        return []

    def end(self) -> list[Answer]:
        """Return what the body says.

        Raises:
            msgspec.MsgspecError: it is not what was expected.

        """
        if self._status != _OK:
            return [self._failed(_CODES.get(self._status, "unavailable"))]
        document = _DECODE(self._body)
        found = {one.index: one.embedding for one in document.data}
        width = len(document.data[0].embedding) if document.data else 0
        ordered = [found.get(place, []) for place in range(len(self._embed.texts))]
        if not width or len(document.data) != len(ordered) or any(len(one) != width for one in ordered):
            return [self._failed("failed")]
        raw = b"".join(array("f", one).tobytes() for one in ordered)
        return [Embedded(id=self._embed.id, width=width, vectors=raw, prompt_tokens=document.usage.prompt_tokens)]

    def _failed(self, code: str) -> Failed:
        return Failed(id=self._embed.id, code=code, message=_MESSAGES[code])
