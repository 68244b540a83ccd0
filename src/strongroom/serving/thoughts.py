"""What a model thinks before it answers, taken out of what it says: fields of their own, and tags in the text.

Reasoning is what copies are trained on. Which of it is shown is the tier's: left out, counted, or passed on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from strongroom.ports.completions import TokenLogprob

_NAMES: Final = ("think", "thinking", "thought", "reasoning")
_OPEN: Final = re.compile(rf"<(?:{'|'.join(_NAMES)})>", re.IGNORECASE | re.ASCII)
_CLOSE: Final = re.compile(rf"</(?:{'|'.join(_NAMES)})>", re.IGNORECASE | re.ASCII)
_OPENERS: Final = tuple(f"<{name}>" for name in _NAMES)
_CLOSERS: Final = tuple(f"</{name}>" for name in _NAMES)


class Thoughts:
    """Text that comes in pieces, without what stands between ``<think>`` and ``</think>``.

    Letters of either case, tags that are cut anywhere. What is never closed is thought to the end.
    """

    __slots__ = ("_held", "_trim", "inside", "tags")

    def __init__(self) -> None:
        """Begin outside."""
        self.inside = False
        self.tags = 0  # that were passed
        self._held = ""  # what may be the beginning of a tag
        self._trim = False  # a thought has just ended: the white space behind it goes with it

    @property
    def waiting(self) -> bool:
        """Whether something is held back, or a thought is under way."""
        return self.inside or bool(self._held)

    def feed(self, text: str) -> str:
        """Take the next characters; return those that may be shown now."""
        rest, out = self._held + text, ""
        while (tag := (_CLOSE if self.inside else _OPEN).search(rest)) is not None:
            out += self._shown(rest[: tag.start()])
            rest, self.inside, self._trim = rest[tag.end() :], not self.inside, True
            self.tags += 1
        at = _beginning(rest, _CLOSERS if self.inside else _OPENERS)
        out += self._shown(rest[:at])
        self._held = rest[at:]
        return out

    def _shown(self, text: str) -> str:
        if self.inside:
            return ""
        text = text.lstrip() if self._trim else text
        self._trim = self._trim and not text
        return text

    def end(self) -> str:
        """Return what was held back and is no tag after all."""
        held, self._held = self._held, ""
        return "" if self.inside else held


class ThoughtTokens:
    """The log probabilities of a text's tokens, without those of thoughts: they spell them out."""

    __slots__ = ("_out", "_pending", "_thoughts")

    def __init__(self) -> None:
        """Begin outside."""
        self._thoughts = Thoughts()
        self._pending: list[TokenLogprob] = []
        self._out = ""  # what of their text was shown

    def feed(self, tokens: Sequence[TokenLogprob]) -> list[TokenLogprob]:
        """Take the next tokens; return those that may be shown now. A token that holds a bit of a tag never is."""
        shown = list[TokenLogprob]()
        for one in tokens:
            self._pending.append(one)
            self._out += self._thoughts.feed(one.token)
            if self._thoughts.waiting and not self._thoughts.inside:
                continue
            spelled = "".join([each.token for each in self._pending])
            if not self._thoughts.inside and self._out in {spelled, spelled.lstrip()}:
                shown += self._pending
            self._pending, self._out = [], ""
        return shown

    def end(self) -> list[TokenLogprob]:
        """Return the tokens that were held back and are no tag after all."""
        return self._pending if self._thoughts.end() else []


def spelling(text: str, tokens: Sequence[TokenLogprob]) -> tuple[TokenLogprob, ...]:
    """Return the last of `tokens`, those that spell `text`; none where they don't end with it."""
    raw = text.encode("utf-8", "surrogatepass")
    at, left = len(tokens), len(raw)
    while at and left > 0:
        at -= 1
        left -= len(tokens[at].bytes)
    found = tuple(tokens[at:])
    return found if b"".join(bytes(one.bytes) for one in found) == raw else ()


def after_lone_end(text: str) -> str:
    """Return a whole text from behind a tag that ends a thought and has no beginning.

    Some templates open the thought themselves, so that the model only closes it.
    """
    tag = _CLOSE.search(text)
    return text if tag is None else text[tag.end() :].lstrip()


def _beginning(text: str, tags: tuple[str, ...]) -> int:
    """Return where a tag may begin that the end of `text` has cut; the text's length if none does."""
    at = text.rfind("<")
    if at < 0:
        return len(text)
    tail = text[at:].lower()
    return at if any(tag.startswith(tail) for tag in tags) else len(text)
