"""A checkpoint's tokenizer, built from its files in memory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

from strongroom.core.errors import BadInput, MissingExtra
from strongroom.engines.foreign_config import Document, read_document
from strongroom.ports.weights import WeightSource

try:
    from tokenizers import Tokenizer
    from tokenizers.decoders import DecodeStream
    from transformers import PreTrainedTokenizerFast
except ModuleNotFoundError as missing:
    raise MissingExtra("a tokenizer needs transformers, not installed", where=str(missing.name)) from missing

_FILE, _SETTINGS, _TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # and a byte that is no character of its own


def _byte_letters() -> dict[str, int]:
    """Return the letters by which GPT-2's byte-level vocabularies write the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES: Final = _byte_letters()


_LETTERS = 6  # a token has fewer in most texts: enough of them to see at the first look that a text is too long
_SEAM = 128  # a text that is cut may have more tokens there: of a long word that the whole text has as one


class _Fast(Protocol):
    """The part of transformers' tokenizer that we use."""

    chat_template: str | None
    eos_token_id: int | None
    backend_tokenizer: Tokenizer

    def apply_chat_template(self, turns: list[dict[str, str]], **options: bool) -> list[int]:
        """Return the conversation as token ids."""
        ...


class Tokens:
    """Text to token ids and back; a conversation to text by the model's own template, in jinja's sandbox."""

    def __init__(self, source: WeightSource) -> None:
        """Read the tokenizer of a checkpoint.

        Raises:
            BadInput: it has none, or a broken one.
            UntrustedCode: its settings ask for code.

        """
        settings = read_document(source, _SETTINGS) or {}
        special = {name: token for name in _SPECIAL if (token := _content(settings.get(name)))}
        fast = PreTrainedTokenizerFast(
            tokenizer_object=_read_tokenizer(source),
            chat_template=_template(source, settings),
            clean_up_tokenization_spaces=False,
            **special,
        )
        self._fast = cast("_Fast", fast)
        self._raw = self._fast.backend_tokenizer
        self._letters = _is_byte_level(self._raw)  # whether the letters of its words stand for bytes

    def encode(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a text, or of a conversation (mappings of `role` and `content`) up to the model's turn.

        Raises:
            BadInput: the model has no chat template, or it doesn't take this conversation.

        """
        if isinstance(prompt, str):
            return self._read(prompt)
        if not self._fast.chat_template:
            raise BadInput("the model has no chat template: give a text", where=_SETTINGS)
        turns = [dict(turn) for turn in prompt]
        try:
            return self._fast.apply_chat_template(
                turns,
                add_generation_prompt=True,
                return_dict=False,
                sanitize_control_tokens=True,  # a turn's text can't end the turn and forge another
            )
        except Exception as error:  # noqa: BLE001 - a template is the model's own: it can raise anything
            raise BadInput(f"the chat template failed: {type(error).__name__}", where=_TEMPLATE) from None

    def is_beyond(self, text: str, most: int) -> bool:
        """Whether `text` has more than `most` tokens, found out without reading far beyond that many."""
        size = _LETTERS * most
        while size < len(text):
            if len(self._read(text[:size])) > most + _SEAM:
                return True
            size *= 2
        return False

    def _read(self, text: str) -> list[int]:
        """Return the ids of `text`. As a batch of one: only so do the other threads go on meanwhile."""
        return self._raw.encode_batch([text])[0].ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens left out."""
        return self._raw.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TokenStream:
        """Return a decoder for ids that come one at a time."""
        return TokenStream(self._raw)

    def spell(self, token: int) -> tuple[str, tuple[int, ...]]:
        """Return the text of one token, and its bytes: it can be part of a character, which its text can't show."""
        written = self._raw.id_to_token(token) or ""
        if (byte := _BYTE.fullmatch(written)) is not None:
            raw = bytes([int(byte[1], 16)])
        elif self._letters and all(letter in _BYTES for letter in written):
            raw = bytes(_BYTES[letter] for letter in written)
        else:
            raw = (written if self._letters else written.replace(_SPACE, " ")).encode()
        return raw.decode("utf-8", errors="replace"), tuple(raw)

    @property
    def end(self) -> int | None:
        """The id of the token that ends a text, if the tokenizer's settings name one."""
        return self._fast.eos_token_id


class TokenStream:
    """Text out of ids that come one at a time; a character is given out only when all its bytes are there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Decode what `tokenizer` encoded, a token at a time."""
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> str:
        """Return the text that `token` completes, which may be none."""
        return self._decoder.step(self._tokenizer, token) or ""


def _read_tokenizer(source: WeightSource) -> Tokenizer:
    """Return the tokenizer in ``tokenizer.json``."""
    if _FILE not in source.files():
        raise BadInput("the checkpoint has no tokenizer.json", where=_FILE)
    try:
        return Tokenizer.from_buffer(source.read_file(_FILE))
    except Exception as error:  # noqa: BLE001 - the tokenizers library raises plain Exception
        raise BadInput(f"the tokenizer does not parse: {type(error).__name__}", where=_FILE) from None


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Say whether the tokenizer's decoder is GPT-2's, alone or among others."""
    return "ByteLevel" in repr(tokenizer.decoder)


def _template(source: WeightSource, settings: Document) -> str | None:
    """Return the chat template: a file of its own, or else one in the settings; of several, the one named default."""
    if _TEMPLATE in source.files():
        return source.read_file(_TEMPLATE).decode("utf-8", errors="replace")
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = [cast("Document", one) for one in cast("list[object]", found) if isinstance(one, dict)]
        found = next((one.get("template") for one in named if one.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _content(token: object) -> str | None:
    """Return a special token's text, which settings give plainly or inside an object."""
    text = cast("Document", token).get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None
