"""What of one answer is shown beside the text: log probabilities softened, thoughts as the tier says.

Made only for answers that have something of the kind.
"""

from __future__ import annotations

import math

from strongroom.ports.completions import Piece
from strongroom.serving.disclosure.tiers import Tier
from strongroom.serving.soften import Veil
from strongroom.serving.thoughts import Thoughts, ThoughtTokens, after_lone_end, spelling
from strongroom.serving.wire import Wanted


class Shown:
    """One answer on its way out."""

    __slots__ = ("_hidden", "_mode", "_spelled", "_thoughts", "_veil")

    def __init__(self, wanted: Wanted, tier: Tier, key: bytes) -> None:
        """Show what `tier` lets an answer to `wanted` show; `key` is the house's veil."""
        self._mode = tier.reasoning
        top = wanted.top_logprobs
        self._veil = None if top is None else Veil(key, tier, top=top, turns=wanted.turns, prompt=wanted.prompt)
        self._thoughts = Thoughts()
        self._spelled = ThoughtTokens()
        self._hidden = 0.0  # tokens of thoughts

    @property
    def waiting(self) -> bool:
        """Whether every further piece must come by here."""
        return self._thoughts.waiting

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of thoughts, as far as the tier tells them."""
        return 0 if self._mode == "removed" else math.ceil(self._hidden)

    def piece(self, piece: Piece) -> Piece:
        """Return what of a piece is shown."""
        logprobs = () if self._veil is None else self._veil.soften(piece.logprobs)
        if self._mode == "shown":
            self._hidden += piece.tokens if piece.reasoning and not piece.text else 0
            return Piece(id=piece.id, text=piece.text, tokens=0, logprobs=logprobs, reasoning=piece.reasoning)
        if piece.reasoning:  # some servers list the tokens of a thought with those of the text
            logprobs = spelling(piece.text, logprobs)
        tags, inside = self._thoughts.tags, self._thoughts.inside
        text = self._thoughts.feed(piece.text)
        if piece.reasoning or inside or self._thoughts.tags > tags:
            said = len(piece.text) + len(piece.reasoning)
            self._hidden += piece.tokens * max(0.0, 1 - len(text) / max(1, said))
        return Piece(id=piece.id, text=text, tokens=0, logprobs=tuple(self._spelled.feed(logprobs)))

    def end(self) -> Piece | None:
        """Return what was held back and is shown after all."""
        text, logprobs = self._thoughts.end(), tuple(self._spelled.end())
        return Piece(id="", text=text, tokens=0, logprobs=logprobs) if text else None

    def whole(self, text: str) -> str:
        """Return what of a whole text is shown, whose pieces were seen."""
        return text if self._mode == "shown" else after_lone_end(text)
