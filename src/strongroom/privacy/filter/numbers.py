"""Runs of digits: which stretch of one is a card, an account of a state, or a telephone number.

A run is cut into its groups of digits, and stretches of groups are judged, longest first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from strongroom.privacy.filter.checksums import card
from strongroom.privacy.filter.findings import Finding
from strongroom.privacy.filter.identities import SHAPES
from strongroom.privacy.filter.phones import Written, phone

_GAP: Final = rb"(?:[ .()/\-]|\xc2\xa0|\xe2\x80[\x90-\x95\xaf])"
TRIGGER: Final = rb"(?:[0-9]" + _GAP + rb"{0,3}){6}[0-9](?:\b|[xX]|\xc2|\xe2)"
"""Seven digits with little between them, up to the end of a group."""
_BEFORE: Final = 48  # bytes looked back for a cue
_AHEAD: Final = 128  # bytes: a number that begins before the trigger's end has ended by then
_RUN: Final = re.compile(rb"[0-9]+(?:" + _GAP + rb"{1,3}[0-9]+)*")
_EARLIER: Final = re.compile(rb"[0-9](?:[0-9]|" + _GAP + rb"{1,3}(?=[0-9]|\Z))*\Z")
_GROUP: Final = re.compile(rb"[0-9]+")
_EXTENSION: Final = re.compile(rb" ?(?:x|ext\.?|Durchwahl|poste) ?[0-9]{1,6}(?![0-9A-Za-z_])")
_OPENING: Final = re.compile(rb"(?:\(\+|\+|\(|\xef\xbc\x8b)\Z")
_LETTERS: Final = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_LEAST: Final = 6  # digits
_DIGITS: Final = b"0123456789"
_PLAIN: Final = re.compile("[\u2010-\u2015]")
_MOST_GROUPS: Final = 8
_LONGEST: Final = 19  # digits
_PHONE_CUE: Final = re.compile(
    r"\b(?:tel|t[eé]l[eé]ph\w*|tel[eé]f\w*|phone|mob|mobile?|mobil\w*|m[oó]vil\w*|cell|cellulare|celular|handy|fax|call|"
    r"dial|sms|gsm|whatsapp|reach|hotline|rufnummer|fon|puh|puhelin\w*|komórka|appel\w*|chiama\w*|llam\w*|kontakt\w*"
    r")\b|电话|電話|手机|手機|携帯|联系|전화|тел|моб|звон|τηλ|טל|फ़ोन|फोन",
    re.IGNORECASE,
)
_ID_CUE: Final = re.compile(
    r"\b(?:ssn|social security|social insurance|sin|national id\w*|identity (?:no|number|card)|"
    r"id (?:no|number|nr|card)|tax(?:payer)? (?:id|number|no)|tin|"
    r"insurance (?:no|number)|personnummer|bsn|sofi\w*|burgerservice\w*|cpf|pesel|nif|dni|nie|steuer\w*|"
    r"sozialversicherung\w*|rvnr|s[eé]curit[eé] sociale|nir|insee|oib|egn|amka|kimlik|cnp|citizen\w*|my number|nin|"
    r"nino|rut|curp|personal (?:no|number|code|id)|isikukood|henkil\w*|f[oø]dselsnummer|cpr)\b"
    r"|身份证|身分證|マイナンバー|주민|инн|снилс|ЕГН|\u0391\u039c\u039a\u0391|ת\.ז|आधार",
    re.IGNORECASE,
)


def read_numbers(text: bytes, start: int, end: int) -> Iterator[Finding]:
    """Yield the cards, ids and telephone numbers of the run that a trigger found from `start` to `end`."""
    earlier = _EARLIER.search(text, max(0, start - _BEFORE), start)
    start = earlier.start() if earlier else start
    far = min(len(text), end + _AHEAD)
    run = _RUN.match(text, start, far)
    groups = [one.span() for one in _GROUP.finditer(text, start, max(end, run.end() if run else end))]
    if groups and groups[0][0] > 0 and _word(text[groups[0][0] - 1]):
        groups = groups[1:]
    before = text[max(0, start - _BEFORE) : start].decode("utf-8", "ignore").rpartition("\n\n")[2]
    cues = _Cues(
        identity=_ID_CUE.search(before) is not None,
        phone=_PHONE_CUE.search(before) is not None,
        east=any("\u3000" < one < "\ua000" for one in before[-40:]),
    )
    first = 0
    while first < len(groups) and groups[first][0] < end:  # what begins behind it is another trigger's
        for last in range(min(len(groups), first + _MOST_GROUPS) - 1, first - 1, -1):
            found = _judged(text, groups[first : last + 1], cues)
            if found is not None:
                yield found
                first = last
                break
        first += 1


def _word(byte: int) -> bool:
    return byte in _LETTERS


@dataclass(frozen=True, slots=True)
class _Cues:
    """What stands before a run of digits: words that tell an identity or a telephone, and Chinese text."""

    identity: bool
    phone: bool
    east: bool


def _judged(text: bytes, groups: list[tuple[int, int]], cues: _Cues) -> Finding | None:
    """Return what these groups of digits are, as one number."""
    start, end = groups[0][0], groups[-1][1]
    size = sum(b - a for a, b in groups)
    if not max(_LEAST, 2 * len(groups) - 2) <= size <= _LONGEST or not _alone(text, start, end):
        return None
    written = _written(text, groups)
    digits, shape = "".join(written.groups), _shape(written)
    if "." not in shape and "/" not in shape and card(digits) and _grouped_as_card(written):
        return Finding(start, end, "card", "card")
    for identity in SHAPES.get(shape, ()):
        if (cues.identity or not identity.cued) and identity.valid(digits):
            return Finding(start, end, "national_id", identity.name)
    return _phone(text, written, end, cues=cues)


def _phone(text: bytes, written: Written, end: int, *, cues: _Cues) -> Finding | None:
    extension = _EXTENSION.match(text, end)
    if extension is None and end < len(text) and _word(text[end]):
        return None
    start = end - len(written.text.encode())
    if not phone(written, cue=cues.phone, east=cues.east):
        return None
    spaced = not written.gaps or any(" " in gap for gap in written.gaps)
    if spaced and not cues.phone and _in_a_row(text, start, end):
        return None
    return Finding(start, extension.end() if extension else end, "phone", "phone")


def _in_a_row(text: bytes, start: int, end: int) -> bool:
    """Say whether groups of digits go on before or behind it."""
    return bool(re.search(rb"[0-9] ?\Z", text[max(0, start - 2) : start]) or re.match(rb" ?[0-9]", text[end : end + 2]))


def _alone(text: bytes, start: int, end: int) -> bool:
    """Say whether nothing is joined to it: in 1.2.3-4 or ABC-123 no part is a number by itself."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (_word(before[-1]) or before[-1] in b"#\\"):
        return False
    if len(before) == 2 and before[1] in b".,:" and before[0] in _DIGITS:
        return False
    if len(before) == 2 and before[1] in b"-/+" and _word(before[0]):
        return False
    if after and _word(after[0]) and after[0] not in b"xXe":
        return False
    return not (len(after) == 2 and after[0] in b".,:-/+" and after[1] in _DIGITS)


def _written(text: bytes, groups: list[tuple[int, int]]) -> Written:
    start, end = groups[0][0], groups[-1][1]
    opening = _OPENING.search(text[max(0, start - 4) : start])
    return Written(
        (opening[0] if opening else b"").decode() + text[start:end].decode(),
        tuple(text[a:b].decode() for a, b in groups),
        tuple(text[a:b].decode() for (_, a), (b, _) in pairwise(groups)),
    )


def _shape(written: Written) -> str:
    """Return how it is grouped: ``3-2-4``."""
    gaps = [_PLAIN.sub("-", gap).strip() or " " for gap in written.gaps]
    return "".join(f"{gap}{len(group)}" for gap, group in zip(["", *gaps], written.groups, strict=True))


def _grouped_as_card(written: Written) -> bool:
    sizes = [len(one) for one in written.groups]
    return len(sizes) == 1 or (len(set(written.gaps)) == 1 and sizes[0] == 4 and len(sizes) <= 5)
