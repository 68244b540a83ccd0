"""What of a corpus is known by itself, wherever it turns up: secrets, and numbers of cards, accounts and people.

Email addresses and phone numbers are not: those that a text repeats are as a rule public ones, of an office or a shop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from strongroom.privacy.filter.rules import rules
from strongroom.privacy.windows.shard import FindValues

KINDS: Final = frozenset({"secret", "card", "iban", "national_id"})


def finder() -> FindValues:
    """Return what finds values: the filter's own rules.

    Raises:
        MissingExtra: hyperscan is not installed.

    """
    scanner = rules().scanner

    def find(texts: Sequence[bytes]) -> Iterable[tuple[int, bytes]]:
        for at, findings in scanner.find(texts).items():
            for one in findings:
                if one.kind in KINDS:
                    yield at, texts[at][one.start : one.end]

    return find
