"""A text as token ids, by a ``tokenizer.json`` alone: for detection, which needs neither torch nor transformers."""

from __future__ import annotations

from strongroom.core.errors import BadInput, MissingExtra

try:
    from tokenizers import Tokenizer
except ModuleNotFoundError as missing:
    raise MissingExtra("reading a text needs tokenizers, not installed", where=str(missing.name)) from missing


class TextIds:
    """The tokenizer in a ``tokenizer.json``."""

    def __init__(self, raw: bytes) -> None:
        """Read it.

        Raises:
            BadInput: it does not parse.

        """
        try:
            self._tokenizer = Tokenizer.from_buffer(raw)
        except Exception as error:  # noqa: BLE001 - the tokenizers library raises plain Exception
            raise BadInput(f"the tokenizer does not parse: {type(error).__name__}", where="tokenizer.json") from None

    def __call__(self, text: str) -> list[int]:
        """Return the ids of `text`, without the special tokens that would begin or end an answer."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
