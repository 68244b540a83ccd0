"""The one pass over the text: hyperscan says where a rule's trigger fires, the rule what is there."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

import hyperscan

from strongroom.core.privacy_errors import BadRules
from strongroom.privacy.filter.builtin import Rule
from strongroom.privacy.filter.findings import Finding, resolve

_BETWEEN: Final = b"\n\x00\n"  # texts; most rules can't match across it
_CONTINUES, _CONTINUED = 0xC0, 0x80  # a byte of UTF-8 that begins no character: 10xxxxxx
Hit = tuple[int, int, int]  # trigger, first byte, end


class Scanner:
    """Rules, compiled into one database of triggers."""

    def __init__(self, rules: Sequence[Rule], disabled: frozenset[str] = frozenset()) -> None:
        """Compile them. Findings of the rules or kinds that are `disabled` are left out.

        Raises:
            BadRules: hyperscan takes one of them for no expression, or for too large.

        """
        self._rules = tuple(rules)
        self._disabled = disabled
        self._database = _compiled(self._rules)

    def find(self, texts: Sequence[bytes]) -> Mapping[int, list[Finding]]:
        """Return the findings of each text (UTF-8) that has some, in order; they don't overlap."""
        begins = [0, *accumulate(len(one) + len(_BETWEEN) for one in texts)]
        found: dict[int, list[Finding]] = {}
        again = set[int]()
        by_text = defaultdict[int, list[Hit]](list)
        for trigger, start, end in self._hits(_BETWEEN.join(texts)):
            number = bisect_right(begins, start) - 1
            if end > begins[number] + len(texts[number]):  # it reaches into another text: each is scanned by itself
                again.update(range(number, bisect_right(begins, end)))
            else:
                by_text[number].append((trigger, start - begins[number], end - begins[number]))
        for number in again:
            by_text[number] = self._hits(texts[number]) if number < len(texts) else []
        for number in sorted(by_text):
            findings = resolve(self._read(texts[number], _merged(by_text[number])))
            if findings:
                found[number] = findings
        return found

    def _hits(self, text: bytes) -> list[Hit]:
        hits = list[Hit]()

        def hit(trigger: int, start: int, end: int, _flags: int, _context: object) -> None:
            hits.append((trigger, start, end))

        self._database.scan(text, match_event_handler=hit)
        return hits

    def _read(self, text: bytes, hits: list[Hit]) -> Iterator[Finding]:
        """Yield what stands at the hits, which are in order; a value is read once, however many hits are about it."""
        last, after = -1, 0
        for trigger, start, end in hits:
            after = after if trigger == last else 0
            last = trigger
            for one in self._rules[trigger].read(text, start, end, after=after):
                after = max(after, one.end)
                if not self._disabled or _name(one) not in self._disabled:
                    yield _whole(text, one)


def _merged(hits: list[Hit]) -> list[Hit]:
    """Return the hits with those of one trigger that overlap made one: hyperscan tells every end of a match."""
    out = list[Hit]()
    for trigger, start, end in sorted(hits):
        if out and out[-1][0] == trigger and start <= out[-1][2]:
            out[-1] = (trigger, out[-1][1], max(out[-1][2], end))
        else:
            out.append((trigger, start, end))
    return out


def _whole(text: bytes, one: Finding) -> Finding:
    """Return the finding with all bytes of its first and last characters: a rule may stop at a number of bytes."""
    start, end = one.start, one.end
    while start and text[start] & _CONTINUES == _CONTINUED:
        start -= 1
    while end < len(text) and text[end] & _CONTINUES == _CONTINUED:
        end += 1
    return one if (start, end) == (one.start, one.end) else Finding(start, end, one.kind, one.rule)


def _name(one: Finding) -> str:
    return "national-id" if one.kind == "national_id" else one.rule


def _compiled(rules: Sequence[Rule]) -> hyperscan.Database:
    try:
        return _database(rules)
    except hyperscan.error:
        for one in rules:
            try:
                _database([one])
            except hyperscan.error as error:
                raise BadRules(f"the expression can't be compiled: {error}", where=one.name) from None
        raise BadRules("the expressions are too large together", where="rules") from None


def _database(rules: Sequence[Rule]) -> hyperscan.Database:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    utf8 = hyperscan.HS_FLAG_UTF8 | hyperscan.HS_FLAG_UCP
    database.compile(
        expressions=[one.trigger for one in rules],
        ids=list(range(len(rules))),
        elements=len(rules),
        flags=[hyperscan.HS_FLAG_SOM_LEFTMOST | (utf8 if one.utf8 else 0) for one in rules],
    )
    return database
