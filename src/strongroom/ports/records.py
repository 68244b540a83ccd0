"""Small documents by kind and key: people, envelopes, requests, the registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Stored:
    """A document as stored: canonical JSON bytes and the version that the next write must name."""

    kind: str
    key: str
    version: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One write: put `document` (or delete, if None) where the stored version is `expect` (0: nothing there)."""

    kind: str
    key: str
    expect: int
    document: bytes | None


class Records(Protocol):
    """A durable store of small documents. Writes are atomic over all their changes, and durable on return."""

    def get(self, kind: str, key: str) -> Stored | None:
        """Return the document, or None."""
        ...

    def scan(self, kind: str, prefix: str = "") -> Sequence[Stored]:
        """Return the documents of `kind` whose key starts with `prefix`, by key."""
        ...

    def apply(self, changes: Sequence[Change]) -> None:
        """Make all `changes`, or none.

        Raises:
            Busy: a stored version is not the expected one: somebody wrote in between.
            StorageError: the store can't be written.

        """
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...
