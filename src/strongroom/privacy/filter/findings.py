"""A finding: where something stands that should not be trained on. It knows its kind, never its value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SECRET: Final = "secret"  # noqa: S105 - the name of a kind
PRIORITY: Final[Mapping[str, int]] = {
    SECRET: 100,
    "iban": 90,
    "card": 85,
    "national_id": 80,
    "wallet": 75,
    "email": 70,
    "phone": 60,
    "ip": 55,
    "mac": 54,
    "date_of_birth": 50,
    "address": 40,
    "name": 30,
}
"""The kinds that the built-in rules find. Of overlapping findings of one length the higher gives the kind."""
OTHER: Final = 60  # of kinds that a file of rules adds


@dataclass(frozen=True, slots=True)
class Finding:
    """Bytes `start` to `end` of a text's UTF-8 are of this kind."""

    start: int
    end: int
    kind: str
    rule: str


def resolve(found: Iterable[Finding]) -> list[Finding]:
    """Return findings that don't overlap: those that do become one, as long as all, of the longest one's kind.

    A secret stays one.
    So nothing that any rule found is left standing.
    """
    out = list[Finding]()
    longest = 0
    for one in sorted(found, key=lambda each: (each.start, -each.end)):
        if not out or one.start >= out[-1].end:
            out.append(one)
            longest = one.end - one.start
            continue
        last = out[-1]
        wins = _weight(one, one.end - one.start) > _weight(last, longest)
        longest = max(longest, one.end - one.start)
        winner = one if wins else last
        out[-1] = Finding(last.start, max(last.end, one.end), winner.kind, winner.rule)
    return out


def _weight(one: Finding, size: int) -> tuple[bool, int, int]:
    return one.kind == SECRET, size, PRIORITY.get(one.kind, OTHER)
