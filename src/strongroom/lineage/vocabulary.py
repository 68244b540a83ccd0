"""The strings of a vocabulary, by number, as byte-level tokenizers write them: so that families can be compared.

Byte-level BPE (GPT-2) writes each byte of a token as one printable character, a space as ``Ġ``; SentencePiece writes
text, a space as ``▁`` and odd bytes as ``<0x0A>``. What comes from strangers is a vocabulary or None, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from strongroom.core.canonical import Record

TOKENS_LIMIT: Final = 1 << 20
_PARTS_LIMIT: Final = 3 << 19  # members and lists in the JSON, merges too: the largest have half a million
_BYTE: Final = re.compile(r"^<0x([0-9A-F]{2})>$")
_PLAIN: Final = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))  # bytes that GPT-2 writes as themselves
_Number = Annotated[int, msgspec.Meta(ge=0, lt=TOKENS_LIMIT)]


class _Added(Record, frozen=True, forbid_unknown_fields=False):
    id: _Number
    content: str


class _Model(Record, frozen=True, forbid_unknown_fields=False):
    vocab: dict[str, _Number] | list[tuple[str, float]]


class _Tokenizer(Record, frozen=True, forbid_unknown_fields=False):
    model: _Model
    added_tokens: list[_Added] = msgspec.field(default_factory=list[_Added])


def tokens_of(document: bytes) -> Sequence[str] | None:
    """Return the tokens of a ``tokenizer.json`` (BPE, WordLevel, WordPiece or Unigram), "" for unused numbers."""
    if document.count(b":") > _PARTS_LIMIT or document.count(b"[") > _PARTS_LIMIT:
        return None
    try:
        read = msgspec.json.decode(document, type=_Tokenizer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    vocab = read.model.vocab
    numbers = (
        {n: token for token, n in vocab.items()} if isinstance(vocab, dict) else dict(enumerate(t for t, _ in vocab))
    )
    numbers |= {one.id: one.content for one in read.added_tokens}
    if not numbers or max(numbers) >= TOKENS_LIMIT:
        return None
    return byte_level([numbers.get(at, "") for at in range(max(numbers) + 1)])


def byte_level(tokens: Sequence[str]) -> tuple[str, ...]:
    """Return tokens as a byte-level tokenizer would write them; if they are so already, as they are."""
    pieces = sum(token.startswith("▁") for token in tokens)
    if pieces <= sum(token.startswith("Ġ") for token in tokens):
        return tuple(tokens)
    return tuple(_from_piece(token) for token in tokens)


def _from_piece(piece: str) -> str:
    """Return a SentencePiece token in byte-level letters."""
    if match := _BYTE.match(piece):
        return _LETTERS[int(match[1], 16)]
    return "".join(_LETTERS[byte] for byte in piece.replace("▁", " ").encode("utf-8", errors="replace"))


def _letters() -> tuple[str, ...]:
    """Return the letter of each byte: the odd ones are numbered from 256 on (github.com/openai/gpt-2, encoder.py)."""
    odd = [byte for byte in range(256) if byte not in _PLAIN]
    return tuple(chr(byte) if byte in _PLAIN else chr(256 + odd.index(byte)) for byte in range(256))


_LETTERS: Final = _letters()
