"""A model that writes: what is asked of it, what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from strongroom.core.errors import BadInput

Prompt = str | Sequence[Mapping[str, str]]
OnText = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How many tokens, and how they are chosen. Temperature 0 is greedy; without a seed every run differs."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse values without a meaning.

        Raises:
            BadInput: one is out of its range.

        """
        ranges = {
            "max_new_tokens": self.max_new_tokens >= 1,
            "temperature": 0 <= self.temperature < float("inf"),
            "top_p": 0 < self.top_p <= 1,
            "top_k": self.top_k >= 0,
            "seed": self.seed is None or 0 <= self.seed < 2**63,
        }
        for name, fits in ranges.items():
            if not fits:
                raise BadInput("out of range", where=name)


@dataclass(frozen=True, slots=True)
class Generation:
    """What the model wrote, how many tokens went in and came out, and why it ended."""

    text: str
    prompt_tokens: int
    new_tokens: int
    finish: Literal["stop", "length"]


class Engine(Protocol):
    """A loaded model."""

    def generate(
        self, prompt: Prompt, *, sampling: Sampling | None = None, on_text: OnText | None = None
    ) -> Generation:
        """Continue a text, or answer a conversation (mappings of `role` and `content`); `on_text` gets it as it comes.

        Raises:
            BadInput: the prompt is empty, or the model takes no conversations.
            InputTooLarge: the prompt leaves no room in the model's context.

        """
        ...
