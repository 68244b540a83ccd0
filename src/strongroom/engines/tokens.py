"""A checkpoint's tokenizer, built from its files in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast

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

    def encode(self, prompt: str | Sequence[Mapping[str, str]]) -> list[int]:
        """Return the ids of a text, or of a conversation (mappings of `role` and `content`) up to the model's turn.

        Raises:
            BadInput: the model has no chat template, or it doesn't take this conversation.

        """
        if isinstance(prompt, str):
            return self._raw.encode(prompt).ids
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

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, special tokens left out."""
        return self._raw.decode(list(ids), skip_special_tokens=True)

    def stream(self) -> TokenStream:
        """Return a decoder for ids that come one at a time."""
        return TokenStream(self._raw)

    @property
    def end(self) -> int | None:
        """The id of the token that ends a text, if the tokenizer's settings name one."""
        return self._fast.eos_token_id


class TokenStream:
    """Text out of ids that come one at a time; a character is given out only when all its bytes are there."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Decode what `tokenizer` encoded, a token at a time."""
        """Start at the beginning of a text."""
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
