"""Numbers that states give people: how each is written, and what its check digits are.

`SHAPES` goes from how the digits are grouped ("3-2-4": three digits, a hyphen, two …; " " and "." likewise) to the
numbers written so. Those whose digits prove little (one in ten random numbers would pass) count only behind a cue,
such as "BSN:".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.privacy.filter.checksums import luhn, mod11_10, verhoeff, weighted

_MONTH: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FEW: Final = 2  # different digits: 111111111 and the like are nobody's
_TEN: Final = 10  # a rest that is no digit
_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU: Final = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_CF_ODD: Final = dict(
    zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23), strict=True)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """A kind of number: its shapes, the check of its digits, and whether it needs a cue before it."""

    name: str
    shapes: str
    valid: Callable[[str], bool]
    cued: bool = False


def _varied(digits: str) -> bool:
    return len(set(digits)) > _FEW


def _date(month: str, day: str) -> bool:
    return 1 <= int(month) < len(_MONTH) and 1 <= int(day) <= _MONTH[int(month)]


def _us(d: str) -> bool:
    shown = d in {"123456789", "078051120", "111223333"}  # everybody's examples
    return not shown and d[:3] not in {"000", "666"} and d[3:5] != "00" and d[5:] != "0000"


def _fr(d: str) -> bool:
    return d[0] in "123478" and int(d[3:5]) not in {0, *range(13, 20)} and 97 - int(d[:13]) % 97 == int(d[13:])


def _nl(d: str) -> bool:
    return _varied(d) and weighted(d, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _pl(d: str) -> bool:
    return _date(f"{int(d[2:4]) % 20:02}", d[4:6]) and weighted(d, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def _br(d: str) -> bool:
    first, second = weighted(d[:9], range(10, 1, -1)) * 10 % 11 % 10, weighted(d[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(d)) > 1 and d[9:] == f"{first}{second}"


def _se(d: str) -> bool:
    short = d[-10:]
    return _date(short[2:4], f"{int(short[4:6]) % 60:02}") and luhn(short)


def _no(d: str) -> bool:
    return (
        _date(f"{int(d[2:4]) % 40:02}", f"{int(d[:2]) % 40:02}")
        and weighted(d, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11 == 0
        and weighted(d, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0
    )


def _dk(d: str) -> bool:
    return _date(d[2:4], f"{int(d[:2]) % 60:02}")


def _cz(d: str) -> bool:
    month = int(d[2:4]) % 50 % 20
    return _date(f"{month:02}", d[4:6]) and int(d) % 11 == 0


def _cn(d: str) -> bool:
    born = d[6:10] > "1900" and _date(d[10:12], d[12:14])
    return born and "10X98765432"[weighted(d, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11] == d[17]


def _jp(d: str) -> bool:
    rest = weighted(d, (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return int(d[11]) == (0 if rest <= 1 else 11 - rest)


def _kr(d: str) -> bool:
    return d[6] in "12345678" and _date(d[2:4], d[4:6])


def _in(d: str) -> bool:
    return d[0] > "1" and verhoeff(d)


def _ch(d: str) -> bool:
    return d[:3] == "756" and weighted(d, (1, 3) * 6 + (1,)) % 10 == 0


def _at(d: str) -> bool:
    return weighted(d, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(d[3]) and _date(d[6:8], d[4:6])


def _ro(d: str) -> bool:
    rest = weighted(d[:12], (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return d[0] > "0" and _date(d[3:5], d[5:7]) and int(d[12]) == (1 if rest == _TEN else rest)


def _ee(d: str) -> bool:
    rest = weighted(d[:10], (1, 2, 3, 4, 5, 6, 7, 8, 9, 1)) % 11
    if rest == _TEN:
        rest = weighted(d[:10], (3, 4, 5, 6, 7, 8, 9, 1, 2, 3)) % 11 % 10
    return d[0] in "123456" and _date(d[3:5], d[5:7]) and int(d[10]) == rest


def _bg(d: str) -> bool:
    return _date(f"{int(d[2:4]) % 20:02}", d[4:6]) and weighted(d, (2, 4, 8, 5, 10, 9, 7, 3, 6)) % 11 % 10 == int(d[9])


def _hu(d: str) -> bool:
    born = "0" < d[0] < "9" and _date(d[3:5], d[5:7])
    return born and int(d[10]) in {weighted(d, range(10, 0, -1)) % 11, weighted(d, range(1, 11)) % 11}


def _gr(d: str) -> bool:
    return _date(d[2:4], d[:2]) and luhn(d)


def _tr(d: str) -> bool:
    tenth = (sum(map(int, d[0:9:2])) * 7 - sum(map(int, d[1:8:2]))) % 10
    return d[0] > "0" and int(d[9]) == tenth and sum(map(int, d[:10])) % 10 == int(d[10])


def _ru12(d: str) -> bool:
    first = weighted(d, (7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10
    return d[:2] != "00" and d[10:] == f"{first}{weighted(d, (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8)) % 11 % 10}"


def _ru11(d: str) -> bool:
    return weighted(d, range(9, 0, -1)) % 101 % 100 == int(d[9:])


def _be(d: str) -> bool:
    return int(d[9:]) in {97 - int(d[:9]) % 97, 97 - int(f"2{d[:9]}") % 97}


def _za(d: str) -> bool:
    return _date(d[2:4], d[4:6]) and luhn(d)


def _il(d: str) -> bool:
    return luhn(d) and _varied(d)


def _any(d: str) -> bool:
    return _varied(d)


KNOWN: Final = (
    Identity("us-ssn", "3-2-4", _us),
    Identity("us-ssn", "9 3 2 4", _us, cued=True),
    Identity("fr-nir", "15|1 2 2 2 3 3 2|13 2", _fr),
    Identity("nl-bsn", "9|4.2.3", _nl, cued=True),
    Identity("pl-pesel", "11", _pl),
    Identity("br-cpf", "11|3.3.3-2", _br),
    Identity("se-personnummer", "6-4|8-4|12", _se),
    Identity("no-fodselsnummer", "11|6 5", _no),
    Identity("dk-cpr", "6-4", _dk),
    Identity("cz-rodne-cislo", "6/4", _cz),
    Identity("cn-id", "18", _cn),
    Identity("jp-my-number", "12|4 4 4|4-4-4", _jp, cued=True),
    Identity("kr-rrn", "6-7", _kr),
    Identity("in-aadhaar", "4 4 4|12", _in),
    Identity("ca-sin", "3 3 3|3-3-3", luhn),
    Identity("ch-ahv", "3.4.4.2|13", _ch),
    Identity("at-svnr", "10|4 6", _at),
    Identity("ro-cnp", "13", _ro),
    Identity("ee-lt-code", "11", _ee),
    Identity("bg-egn", "10", _bg, cued=True),
    Identity("gr-amka", "11", _gr),
    Identity("hu-szemelyi", "11|1 6 4|1-6-4", _hu),
    Identity("tr-kimlik", "11", _tr),
    Identity("hr-oib", "11", mod11_10, cued=True),
    Identity("ru-inn", "12", _ru12),
    Identity("ru-snils", "3-3-3 2|11", _ru11),
    Identity("be-nrn", "2.2.2-3.2|11", _be),
    Identity("za-id", "13", _za),
    Identity("il-id", "9", _il, cued=True),
    Identity("other", "8|9|10|11|12|13|3 3 3|2 3 3 3|2 3 3|3 2 4|2-6-1|3-3-3|4-4-4|4 4 4", _any, cued=True),
)  # fmt: skip


def _by_shape() -> Mapping[str, tuple[Identity, ...]]:
    table = defaultdict[str, list[Identity]](list)
    for one in KNOWN:
        for shape in one.shapes.split("|"):
            table[shape].append(one)
    return {shape: tuple(sorted(ones, key=lambda each: each.cued)) for shape, ones in table.items()}


SHAPES: Final = _by_shape()


def finnish(text: str) -> bool:
    """Say whether this is a Finnish henkilötunnus: date, sign of the century, number, letter."""
    return _date(text[2:4], text[:2]) and _HETU[int(text[:6] + text[7:10]) % 31] == text[10]


def italian(text: str) -> bool:
    """Say whether this is an Italian codice fiscale: its last letter fits."""
    total = sum(_CF_ODD[one] for one in text[0:15:2]) + sum(
        int(one, 36) - (10 if one > "9" else 0) for one in text[1:14:2]
    )
    return chr(ord("A") + total % 26) == text[15]


def spanish(text: str) -> bool:
    """Say whether this is a Spanish DNI or NIE: its letter fits."""
    digits = "".join(one for one in text[:-1] if one.isalnum()).translate(str.maketrans("XYZ", "012"))
    return _DNI[int(digits) % 23] == text[-1]


def taiwanese(text: str) -> bool:
    """Say whether this is a Taiwanese id: a letter and nine digits."""
    first = 10 + "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0])
    return weighted(f"{first}{text[1:]}", (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)) % 10 == 0


def mexican(text: str) -> bool:
    """Say whether this is a Mexican CURP: its last digit fits."""
    letters = "0123456789ABCDEFGHIJKLMNÑOPQRSTUVWXYZ"
    total = sum(letters.index(one) * (18 - place) for place, one in enumerate(text[:17]))
    return str((10 - total % 10) % 10) == text[17]


def chilean(text: str) -> bool:
    """Say whether this is a Chilean RUT: its last sign fits."""
    digits, _, sign = text.replace(".", "").upper().partition("-")
    rest = 11 - weighted(digits[::-1], (2, 3, 4, 5, 6, 7, 2, 3)) % 11
    return {11: "0", 10: "K"}.get(rest, str(rest)) == sign
