"""The values that a model must never say, wherever they stand: what the window index keeps by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from strongroom.privacy.filter.findings import SECRET
from strongroom.privacy.filter.rules import rules

KINDS: Final = frozenset({SECRET, "card", "iban", "national_id", "wallet"})


def value_finder() -> Callable[[str], Iterable[str]]:
    """Return what yields the keys, tokens, and numbers of cards, accounts and people in a text.

    Raises:
        MissingExtra: hyperscan is not installed.

    """
    scanner = rules().scanner

    def values(text: str) -> Iterator[str]:
        raw = text.encode("utf-8", "replace")
        for one in scanner.find([raw]).get(0, ()):
            if one.kind in KINDS:
                yield raw[one.start : one.end].decode()

    return values
