"""A suspect, as whoever reads its file hands it to whoever compares it: its tensors, its tokens, how it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from strongroom.ports.marks import Tensors

Format = Literal["safetensors", "gguf", "torch", "memory"]


@dataclass(frozen=True, slots=True)
class Storage:
    """How a suspect is stored, as far as that says something of its making."""

    format: Format
    kinds: Mapping[str, str] = field(default_factory=dict[str, str])
    """How each tensor is stored, by its name: BF16, Q4_0 …"""
    missing: tuple[str, ...] = ()
    """Tensors that a header or an index names and that the file, cut off, does not hold."""
    scaling: float = 1.0
    """By how much a low-rank adapter's product counts: alpha / r, where its config says so."""


class Suspect(Tensors, Protocol):
    """The tensors of a file that turned up."""

    def tokens(self) -> Sequence[str] | None:
        """Return the strings of its vocabulary, by number, byte-level (``Ġthe``); None if the file doesn't say."""
        ...

    def storage(self) -> Storage:
        """Return how it is stored."""
        ...
